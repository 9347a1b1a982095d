"""C++ operators that are compiled on the machine they run on, once.

torch builds an extension under a lock file that outlives a killed builder, on which every later
start then waits for ever. Here the lock is the kernel's (`flock`), which dies with its holder,
and whoever holds it may remove torch's file.
"""

from __future__ import annotations

import fcntl
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (where DeepSpeed's op puts its segments)


def use_directory(cache_dir: Path) -> None:
    """Build extensions below `cache_dir`, apart for each torch and Python.

    The tools that pip installed beside this Python, ninja among them, are put on PATH.
    """
    version = f"torch{torch.__version__}-py{platform.python_version()}"
    directory = cache_dir / "torch_extensions" / version
    directory.mkdir(parents=True, exist_ok=True)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(directory)
    tools = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([tools, os.environ.get("PATH", os.defpath)])


@contextmanager
def building(name: str) -> Iterator[None]:
    """Be the only process that builds the extension `name`; a stale lock file is removed."""
    directory = Path(os.environ["TORCH_EXTENSIONS_DIR"])
    with (directory / f"{name}.flock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (directory / name / "lock").unlink(missing_ok=True)
        yield


def leave_out_shared_memory_op() -> None:
    """Have DeepSpeed start without its shared-memory all-reduce, which it would build for itself.

    `shared_memory_op` builds it where it is needed: compiling it takes half a minute.
    """
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is not None:
        deepspeed.ops.__compatible_ops__[builder.NAME] = False


def shared_memory_op(*, one_host: bool) -> Any:
    """Return DeepSpeed's shared-memory all-reduce, or None where it cannot be had.

    It works only among the ranks of one host, and needs a C++ compiler the first time.
    """
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is None:
        return None
    reason = "the ranks are on several hosts"
    if one_host:
        try:
            with building(builder.NAME):
                return builder.load(verbose=False)
        except (RuntimeError, OSError, ImportError) as error:
            reason = f"it cannot be built here: {_last_line(error)}"
    print(f"All-reduce through gloo, not shared memory: {reason}", file=sys.stderr)  # noqa: T201
    return None


def unlink_shared_memory(rank: int) -> None:
    """Take away the name of this rank's segment; the mappings stay."""
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    name = f"deepspeed_allreduce_buffer_{os.getuid()}_{address}_{port}_{rank}"
    (_SHARED_MEMORY / name).unlink(missing_ok=True)


def _last_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
