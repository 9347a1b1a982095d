"""`python -m serve_app.bulk PATH… --collection X`: many documents, prepared on all of Ray's CPUs.

Ray actors parse, cut and embed; this process commits what they bring, by the same scheme as the
ingestor and into the same tables, so ids, atomicity and what "unchanged" means are the same, and
a run that was killed is simply started again. Ray Data and lance-ray are not used:
docs/decisions says why.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from rag_graph.errors import RagError, StoreError
from rag_graph.ingest.files import File, find, medium_of
from rag_graph.ingest.pipeline import MAX_SWAPS, Ingestor, Prepared
from rag_graph.retrieval.schema import check_name
from rag_graph.settings import RagSettings
from rag_graph.state import DEFAULT_COLLECTION, DocumentReport
from serve_app import own_ray
from serve_app.errors import SettingsError
from serve_app.settings import ServeSettings, read

AHEAD = 4
"""Documents of one actor that are under way: while one is embedded others are parsed."""

logger = logging.getLogger(__name__)


class Preparer:
    """An actor: a whole ingestor but for the commits."""

    def __init__(self, settings: RagSettings) -> None:
        self._settings = settings
        self._opening: asyncio.Task[Ingestor] | None = None

    async def prepare(
        self, name: str, content: bytes, collection: str
    ) -> Prepared | DocumentReport | RagError:
        """Return a document that is ready to be committed, or why there is none."""
        if self._opening is None:
            self._opening = asyncio.create_task(Ingestor.open(self._settings))
        try:
            return await (await self._opening).prepare(name, content, collection)
        except RagError as error:
            return error


class Bulk:
    """One run: its actors, and the ingestor that commits."""

    def __init__(self, ingestor: Ingestor, actors: list[Any], collection: str) -> None:
        self._ingestor = ingestor
        self._collection = collection
        self._actors = actors
        self._lost: set[Any] = set()
        """Actors that died, or cannot be reached."""
        self.counts: Counter[str] = Counter()
        self.chunks = 0

    async def run(self, files: Iterable[File]) -> None:
        """Put the files in; what became of each is printed, and counted."""
        waiting = iter(files)
        await asyncio.gather(*(self._lane(actor, waiting) for actor in self._actors * AHEAD))
        for file in waiting:
            self._say(file, "failed", "No worker is left to prepare it. Start the run again.")

    async def _lane(self, actor: Any, waiting: Iterator[File]) -> None:
        """Put in one file after another, for as long as the actor lives."""
        while actor not in self._lost and (file := next(waiting, None)):
            try:
                status, said = await self._outcome(file, actor)
            except Exception as error:
                logger.exception("%s failed", _printable(file.name))
                status, said = "failed", _reason(error)
            self._say(file, status, said)

    def _say(self, file: File, status: str, said: str) -> None:
        self.counts[status] += 1
        print(_printable(f"{status:>9}  {file.name}: {said}"), flush=True)  # noqa: T201

    async def _outcome(self, file: File, actor: Any) -> tuple[str, str]:
        if file.walked and (medium := medium_of(file.path)):
            return "skipped", f"There is no text to read in {medium} files."
        try:
            content = await asyncio.to_thread(file.path.read_bytes)
        except OSError as error:
            return "failed", f"It cannot be read: {error.strerror}."
        try:
            report = await self._store(file.name, content, actor)
        except RagError as error:
            return "failed", str(error)
        except RayActorError as error:
            self._lost.add(actor)
            return "failed", f"The worker that prepared it is gone: {_on_one_line(error)}"
        self.chunks += report.chunks
        return report.status, f"{report.chunks} chunks"

    async def _store(self, name: str, content: bytes, actor: Any) -> DocumentReport:
        for _ in range(MAX_SWAPS):
            prepared = await actor.prepare.remote(name, content, self._collection)
            if isinstance(prepared, RagError):
                raise prepared
            if isinstance(prepared, DocumentReport):
                return prepared
            if (report := await self._ingestor.commit(prepared)) is not None:
                return report
        raise StoreError(f"Collection {self._collection!r} is replaced again and again.")


def _reason(error: Exception) -> str:
    cause = error.cause if isinstance(error, RayTaskError) else error
    return f"{type(cause).__name__}: {_on_one_line(cause)}"


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _printable(text: str) -> str:
    """Return `text` as stdout takes it: names of files may hold bytes that are no characters."""
    encoding = sys.stdout.encoding
    return text.encode(encoding, "backslashreplace").decode(encoding)


def main() -> int:
    """Ingest what the command line names. Returns the exit status."""
    arguments = _arguments()
    try:
        rag = read(RagSettings)
        check_name(arguments.collection)
        files = list(find(arguments.paths))
    except (SettingsError, RagError, FileNotFoundError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    with _ray(arguments):
        return asyncio.run(_run(files, arguments.collection, rag, arguments.workers))


async def _run(files: list[File], collection: str, rag: RagSettings, workers: int) -> int:
    cluster: Any = ray  # which annotates only a part of itself
    count = workers or max(1, int(cluster.cluster_resources().get("CPU", 1)))
    preparer: Any = ray.remote(Preparer)
    options = {"num_cpus": 1, "num_gpus": 0, "max_concurrency": AHEAD}
    actors = [preparer.options(**options).remote(rag) for _ in range(count)]
    ingestor = await Ingestor.open(rag)
    bulk = Bulk(ingestor, actors, collection)
    begun = time.monotonic()
    try:
        # Here, once: on object storage no lock keeps actors from making it side by side.
        await ingestor.open_collection(collection)
        await bulk.run(files)
        await ingestor.maintain(collection)
    except RagError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    finally:
        await ingestor.aclose()
    seconds = time.monotonic() - begun
    said = ", ".join(f"{number} {status}" for status, number in sorted(bulk.counts.items()))
    print(f"{said}; {bulk.chunks} chunks in {seconds:.1f} s on {count} workers.")  # noqa: T201
    return 1 if bulk.counts["failed"] else 0


def _ray(arguments: argparse.Namespace) -> AbstractContextManager[Any]:
    """Return a Ray of our own while the block lasts, or a cluster's."""
    if arguments.address:
        ray.init(address=arguments.address)
        return nullcontext()
    return own_ray.running(ServeSettings())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serve_app.bulk", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="files, or folders to walk")
    parser.add_argument("--collection", default=DEFAULT_COLLECTION)
    parser.add_argument("--workers", type=int, default=0, help="actors; 0: one for each CPU of Ray")
    parser.add_argument(
        "--address", default="", help="a running Ray cluster; empty: one of our own"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
