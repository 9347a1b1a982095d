"""What each side installs, and that everything installed is pinned."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.support.requirements import closure

ROOT = Path(__file__).resolve().parents[2]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_the_cpu_side_installs_no_torch() -> None:
    installed = closure("isthmus[serve]")
    assert "ray" in installed  # the walk really walks
    assert not installed & {"torch", "deepspeed", "transformers", "mpi4py"}


def test_the_gpu_side_installs_no_ray() -> None:
    installed = closure("isthmus[llm]")
    assert "deepspeed" in installed
    assert not installed & {"ray", "langgraph", "lancedb"}


def test_every_package_is_pinned() -> None:
    needed = closure("isthmus[serve,llm,dev]") - {"isthmus"}
    assert needed - set(pins()) == set()


def test_what_is_installed_is_what_is_pinned() -> None:
    for name, version in pins().items():
        assert metadata.version(name).partition("+")[0] == version, name


def test_constraints_are_plain_pins_without_urls() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    plain = re.compile(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.!]+")
    assert [line for line in lines if not plain.fullmatch(line)] == []
