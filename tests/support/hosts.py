"""Two hosts on one machine: network namespaces that a cable joins, and an agent in ssh's place.

The near host shares everything but the network with the tests. The far one has a name, shared
memory and temporary files of its own besides, so that nothing but the cable leads there.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x40000000

AGENT = """#!/bin/sh
# mpirun calls: agent HOST COMMAND...
[ "$1" = {far} ] || {{ echo "unknown host $1" >&2; exit 1; }}
shift
exec ip netns exec {namespace} unshare --uts --ipc --mount sh -c '
  hostname far-host
  mount -t tmpfs none /dev/shm
  mount -t tmpfs none {hidden}
  exec env -i HOME="$HOME" PATH="$PATH" sh -c "$1"' sh "$*"
"""
"""As under sshd, nothing of the caller's environment but what it takes to find programs."""


def available() -> bool:
    """Whether this machine lets us make hosts."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


@dataclass(frozen=True)
class Hosts:
    """Addresses of the two, and what mpirun needs to start ranks on both."""

    near: str
    far: str
    agent: Path
    namespaces: tuple[str, str]

    @property
    def mpirun_args(self) -> str:
        """Two ranks: the first near, the second far."""
        return f"--host {self.near}:1,{self.far}:1 --prtemca plm_ssh_agent {self.agent}"

    @contextmanager
    def near_network(self) -> Iterator[None]:
        """Have this thread, and what it starts, live in the near host's network."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.namespaces[0]}", os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(home)
            os.close(home)
            os.close(there)

    def cut(self) -> None:
        """Pull the cable."""
        _ip("-n", self.namespaces[1], "link", "set", "cable", "down")


@contextmanager
def two_hosts(directory: Path, hidden: Path) -> Iterator[Hosts]:
    """Make two hosts; the far one sees an empty `hidden`. They are gone at the end."""
    names = (f"near-{os.getpid()}", f"far-{os.getpid()}")
    addresses = ("10.213.7.1", "10.213.7.2")
    agent = directory / "agent"
    agent.write_text(AGENT.format(far=addresses[1], namespace=names[1], hidden=hidden))
    agent.chmod(0o755)
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        ends = [("cable", "netns", name) for name in names]
        _ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for name, address in zip(names, addresses, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            _ip("-n", name, "link", "set", "cable", "up")
        yield Hosts(*addresses, agent, names)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
