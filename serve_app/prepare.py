"""`python -m serve_app.prepare`: convert the embedding model, if the cache lacks it.

In a process of its own, since converting takes some 150 MB that a replica would then keep.
"""

from __future__ import annotations

import sys

from rag_graph.errors import EmbedderError
from rag_graph.retrieval import bundled
from rag_graph.settings import RagSettings


def main() -> int:
    """Convert. Returns the exit status."""
    try:
        bundled.prepare(RagSettings().cache_dir)
    except EmbedderError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
