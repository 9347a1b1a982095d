"""JSON files of a model's directory, which may hold anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm_backend.errors import ModelInvalidError


def read_object(file: Path, remedy: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        remedy: what to do if there is none.

    Raises:
        ModelInvalidError: there is no such file, or it holds something else.
    """
    if not file.is_file():
        raise ModelInvalidError(f"{file.parent} lacks {file.name}: {remedy}.")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelInvalidError(f"{file} is not valid JSON ({error}): {remedy}.") from error
    if not isinstance(content, dict):
        raise ModelInvalidError(f"{file} holds no JSON object: {remedy}.")
    return content
