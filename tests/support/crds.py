"""Strict offline validation of custom resources, as the API server would do it.

Two parts: the structural schema with unknown fields refused (like `kubectl --validate=strict`), and
the CRD's own `x-kubernetes-validations` through a real CEL engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml
from jsonschema import Draft7Validator

CRD_DIR = Path(__file__).resolve().parents[3] / "shared/crds"
_CACHE = Path("~/.cache/isthmus/crds").expanduser()
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_DROPPED = ("x-kubernetes-validations", "description", "default", "example")

Schema = dict[str, Any]


class Crds:
    """The schemas of every custom resource definition in a directory."""

    def __init__(self, schemas: dict[tuple[str, str], Schema]) -> None:
        self.schemas = schemas
        self._validators: dict[tuple[str, str], Draft7Validator] = {}

    def errors(self, document: dict[str, Any]) -> list[str]:
        """Return what the API server would refuse in one object.

        Raises:
            KeyError: no definition of the object's kind is known.
        """
        key = (document["apiVersion"], document["kind"])
        if key not in self._validators:
            self._validators[key] = Draft7Validator(_root(self.schemas[key]))
        found = [
            f"{'.'.join(map(str, e.absolute_path)) or '.'}: {e.message[:160]}"
            for e in self._validators[key].iter_errors(document)
        ]
        return found + list(
            _cel_errors(self.schemas[key], _defaulted(self.schemas[key], document), "")
        )


def load() -> Crds:
    """Return the shared definitions, or skip the test where the folder is absent."""
    if not CRD_DIR.is_dir():
        pytest.skip("../shared/crds is absent: custom resources are not validated here")
    schemas: dict[tuple[str, str], Schema] = {}
    for path in sorted(CRD_DIR.glob("*.yaml")):
        for group, version, kind, schema in _read(path):
            schemas[f"{group}/{version}", kind] = schema
    return Crds(schemas)


def _read(path: Path) -> list[tuple[str, str, str, Schema]]:
    """Parsing this much YAML takes seconds: the second time comes from a JSON copy."""
    stat = path.stat()
    copy = _CACHE / f"{path.stem}-{stat.st_size}-{stat.st_mtime_ns}.json"
    if not copy.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with path.open() as file:
            spec = yaml.load(file, Loader=yaml.CSafeLoader)["spec"]
        found = [
            (spec["group"], v["name"], spec["names"]["kind"], v["schema"]["openAPIV3Schema"])
            for v in spec["versions"]
        ]
        copy.write_text(json.dumps(found))
    return [tuple(entry) for entry in json.loads(copy.read_text())]


def _root(schema: Schema) -> Schema:
    strict = _strict(schema)
    strict["properties"]["metadata"] = {"type": "object"}  # ObjectMeta is not the CRD's to define
    return strict


def _strict(schema: Schema) -> Schema:
    """Turn a structural schema into JSON Schema that refuses what the API server would prune."""
    strict = {k: v for k, v in schema.items() if k not in _DROPPED}
    if strict.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
        strict.setdefault("anyOf", _INT_OR_STRING)
    if "properties" in strict:
        strict["properties"] = {k: _strict(v) for k, v in strict["properties"].items()}
    if isinstance(strict.get("items"), dict):
        strict["items"] = _strict(strict["items"])
    _close(strict)
    if strict.pop("nullable", False) and isinstance(strict.get("type"), str):
        strict["type"] = [strict["type"], "null"]
    return strict


def _close(strict: Schema) -> None:
    extra = strict.get("additionalProperties")
    if isinstance(extra, dict):
        strict["additionalProperties"] = _strict(extra)
    elif (
        strict.get("type") == "object"
        and extra is None
        and not strict.get("x-kubernetes-preserve-unknown-fields")
    ):
        strict["additionalProperties"] = False
        strict.setdefault("properties", {})


def _defaulted(schema: Schema, value: Any) -> Any:
    """Fill in the schema's defaults: the API server does so before it evaluates the rules."""
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        defaults = {k: s["default"] for k, s in properties.items() if "default" in s}
        inner = {k: properties.get(k) or extra for k in value}
        filled = {
            k: _defaulted(inner[k] if isinstance(inner[k], dict) else {}, v)
            for k, v in value.items()
        }
        return defaults | filled
    if isinstance(value, list):
        return [_defaulted(schema.get("items") or {}, item) for item in value]
    return value


def _cel_errors(schema: Schema, value: Any, path: str) -> Iterator[str]:
    if value is None:
        return
    for rule in schema.get("x-kubernetes-validations", ()):
        transition = "oldSelf" in rule["rule"]  # only an update has an old self
        if not transition and not cel.evaluate(rule["rule"], {"self": value}):
            yield f"{path or '.'}: {rule.get('message', rule['rule'])}"
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for key, item in value.items():
            inner = properties.get(key, extra)
            if isinstance(inner, dict):
                yield from _cel_errors(inner, item, f"{path}.{key}")
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for i, item in enumerate(value):
            yield from _cel_errors(schema["items"], item, f"{path}[{i}]")
