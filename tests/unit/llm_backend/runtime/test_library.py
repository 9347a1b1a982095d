from __future__ import annotations

import stat
from pathlib import Path

import pytest

from llm_backend.runtime.fast import library
from llm_backend.runtime.fast.library import UnavailableError


def test_kernels_are_compiled_once(kernel_cache: Path) -> None:
    library.load(kernel_cache, "float32")
    [built] = (kernel_cache / "kernels").iterdir()
    before = built.stat().st_mtime_ns

    library.load(kernel_cache, "bfloat16")

    assert [f.stat().st_mtime_ns for f in (kernel_cache / "kernels").iterdir()] == [before]


def test_without_a_compiler_the_reason_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UnavailableError, match="no C\\+\\+ compiler"):
        library.load(tmp_path, "float32")


def test_a_compiler_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho no such option >&2\nexit 1\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    with pytest.raises(UnavailableError, match="do not compile: no such option"):
        library.load(tmp_path / "cache", "float32")

    assert list((tmp_path / "cache" / "kernels").iterdir()) == []
