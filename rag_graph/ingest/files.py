"""Which files a person means who names files and folders, and what their documents are called."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class File:
    """One file to ingest, and the name that the document gets."""

    path: Path
    name: str
    walked: bool = False
    """Found in a folder rather than named: then a type that cannot be read is no failure."""


def find(paths: Iterable[Path]) -> Iterator[File]:
    """Yield the files that `paths` name, those of a folder in sorted order, hidden ones left out.

    Links to folders are not followed, so that a loop of them ends.

    Raises:
        FileNotFoundError: a path does not exist.
    """
    for path in paths:
        if path.is_dir():
            yield from _walk(path)
        elif path.is_file():
            yield File(path, _name(path))
        else:
            raise FileNotFoundError(f"There is no file or folder {path}. Check the path.")


def medium_of(path: Path) -> str:
    """Return "image", "audio" and the like for a file that by its name holds no text, or ""."""
    medium = (mimetypes.guess_type(path.name)[0] or "").partition("/")[0]
    return medium if medium in {"image", "audio", "video", "font"} else ""


def _walk(folder: Path) -> Iterator[File]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield File(path, _name(path), walked=True)


def _name(path: Path) -> str:
    """Return the path as it was given, or below the working directory when it was absolute."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return path.as_posix()
