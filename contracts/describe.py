"""What a settings class holds and where each value came from, as JSON for another process.

    python -m contracts.describe llm_backend.settings:LlmSettings

prints a list of `Row`. The `isthmus` command reads it, since it cannot import the packages whose
settings it shows. Exit status 1 when the settings as they are would be refused.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

MASK = "********"


class Row(BaseModel):
    """One setting."""

    name: str
    """Of its environment variable."""
    value: str
    """As text; a secret that is set is masked."""
    source: Literal["default", "environment", "file"]
    description: str
    problem: str = ""
    """Why the value is refused, if it is."""


ROWS = TypeAdapter(list[Row])


def describe(kind: type[BaseSettings]) -> list[Row]:
    """Return the settings of `kind` in the order in which it declares them."""
    in_environment, in_file = EnvSettingsSource(kind)(), DotEnvSettingsSource(kind)()
    given = {**in_file, **in_environment}
    values, problems = _read(kind)
    return [
        Row(
            name=f"{kind.model_config.get('env_prefix', '')}{name}".upper(),
            value=_text(values.get(name, given.get(name, field.get_default())), field.annotation),
            source=_source(name, in_environment, in_file),
            description=field.description or "",
            problem=problems.get(name, ""),
        )
        for name, field in kind.model_fields.items()
    ]


def _read(kind: type[BaseSettings]) -> tuple[Mapping[str, Any], dict[str, str]]:
    """Return the values, or why which of them is refused."""
    try:
        return kind().__dict__, {}
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        first = next(iter(kind.model_fields))  # a complaint about all of them stands at the first
        return {}, {
            str(e["loc"][0]) if e["loc"] else first: e["msg"].removeprefix("Value error, ")
            for e in details
        }


def _source(
    name: str, in_environment: Mapping[str, Any], in_file: Mapping[str, Any]
) -> Literal["default", "environment", "file"]:
    if name in in_environment:
        return "environment"
    return "file" if name in in_file else "default"


def _text(value: Any, annotation: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
        return MASK if value else ""
    if annotation is SecretStr:
        return MASK if value else ""
    return "" if value is None else str(value)


def main() -> int:
    """Print the settings of the class that the command line names."""
    module, _, name = sys.argv[1].partition(":")
    rows = describe(getattr(importlib.import_module(module), name))
    sys.stdout.write(ROWS.dump_json(rows).decode())
    return 1 if any(row.problem for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
