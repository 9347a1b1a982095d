"""What a requirement brings with it, read from the metadata of what is installed."""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(requirement: str) -> set[str]:
    """Return the names of all packages that installing `requirement` brings, itself included."""
    found: set[tuple[str, str]] = set()
    wanted = [Requirement(requirement)]
    while wanted:
        current = wanted.pop()
        for extra in ("", *current.extras):
            key = (canonicalize_name(current.name), extra)
            if key in found:
                continue
            found.add(key)
            needed = map(Requirement, metadata.requires(current.name) or [])
            wanted += [n for n in needed if n.marker is None or n.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}
