"""Where LanceDB's exceptions become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from rag_graph.errors import StoreError


@contextmanager
def store_errors(action: str) -> Iterator[None]:
    """Turn what LanceDB and Arrow raise into a `StoreError` that says what could not be done.

    Raises:
        StoreError: in place of RuntimeError, OSError, ValueError and Arrow's exceptions, which is
            everything that LanceDB raises.
    """
    try:
        yield
    except (RuntimeError, OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise StoreError(
            f"The vector store could not {action}: {reason}. "
            "Check RAG_STORE_URI, its permissions and the space left there."
        ) from error
