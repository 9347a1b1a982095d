"""A Terraform provider that is nothing but its schema: `schema_provider.py SCHEMA.json`.

It serves a recovered schema over plugin protocol 6, so that the real Terraform checks types, plans
and runs tests with mocks. It talks to no cloud. Runs under `tools.provider_python()`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped,unused-ignore]
import tf.provider  # type: ignore[import-not-found,unused-ignore]
import tf.runner  # type: ignore[import-not-found,unused-ignore]
from tf.gen import (  # type: ignore[import-not-found,unused-ignore]
    tfplugin_pb2 as pb,
)
from tf.gen import (
    tfplugin_pb2_grpc as rpc,
)

Block = dict[str, Any]

NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}
SCHEMA: Block = json.loads(Path(sys.argv[1]).read_text())
UNKNOWN = msgpack.ExtType(0, b"\0")


def attribute_message(name: str, attribute: Block) -> Any:
    """Describe an attribute to Terraform."""
    message = pb.Schema.Attribute(
        name=name,
        required=attribute["required"],
        optional=attribute["optional"] and not attribute["required"],
        computed=attribute["computed"],
    )
    if "nested" not in attribute:
        message.type = json.dumps(attribute["type"]).encode()
        return message
    inner = attribute["nested"]["block"]["attributes"].items()
    nested = pb.Schema.Object(
        attributes=[attribute_message(n, a) for n, a in inner],
        nesting=NESTING[attribute["nested"]["mode"]],
    )
    message.nested_type.CopyFrom(nested)
    return message


def block_message(block: Block) -> Any:
    """Describe a block to Terraform."""
    nested = [
        pb.Schema.NestedBlock(
            type_name=name,
            nesting=NESTING[inner["mode"]],
            min_items=inner["min"],
            max_items=inner["max"],
            block=block_message(inner["block"]),
        )
        for name, inner in block["blocks"].items()
    ]
    attributes = [attribute_message(n, a) for n, a in block["attributes"].items()]
    return pb.Schema.Block(attributes=attributes, block_types=nested)


def decode(value: Any) -> Any:
    """Read a value from the wire."""
    if value.msgpack:
        return msgpack.unpackb(value.msgpack, raw=False, strict_map_key=False)
    return json.loads(value.json or b"null")


def encode(value: Any) -> Any:
    """Write a value to the wire."""
    return pb.DynamicValue(msgpack=msgpack.packb(value))


def filled(block: Block, value: Any, *, unknown: bool) -> Any:
    """Give computed attributes that are unset a value: unknown in a plan, made up otherwise."""
    if not isinstance(value, dict):
        return value
    result = dict(value)
    for name, attribute in block["attributes"].items():
        now = result.get(name)
        missing = now is None or (not unknown and isinstance(now, msgpack.ExtType))
        if attribute["computed"] and missing:
            result[name] = UNKNOWN if unknown else made_up(attribute, name)
    for name, inner in block["blocks"].items():
        now = result.get(name)
        if isinstance(now, list):
            result[name] = [filled(inner["block"], item, unknown=unknown) for item in now]
        elif isinstance(now, dict):
            result[name] = filled(inner["block"], now, unknown=unknown)
    return result


def made_up(attribute: Block, name: str) -> Any:
    """Return some value of an attribute's type."""
    if "nested" in attribute:
        return None if attribute["nested"]["mode"] == "single" else []
    return made_up_type(attribute["type"], name)


def made_up_type(type_: Any, name: str) -> Any:
    """Return some value of a type."""
    if isinstance(type_, str):
        return {"string": f"mock-{name}", "number": 0, "bool": False}.get(type_)
    if type_[0] == "map":
        return {}
    if isinstance(type_[1], list) and type_[1][0] == "object":
        return [{key: made_up_type(inner, key) for key, inner in type_[1][1].items()}]
    return []


def read_only(block: Block, value: Any, path: str) -> list[str]:
    """Return the attributes that were set though only the provider may set them."""
    if not isinstance(value, dict):
        return []
    found = [
        f"Value for unconfigurable attribute: {path}.{name}"
        for name, a in block["attributes"].items()
        if a["computed"] and not a["optional"] and value.get(name) is not None
    ]
    for name, inner in block["blocks"].items():
        items = value.get(name) or []
        for item in items if isinstance(items, list) else [items]:
            found += read_only(inner["block"], item, f"{path}.{name}")
    return found


class Provider(rpc.ProviderServicer):  # type: ignore[misc,unused-ignore]
    """Plugin protocol 6, with the names that it gives the methods."""

    def __init__(self, *_: object) -> None:
        """Take whatever the runner passes."""

    def GetMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = pb.GetMetadata.Response
        meta = pb.GetMetadata
        return answer(
            resources=[meta.ResourceMetadata(type_name=n) for n in SCHEMA["resource"]],
            data_sources=[meta.DataSourceMetadata(type_name=n) for n in SCHEMA["data"]],
        )

    def GetProviderSchema(self, request: Any, context: Any) -> Any:  # noqa: N802
        def versioned(block: Block) -> Any:
            return pb.Schema(version=0, block=block_message(block))

        return pb.GetProviderSchema.Response(
            provider=versioned(SCHEMA["provider"]),
            resource_schemas={n: versioned(b) for n, b in SCHEMA["resource"].items()},
            data_source_schemas={n: versioned(b) for n, b in SCHEMA["data"].items()},
        )

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        block = SCHEMA["resource"][request.type_name]
        wrong = read_only(block, decode(request.config), request.type_name)
        diagnostics = [pb.Diagnostic(severity=pb.Diagnostic.ERROR, summary=w) for w in wrong]
        return pb.ValidateResourceConfig.Response(diagnostics=diagnostics)

    def ValidateDataResourceConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ConfigureProvider.Response()

    def UpgradeResourceState(self, request: Any, context: Any) -> Any:  # noqa: N802
        state = pb.DynamicValue(json=request.raw_state.json)
        return pb.UpgradeResourceState.Response(upgraded_state=state)

    def ReadResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ReadResource.Response(new_state=request.current_state)

    def ReadDataSource(self, request: Any, context: Any) -> Any:  # noqa: N802
        block = SCHEMA["data"][request.type_name]
        state = filled(block, decode(request.config), unknown=False)
        return pb.ReadDataSource.Response(state=encode(state))

    def PlanResourceChange(self, request: Any, context: Any) -> Any:  # noqa: N802
        proposed = decode(request.proposed_new_state)
        if proposed is None:
            return pb.PlanResourceChange.Response(planned_state=request.proposed_new_state)
        planned = filled(SCHEMA["resource"][request.type_name], proposed, unknown=True)
        return pb.PlanResourceChange.Response(planned_state=encode(planned))

    def ApplyResourceChange(self, request: Any, context: Any) -> Any:  # noqa: N802
        block = SCHEMA["resource"][request.type_name]
        state = filled(block, decode(request.planned_state), unknown=False)
        return pb.ApplyResourceChange.Response(new_state=encode(state))

    def GetFunctions(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.GetFunctions.Response()

    def StopProvider(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.StopProvider.Response()


class Application:
    """What the runner asks for when Terraform did not start it."""

    def full_name(self) -> str:
        """The provider's address; only used in the runner's development mode."""
        return "registry.terraform.io/hashicorp/schema"


if __name__ == "__main__":
    tf.provider.ProviderServicer = Provider
    tf.runner.run_provider(Application(), sys.argv[2:] or ["x"])
