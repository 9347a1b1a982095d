"""Where a model's files are fetched from: Azure Blob Storage, or a directory such as a share.

Account and credentials are the variables that Azure's own tools and LanceDB on the CPU side know:
`AZURE_STORAGE_ACCOUNT_NAME` with `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_TOKEN`, or what
workload identity puts into a pod (`AZURE_CLIENT_ID`, `AZURE_TENANT_ID`,
`AZURE_FEDERATED_TOKEN_FILE`). obstore reads them: it binds the Rust crate that LanceDB uses too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
from obstore import exceptions as foreign
from obstore.store import AzureStore, LocalStore, ObjectStore

from llm_backend.errors import ModelFetchError, ModelNotFoundError, SettingsError

AZURE = "az://"


@dataclass(frozen=True, slots=True)
class Stat:
    """A file's size in bytes, and a tag that changes with its content."""

    size: int
    tag: str


@dataclass(frozen=True, slots=True)
class Origin:
    """A place that holds one model's files.

    Attributes:
        url: az:// or the directory's full path.
    """

    url: str
    store: ObjectStore

    def read(self, name: str) -> bytes:
        """Return a small file.

        Raises:
            ModelNotFoundError: there is none.
            ModelFetchError: access is denied, or the storage does not answer.
        """
        with self._mapped(name):
            return bytes(obstore.get(self.store, name).bytes())

    def stat(self, name: str) -> Stat:
        """Return a file's size and tag.

        Raises:
            LlmError: as `read`.
        """
        with self._mapped(name):
            meta = obstore.head(self.store, name)
        return Stat(meta["size"], meta["e_tag"] or "")

    def piece(self, name: str, stat: Stat, start: int, end: int) -> memoryview:
        """Return the bytes from `start` up to `end` of a file that must still be the one of `stat`.

        Raises:
            ModelFetchError: the file was replaced meanwhile.
            LlmError: as `read`.
        """
        with self._mapped(name):
            options: obstore.GetOptions = {"range": (start, end), "if_match": stat.tag}
            return memoryview(obstore.get(self.store, name, options=options).bytes())

    @contextmanager
    def _mapped(self, name: str) -> Iterator[None]:
        place = f"{self.url}/{name}"
        try:
            yield
        except FileNotFoundError as error:
            raise ModelNotFoundError(f"There is no {place}.") from error
        except foreign.PreconditionError as error:
            raise ModelFetchError(
                f"{place} was replaced while it was fetched; start again once the upload is over."
            ) from error
        except (foreign.PermissionDeniedError, foreign.UnauthenticatedError) as error:
            raise ModelFetchError(
                f"Reading {place} is not allowed ({_short(error)}). Check the account key or SAS "
                "token, or that this identity has the role Storage Blob Data Reader."
            ) from error
        except foreign.BaseError as error:
            raise ModelFetchError(f"Cannot read {place}: {_short(error)}.") from error


def open_origin(place: str, patience_s: float) -> Origin:
    """Return an `az://` prefix or a directory.

    Raises:
        StartupError: as `azure` and `directory`.
    """
    return azure(place, patience_s) if place.startswith(AZURE) else directory(Path(place))


def azure(url: str, patience_s: float) -> Origin:
    """Return a prefix of a container, from `az://CONTAINER/PREFIX`; asks nothing of the network.

    Args:
        url: where the files lie.
        patience_s: how long a storage that does not answer is asked again, seconds.

    Raises:
        SettingsError: the URL has another form, or Azure's own variables are not enough.
    """
    container, _, prefix = url.removeprefix(AZURE).strip("/").partition("/")
    if not container or not prefix:
        raise SettingsError(f"{url!r} does not have the form az://CONTAINER/PREFIX.")
    try:
        store = AzureStore(
            container,
            prefix=prefix,
            retry_config={"max_retries": 20, "retry_timeout": timedelta(seconds=patience_s)},
        )
    except foreign.BaseError as error:
        raise SettingsError(
            f"Azure Blob Storage cannot be used for {url}: {_short(error)}. Name the account in "
            "AZURE_STORAGE_ACCOUNT_NAME; a key goes into AZURE_STORAGE_ACCOUNT_KEY."
        ) from error
    return Origin(f"{AZURE}{container}/{prefix}", store)


def directory(path: Path) -> Origin:
    """Return a directory, such as one on a mounted share.

    Raises:
        ModelNotFoundError: there is no such directory.
    """
    if not path.is_dir():
        raise ModelNotFoundError(f"There is no model directory {path}; is the share filled?")
    return Origin(str(path.resolve()), LocalStore(path))


def _short(error: Exception) -> str:
    """Return what obstore says, without the server's XML and the debugging that follow."""
    return str(error).partition("\n")[0].partition("<?xml")[0].rstrip(" .:")
