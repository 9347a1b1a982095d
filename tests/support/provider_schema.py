"""A Terraform provider's schema, recovered from the CDK package that was generated from it.

The package's JavaScript names every attribute with its type and whether it is required, optional or
computed, and its declarations say which names are blocks. What it does not know are enum values.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Block = dict[str, Any]
Type = Any

_CLASS = re.compile(r"^class (\w+) extends ([\w.]+)", re.MULTILINE)
_META = re.compile(
    r"^\s+(\w+): \{\n\s+value: .*\n\s+isBlock: (true|false),\n"
    r'\s+type: "(\w+)",\n\s+storageClassType: "(\w+)",',
    re.MULTILINE,
)
_FLAGS = re.compile(
    r"^    // (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n"
    r"((?:    (?!// \w+ - computed).*\n){1,12})",
    re.MULTILINE,
)
_INTERFACE = re.compile(r"^export interface (\w+) ", re.MULTILINE)
_BLOCK_DOC = re.compile(r"/\*\*\n    \* (\w+) block\n    \*\n")
_STORAGE = re.compile(r"(string|number|boolean|any)(List|Map|ListList|MapList)")
_PRIMITIVES = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
_GETTERS: list[tuple[str, Type]] = [
    (r"getNumberAttribute", "number"),
    (r"getBooleanAttribute", "bool"),
    (r"Fn\.tolist\(this\.getNumberListAttribute", ["set", "number"]),
    (r"Fn\.tolist\(this\.getListAttribute", ["set", "string"]),
    (r"getNumberListAttribute", ["list", "number"]),
    (r"getListAttribute", ["list", "string"]),
    (r"StringMapList", ["list", ["map", "string"]]),
    (r"StringMap", ["map", "string"]),
    (r"BooleanMap", ["map", "bool"]),
    (r"NumberMap", ["map", "number"]),
    (r"AnyMap|interpolationForAttribute", "dynamic"),
]


def recover(wheel: Path, *, framework: bool, resources: set[str] | None = None) -> Block:
    """Return {"version", "provider", "resource", "data"} of a provider's package.

    `framework`: the provider is built on the plugin framework, whose nested values are attributes.
    `resources`: types to read; None reads all.
    """
    schema: Block = {"provider": None, "version": None, "resource": {}, "data": {}}
    for javascript, declarations in _sources(wheel, resources):
        module = _Module(javascript, declarations, framework)
        for kind, type_, version, block in module.constructs():
            schema["version"] = schema["version"] or version
            if kind == "provider":
                schema["provider"] = block
            else:
                schema[kind][type_] = block
    return schema


def _sources(wheel: Path, resources: set[str] | None) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".jsii.tgz"))
        package = archive.read(name)
    halves: dict[str, dict[str, str]] = {}
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as tar:
        for member in tar:
            found = re.fullmatch(r"package/lib/([^/]+)/index\.(js|d\.ts)", member.name)
            if found and _wanted(found[1], resources):
                file = tar.extractfile(member)
                assert file is not None
                halves.setdefault(found[1], {})[found[2]] = file.read().decode()
    for half in halves.values():
        yield half["js"], half["d.ts"]


def _wanted(folder: str, resources: set[str] | None) -> bool:
    if resources is None or folder == "provider":
        return True
    name = folder.replace("-", "_").removeprefix("data_azurerm_")
    return any(r.partition("_")[2] == name or r == name for r in resources)


def _cty(kind: str | None, storage: str) -> Type:
    """Return Terraform's type of a CDK storage class, or None for a nested class."""
    if storage in _PRIMITIVES:
        return _PRIMITIVES[storage]
    found = _STORAGE.fullmatch(storage)
    if found is None:
        return None
    inner = _PRIMITIVES[found[1]]
    match found[2]:
        case "Map":
            return ["map", inner]
        case "List":
            return ["set" if kind == "set" else "list", inner]
        case "MapList":
            return ["list", ["map", inner]]
    return ["list", ["list", inner]]


def _object(block: Block) -> Type:
    fields = {
        name: a["type"] if "type" in a else [a["nested"]["mode"], _object(a["nested"]["block"])]
        for name, a in block["attributes"].items()
    }
    for name, nested in block["blocks"].items():
        mode = "list" if nested["mode"] == "single" else nested["mode"]
        fields[name] = [mode, _object(nested["block"])]
    return ["object", fields]


@dataclass(frozen=True)
class _Field:
    """One attribute or block as its comment and getter in the JavaScript describe it."""

    name: str
    computed: bool
    optional: bool
    required: bool
    code: str

    @property
    def flags(self) -> Block:
        return {"computed": self.computed, "optional": self.optional, "required": self.required}


class _Module:
    """One resource's, data source's or provider's compiled file."""

    def __init__(self, javascript: str, declarations: str, framework: bool) -> None:
        self.js = javascript
        self.framework = framework
        self.blocks_of = _documented_blocks(declarations)
        starts = list(_CLASS.finditer(javascript))
        ends = [m.start() for m in starts[1:]] + [len(javascript)]
        self.classes = {
            m[1]: (m[2], javascript[m.start() : end]) for m, end in zip(starts, ends, strict=True)
        }

    def constructs(self) -> Iterator[tuple[str, str, str | None, Block]]:
        kinds = {
            "TerraformResource": "resource",
            "TerraformDataSource": "data",
            "TerraformProvider": "provider",
        }
        for name, (base, body) in self.classes.items():
            kind = kinds.get(base.rpartition(".")[2])
            if kind:
                type_ = re.search(r"terraformResourceType: '(\w+)'", body)
                version = re.search(r"providerVersion: '([^']+)'", body)
                yield (
                    kind,
                    type_[1] if type_ else "",
                    version[1] if version else None,
                    self.block(name),
                )

    def block(self, class_name: str) -> Block:
        base, body = self.classes[class_name]
        meta = self._meta(class_name, body)
        result: Block = {"attributes": {}, "blocks": {}}
        for match in _FLAGS.finditer(body):
            flags = [match[i] == "true" for i in (2, 3, 4)]
            field = _Field(match[1], *flags, match[5])
            if field.name == "alias" and "TerraformProvider" in base:
                continue
            self._add(result, class_name, field, meta.get(field.name))
        return result

    def _add(
        self, result: Block, class_name: str, field: _Field, meta: tuple[bool, str, str] | None
    ) -> None:
        nested = re.search(
            rf'= new (\w+)(OutputReference|List)\(this, "{field.name}"(?:, (true|false))?',
            field.code,
        )
        if nested and nested[1] + nested[2] in self.classes:
            self._add_nested(result, class_name, field, nested, meta)
            return
        known = _cty(*meta[1:]) if meta else None
        if meta and known is None and meta[0]:
            self._add_provider_block(result, field, meta)
            return
        result["attributes"][field.name] = {
            "type": known or _getter_type(field.code),
            **field.flags,
        }

    def _add_nested(
        self,
        result: Block,
        class_name: str,
        field: _Field,
        nested: re.Match[str],
        meta: tuple[bool, str, str] | None,
    ) -> None:
        inner_class = nested[1] + "OutputReference"
        empty: Block = {"attributes": {}, "blocks": {}}
        inner = self.block(inner_class) if inner_class in self.classes else empty
        kind = meta[1] if meta else None
        mode = "single" if kind == "struct" else "list"
        if kind == "set" or nested[3] == "true":
            mode = "set"
        interface = class_name.removesuffix("OutputReference")
        interface += "" if interface != class_name else "Config"
        computed_only = field.computed and not field.optional
        if computed_only or field.name not in self.blocks_of.get(interface, set()):
            if self.framework:
                shape: Block = {"nested": {"mode": mode, "block": inner}}
            else:  # the older SDK's "attributes as blocks"
                shape = {"type": ["set" if mode == "set" else "list", _object(inner)]}
            result["attributes"][field.name] = {**shape, **field.flags}
            return
        lonely = mode == "single"
        result["blocks"][field.name] = {
            "mode": mode,
            "min": 0 if lonely else int(field.required),
            "max": 1 if nested[2] == "OutputReference" and not lonely else 0,
            "block": inner,
        }

    def _add_provider_block(
        self, result: Block, field: _Field, meta: tuple[bool, str, str]
    ) -> None:
        """A provider's blocks are plain fields, without a class of their own."""
        name = meta[2].removesuffix("List")
        own = name + "OutputReference"
        inner = self.block(own) if own in self.classes else self._struct(name)
        if self.framework:
            mode = "single" if meta[1] == "struct" else "list"
            nested = {"mode": mode, "block": inner}
            result["attributes"][field.name] = {"nested": nested, **field.flags}
        else:
            one = {"mode": "list", "min": int(field.required), "max": 1, "block": inner}
            result["blocks"][field.name] = one

    def _meta(self, class_name: str, body: str) -> dict[str, tuple[bool, str, str]]:
        if "synthesizeHclAttributes" in body:
            source = body[body.index("synthesizeHclAttributes") :]
        else:
            source = self._function(class_name.removesuffix("OutputReference"))
        return {n: (block == "true", t, s) for n, block, t, s in _META.findall(source)}

    def _function(self, name: str) -> str:
        start = self.js.find(f"function {name[0].lower()}{name[1:]}ToHclTerraform(")
        return self.js[start : self.js.find("\n}\n", start)] if start >= 0 else ""

    def _struct(self, name: str) -> Block:
        optional = {"computed": False, "optional": True, "required": False}
        result: Block = {"attributes": {}, "blocks": {}}
        for field, _, kind, storage in _META.findall(self._function(name)):
            known = _cty(kind, storage)
            if known is not None:
                result["attributes"][field] = {"type": known, **optional}
                continue
            inner = self._struct(storage.removesuffix("List"))
            if self.framework:
                mode = "single" if kind == "struct" else "list"
                result["attributes"][field] = {"nested": {"mode": mode, "block": inner}, **optional}
            else:
                result["blocks"][field] = {"mode": "list", "min": 0, "max": 1, "block": inner}
        return result


def _documented_blocks(declarations: str) -> dict[str, set[str]]:
    starts = list(_INTERFACE.finditer(declarations))
    ends = [m.start() for m in starts[1:]] + [len(declarations)]
    return {
        m[1]: set(_BLOCK_DOC.findall(declarations[m.start() : end]))
        for m, end in zip(starts, ends, strict=True)
    }


def _getter_type(code: str) -> Type:
    return next((type_ for pattern, type_ in _GETTERS if re.search(pattern, code)), "string")


def save(schema: Block, path: Path) -> None:
    """Write a schema for `schema_provider.py`."""
    path.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True))
