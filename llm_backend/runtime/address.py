"""Where other hosts reach this one: what a job whose ranks are on several hosts starts from."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterator

from llm_backend.errors import EngineStartError

_SIOCGIFADDR = 0x8915  # an interface's IPv4 address: see netdevice(7)
_IFREQ = struct.Struct("16s4x4s16x")
_ANY_PORT = 9


def own_address(wanted: str) -> str:
    """Return this host's address: `wanted`, else what its name resolves to, else an interface's.

    Many Linux distributions let a host's name resolve to a loopback address; that and addresses
    of other hosts are passed over.

    Raises:
        EngineStartError: this host has no address but loopback, or does not have `wanted`.
    """
    if wanted:
        if _is_ours(wanted):
            return wanted
        raise EngineStartError(f"LLM_ADVERTISE_ADDRESS={wanted} is no address of this host.")
    for address in (*_resolved(), *interfaces()):
        if not address.startswith("127.") and _is_ours(address):
            return address
    raise EngineStartError(
        "LLM_MPIRUN_ARGS names hosts, but this one has no address that others could reach; set "
        "LLM_ADVERTISE_ADDRESS."
    )


def interface_towards(address: str) -> str | None:
    """Return the name of the interface by which this host reaches `address`; None if unknown."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, _ANY_PORT))  # sends nothing: it asks the kernel for the route
        return interfaces().get(probe.getsockname()[0])


def interfaces() -> dict[str, str]:
    """Return the names of this host's interfaces by their IPv4 addresses."""
    return {address: name for name, address in _addresses()}


def _addresses() -> Iterator[tuple[str, str]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = _IFREQ.pack(name.encode(), b"")
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, request)
            except OSError:
                continue  # it has no IPv4 address
            yield name, socket.inet_ntoa(_IFREQ.unpack(answer)[1])


def _resolved() -> list[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror:
        return []
    return [str(address[0]) for *_, address in found]


def _is_ours(address: str) -> bool:
    """Whether a socket can be bound to `address` here."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
