"""The process that `sandbox` runs: parses one document after another, from stdin to stdout.

A request is a line of JSON (`name`, `size`, `limits`), then `size` bytes. A reply is one line of
JSON: `{"title", "sections": [[text, page, headings], …]}` or `{"error": class, "message"}`.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
from typing import Any, BinaryIO

from rag_graph.errors import DocumentError, DocumentTooLargeError
from rag_graph.ingest.parse import Limits, parse
from rag_graph.ingest.sections import Parsed


def main() -> None:
    """Serve requests until stdin ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not spoil the replies
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # or its threads' stacks eat the address space
    while line := sys.stdin.buffer.readline():
        replies.write(json.dumps(_answer(json.loads(line), sys.stdin.buffer)).encode() + b"\n")
        replies.flush()
        gc.collect()


def _answer(request: dict[str, Any], stream: BinaryIO) -> dict[str, Any]:
    limits = Limits(**request["limits"])
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, resource.RLIM_INFINITY))
    content = stream.read(request["size"])
    try:
        return _encode(parse(request["name"], content, limits))
    except DocumentError as error:
        return _refusal(error)
    except (MemoryError, RecursionError):
        return _refusal(
            DocumentTooLargeError(
                f"{request['name']} needs more memory to be read than is allowed. "
                "Split it, or raise RAG_PARSE_MEMORY_BYTES."
            )
        )


def _refusal(error: DocumentError) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": error.message}


def _encode(parsed: Parsed) -> dict[str, Any]:
    sections = [[s.text, s.page, s.headings] for s in parsed.sections]
    return {"title": parsed.title, "sections": sections}


if __name__ == "__main__":
    main()
