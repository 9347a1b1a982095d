"""What `bench.embedding` runs in the venv of sentence-transformers. Imports nothing of ours.

Reads a line of JSON for each job, a list of calls, each a list of texts; answers with the seconds
that each call took: wall clock, and CPU of this process.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(folder: str, threads: int) -> None:
    """Serve standard input."""
    import torch
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

    torch.set_num_threads(threads)
    model: Any = SentenceTransformer(folder, device="cpu")
    model.encode(["ready"])
    print("ready", flush=True)
    for line in sys.stdin:
        took = []
        for texts in json.loads(line):
            wall, cpu = time.perf_counter(), time.process_time()
            model.encode(texts, batch_size=32, show_progress_bar=False)
            took.append((time.perf_counter() - wall, time.process_time() - cpu))
        print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
