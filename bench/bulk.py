"""Many documents by Ray actors (`serve_app.bulk`) and by one ingestor, in turns. JSON to stdout.

python -m bench.bulk --documents 600 --rounds 3 --data ../shared/data/xquad/xquad.en.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rag_graph.ingest.pipeline import Ingestor
from rag_graph.settings import RagSettings

AT_ONCE = 32
"""Documents on their way through the ingestor: what `RAG_INGEST_DOCUMENTS` is by default."""
PARAGRAPHS = 5
REPORT = re.compile(r"; (\d+) chunks in ([\d.]+) s on (\d+) workers")


def write(folder: Path, count: int, data: Path) -> None:
    """Write `count` Markdown documents of paragraphs of XQuAD, no two alike."""
    articles = json.loads(data.read_text())["data"]
    paragraphs = [p["context"] for article in articles for p in article["paragraphs"]]
    dice = random.Random(3)
    for number in range(count):
        chosen = dice.sample(paragraphs, PARAGRAPHS)
        parts = [f"## Part {i}\n\n{text} ({number})" for i, text in enumerate(chosen)]
        (folder / f"{number}.md").write_text(f"# Document {number}\n\n" + "\n\n".join(parts))


async def by_ingestor(folder: Path, store: str) -> dict[str, float]:
    """Ingest `folder` in this process; seconds from the first document to the end of upkeep."""
    ingestor = await Ingestor.open(RagSettings(store_uri=store))
    documents = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]  # noqa: ASYNC240
    room = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, content: bytes) -> int:
        async with room:
            return (await ingestor.ingest(name, content)).chunks

    begun = time.monotonic()
    chunks = sum(await asyncio.gather(*(one(*document) for document in documents)))
    await ingestor.maintain()
    seconds = time.monotonic() - begun
    await ingestor.aclose()
    return {"chunks": chunks, "seconds": round(seconds, 1)}


def in_bulk(folder: Path, store: str) -> dict[str, float]:
    """Ingest `folder` by the command; `whole_s` has Ray's start and end in it."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "serve_app.bulk", str(folder)],
        env={**os.environ, "RAG_STORE_URI": store},
        capture_output=True,
        text=True,
        check=True,
    )
    found = REPORT.search(done.stdout)
    if found is None:
        raise RuntimeError(f"no report in:\n{done.stdout[-2000:]}")
    chunks, seconds, workers = found.groups()
    whole = round(time.monotonic() - begun, 1)
    return {
        "chunks": int(chunks),
        "seconds": float(seconds),
        "workers": int(workers),
        "whole_s": whole,
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, required=True, help="a file of XQuAD")
    arguments = parser.parse_args()
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "documents"
        folder.mkdir()
        write(folder, arguments.documents, arguments.data)
        for number in range(arguments.rounds):
            alone = asyncio.run(by_ingestor(folder, f"{directory}/alone{number}"))
            bulk = in_bulk(folder, f"{directory}/bulk{number}")
            ratio = round(alone["seconds"] / bulk["seconds"], 2)
            rounds.append({"ingestor": alone, "bulk": bulk, "ratio": ratio})
            print(json.dumps(rounds[-1]), file=sys.stderr)
    print(json.dumps({"documents": arguments.documents, "rounds": rounds}, indent=2))


if __name__ == "__main__":
    main()
