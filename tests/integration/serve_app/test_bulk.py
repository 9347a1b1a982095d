"""The bulk path on a Ray of its own: the ingestor's tables, ids and rules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from rag_graph.ingest.pipeline import Ingestor
from rag_graph.retrieval.retriever import Retriever
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery
from serve_app.bulk import AHEAD
from tests.support.processes import ROOT
from tests.support.rag import pdf


def environment(store: Path) -> dict[str, str]:
    return {**os.environ, "RAY_AUTH_MODE": "disabled", "RAG_STORE_URI": str(store)}


def bulk(folder: Path, store: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serve_app.bulk", str(folder), "--collection", "many"],
        cwd=ROOT,
        env=environment(store),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_files_whose_worker_was_killed_are_told_of(tmp_path: Path) -> None:
    folder, store = tmp_path / "folder", tmp_path / "store"
    folder.mkdir()
    for i in range(400):
        (folder / f"{i:03}.md").write_text(f"# Animal {i}\n\nThe zebra number {i} sleeps.")
    command = [sys.executable, "-m", "serve_app.bulk", str(folder), "--workers", "1"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(store), stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        first = run.stdout.readline()
        (worker,) = workers_of(run.pid)
        worker.kill()
        lines = [first, *run.stdout]
        assert run.wait(120) == 1
    told = [line for line in lines if ".md: " in line]
    assert len({line.split()[1] for line in told}) == len(told) == 400
    gone = [line for line in told if "The worker that prepared it is gone" in line]
    assert 1 <= len(gone) <= AHEAD
    assert f"{400 - len([line for line in told if ' created ' in line])} failed" in lines[-1]
    assert "No worker is left to prepare it" in told[-1]


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the actors of a run, which are its Ray's processes and so its descendants."""
    return [
        process
        for process in psutil.Process(pid).children(recursive=True)
        if process.cmdline() and process.cmdline()[0].startswith("ray::Preparer")
    ]


async def test_a_folder_goes_in_as_by_the_ingestor(tmp_path: Path) -> None:
    folder, store = tmp_path / "folder", tmp_path / "store"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i}.md").write_text(f"# Animal {i}\n\nThe zebra number {i} sleeps.")
    (folder / "report.pdf").write_bytes(pdf("One.", "The otter swims."))
    (folder / "broken.pdf").write_bytes(pdf("x")[:100])
    first = bulk(folder, store)
    assert first.returncode == 1, first.stderr
    assert "broken.pdf cannot be read as PDF" in first.stdout
    assert "21 created, 1 failed; 22 chunks" in first.stdout
    (folder / "broken.pdf").unlink()
    second = bulk(folder, store)
    assert second.returncode == 0, second.stderr
    assert "21 unchanged; 22 chunks" in second.stdout
    settings = RagSettings(store_uri=str(store))
    found = await (await Retriever.open(settings)).search(SearchQuery("otter", "many", 1))
    assert (found[0].source, found[0].page) == (str(folder / "report.pdf"), 2)
    ingestor = await Ingestor.open(settings)
    text = b"# Animal 3\n\nThe zebra number 3 sleeps."
    report = await ingestor.ingest(str(folder / "3.md"), text, "many")
    await ingestor.aclose()
    assert report.status == "unchanged"
