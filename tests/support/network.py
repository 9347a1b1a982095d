"""Would these NetworkPolicies let a connection through? The documented rules, evaluated.

Policies add up: a pod that some policy selects for a direction accepts only what some rule allows,
and a connection needs both its egress and its ingress side to agree.
Source: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

HERE = "rag"


@dataclass(frozen=True)
class Peer:
    """A pod by namespace and labels, or an address outside the cluster."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = HERE
    address: str = ""


@dataclass(frozen=True)
class Wanted:
    """What somebody wants to connect to."""

    port: int
    protocol: str


def _ours(side: str) -> Peer:
    release = {"app.kubernetes.io/name": "isthmus", "app.kubernetes.io/instance": "isthmus"}
    return Peer({**release, "isthmus.dev/side": side})


RAY, LLM, JOB, TEST = _ours("ray"), _ours("llm"), _ours("job"), _ours("test")
STRANGER = Peer({"app": "somebody-else"})


class Network:
    """The policies of one render."""

    def __init__(self, manifests: Sequence[dict[str, Any]]) -> None:
        self.policies = [m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"]

    def allows(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """Whether `source` can open a connection to `target` at `port`."""
        wanted = Wanted(port, protocol)
        return self._side(source, target, wanted, "Egress", "to") and self._side(
            target, source, wanted, "Ingress", "from"
        )

    def _side(self, pod: Peer, other: Peer, wanted: Wanted, direction: str, key: str) -> bool:
        selecting = [
            p
            for p in self.policies
            if direction in p["policyTypes"]
            and pod.namespace == HERE
            and not pod.address
            and _labels(p["podSelector"], pod.labels)
        ]
        rules = [rule for p in selecting for rule in p.get(direction.lower()) or ()]
        return not selecting or any(_matches(rule, other, wanted, key) for rule in rules)


def _matches(rule: dict[str, Any], other: Peer, wanted: Wanted, key: str) -> bool:
    peers, ports = rule.get(key), rule.get("ports")
    peer_fits = peers is None or any(_peer(p, other) for p in peers)
    return peer_fits and (ports is None or any(_port(p, wanted) for p in ports))


def _port(entry: dict[str, Any], wanted: Wanted) -> bool:
    first: int = entry["port"]
    in_range = first <= wanted.port <= int(entry.get("endPort", first))
    return in_range and entry.get("protocol", "TCP") == wanted.protocol


def _peer(entry: dict[str, Any], other: Peer) -> bool:
    if "ipBlock" in entry:
        network = ipaddress.ip_network(entry["ipBlock"]["cidr"])
        return bool(other.address) and ipaddress.ip_address(other.address) in network
    if other.address:
        return False
    if "namespaceSelector" in entry:
        names = {"kubernetes.io/metadata.name": other.namespace}
        if not _labels(entry["namespaceSelector"], names):
            return False
    elif other.namespace != HERE:
        return False
    return _labels(entry.get("podSelector", {}), other.labels)


def _labels(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted: dict[str, str] = selector.get("matchLabels") or {}
    return wanted.items() <= labels.items()
