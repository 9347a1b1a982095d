"""What Isthmus adds to the time to the first token, retrieval over many chunks included.

    python -m bench.gateway_ttft --chunks 100000

One client asks one question after another, in turns: the gateway, which searches the chunks, and
the LLM service alone, with a prompt of the same length. The mock's first token
comes at once.
The chunks are those of `bench.store`, so their vectors mean nothing: what is found is beside the
point, and is answered from all the same. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.gateway import mock
from bench.http_load import Call, Timings, closed_loop, milliseconds
from bench.store import content_words, fill
from rag_graph.retrieval.embedder import open_embedder
from rag_graph.retrieval.store import Store
from rag_graph.settings import RagSettings
from tests.support.serve import gateway

NAME = "big"
WARM = 20


async def filled(folder: Path, chunks: int) -> None:
    """Fill a store with `chunks`, and index them as the ingestor would."""
    settings = RagSettings(store_uri=str(folder))
    store, embedder = await Store.open(settings, writes=True), await open_embedder(settings)
    collection = await store.collection_or_new(NAME, embedder, settings.chunk_tokens)
    await fill(collection, chunks)
    await collection.maintain()


async def measure(gateway_url: str, llm_url: str, requests: int) -> dict[str, Any]:
    """Ask both in turns; return the milliseconds to their first tokens."""
    dice, times = np.random.default_rng(5), {"gateway": Timings(), "llm": Timings()}
    for number in range(WARM + requests):
        question = f"Where do I read of {content_words(dice)}?"
        asked = {"messages": [{"role": "user", "content": question}], "stream": True}
        long = {"messages": [{"role": "user", "content": question + " word" * 1000}]}
        through = {**asked, "model": "isthmus", "collection": NAME, "retrieval": "always"}
        for name, call in (
            ("gateway", Call(f"{gateway_url}/v1/chat/completions", through)),
            ("llm", Call(f"{llm_url}/v1/chat/completions", {**asked, **long, "model": "mock"})),
        ):
            took = await closed_loop(call, 1, 1)
            if number >= WARM:
                times[name].first_words += took.first_words
                for reason in took.errors:
                    times[name].fail(reason)
    first = {name: timings.first_words for name, timings in times.items()}
    spread = {name: [milliseconds(s, q) for q in (0.5, 0.99)] for name, s in first.items()}
    return {
        "first_token_ms_p50_p99": spread,
        "added_p50_ms": round(spread["gateway"][0] - spread["llm"][0], 1),
        "answered": {name: len(seconds) for name, seconds in first.items()},
        "errors": {name: timings.errors for name, timings in times.items()},
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=200)
    given = parser.parse_args()
    pace = argparse.Namespace(tokens_per_s=0, answer_tokens=20)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        asyncio.run(filled(directory / "store", given.chunks))
        settings = {"RAG_MIN_EVIDENCE": "0"}
        with mock(directory, pace) as llm, gateway(directory, RAG_LLM_URL=llm, **settings) as run:
            figures = asyncio.run(measure(run.url, llm, given.requests))
    print(json.dumps({"chunks": given.chunks, **figures}, indent=2))


if __name__ == "__main__":
    main()
