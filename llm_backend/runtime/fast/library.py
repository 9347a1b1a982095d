"""Compiles `decoder.cpp` for this very CPU, once, and binds it through ctypes.

No torch header is involved, so a build takes seconds. The library's name carries a hash of
sources, compiler and CPU; it appears under its name only when it is complete, so neither a killed
build nor two at once can leave a broken one.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

_SOURCES = Path(__file__).parent
FLAGS = (
    "-std=c++20",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-shared",
    "-fPIC",
    "-pthread",
)
_BUILD_TIMEOUT_S = 300

Pointer = ctypes.c_void_p
AllReduce = ctypes.CFUNCTYPE(None, ctypes.c_int32)


class UnavailableError(Exception):
    """The kernels cannot be used here; the message says why. The plain path takes over."""


class Shape(ctypes.Structure):
    """`struct Shape` of decoder.cpp."""

    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in (
                "layers",
                "hidden",
                "heads",
                "kv_heads",
                "head_size",
                "intermediate",
                "columns",
                "block_size",
                "max_tokens",
                "max_context",
                "ranks",
                "rank",
                "head_begin",
                "head_depth",
            )
        ),
        ("epsilon", ctypes.c_float),
        ("scaling", ctypes.c_float),
    ]


class LayerAddresses(ctypes.Structure):
    """`struct LayerAddresses` of decoder.cpp."""

    _fields_ = [
        (name, Pointer)
        for name in (
            "qkv",
            "output",
            "gate_up",
            "down",
            "attention_norm",
            "mlp_norm",
            "keys",
            "values",
        )
    ]


class ModelAddresses(ctypes.Structure):
    """`struct ModelAddresses` of decoder.cpp."""

    _fields_ = [
        (name, Pointer)
        for name in (
            "layers",
            "embedding",
            "head",
            "final_norm",
            "cosines",
            "sines",
            "shared",
            "partial",
        )
    ]


class Batch(ctypes.Structure):
    """`struct Batch` of decoder.cpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("sequences", "tokens", "sampled")),
        *(
            (name, Pointer)
            for name in ("ids", "lengths", "starts", "block_counts", "blocks", "sampled_rows")
        ),
    ]


class Kernels:
    """The functions of one number format, "float32" or "bfloat16"."""

    def __init__(self, library: ctypes.CDLL, format_name: str) -> None:
        def function(name: str, result: type | None, *arguments: object) -> Callable[..., int]:
            found = getattr(library, f"isthmus_{name}_{format_name}")
            found.restype, found.argtypes = result, arguments
            bound: Callable[..., int] = found
            return bound

        integer = ctypes.c_int
        shape, model = ctypes.POINTER(Shape), ctypes.POINTER(ModelAddresses)
        self.pack = function("pack", None, Pointer, integer, integer, Pointer)
        self.create = function("create", Pointer, shape, model, integer, AllReduce)
        self.step = function("step", None, Pointer, ctypes.POINTER(Batch), Pointer)
        self.destroy = function("destroy", None, Pointer)


def load(cache_dir: Path, format_name: str) -> Kernels:
    """Return the kernels, compiled into `cache_dir` unless they are there.

    Raises:
        UnavailableError: there is no C++ compiler, or it fails.
    """
    compiler = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if compiler is None:
        raise UnavailableError("there is no C++ compiler (Debian: apt-get install g++)")
    path = cache_dir / "kernels" / f"{_fingerprint(compiler)}.so"
    if not path.exists():
        _compile(compiler, path)
    try:
        return Kernels(ctypes.CDLL(str(path)), format_name)
    except OSError as error:
        raise UnavailableError(f"the compiled kernels cannot be loaded: {error}") from error


def _fingerprint(compiler: str) -> str:
    digest = hashlib.sha256(" ".join([compiler, *FLAGS, platform.machine(), _cpu()]).encode())
    for source in sorted([*_SOURCES.glob("*.cpp"), *_SOURCES.glob("*.h")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:20]


def _cpu() -> str:
    """Return what `-march=native` depends on: a cache on shared storage may meet many CPUs."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else [platform.processor()]
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    command = [compiler, *FLAGS, str(_SOURCES / "decoder.cpp"), "-o", str(unfinished)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise UnavailableError(f"they do not compile: {done.stderr.strip()[:300]}")
        unfinished.replace(path)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"they do not compile: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
