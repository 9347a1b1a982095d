"""Keys that a pydantic model silently ignores, found by walking the data beside the model."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel


def unknown_keys(data: Any, annotation: Any, path: str = "") -> list[str]:
    """Return the dotted paths in `data` that no field of the annotated models takes."""
    if isinstance(data, list):
        return [k for item in data for k in unknown_keys(item, annotation, path)]
    models = _models(annotation)
    if not isinstance(data, dict) or not models:
        return []
    fields = {n: f for m in models for n, f in m.model_fields.items()}
    found = [f"{path}{key}" for key in data if key not in fields]
    for key in data:
        if key in fields:
            found += unknown_keys(data[key], fields[key].annotation, f"{path}{key}.")
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
