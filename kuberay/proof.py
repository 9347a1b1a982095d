"""The promise of isolation, proven from rendered manifests and node pools before anything runs.

Ray pods are kept off GPU pools by two independent layers, the pools' taint and the pods' required
affinity; each must hold alone, so that losing either one by mistake is still safe. LLM ranks are
kept on GPU pools by their required affinity, and must claim the GPUs that they use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kuberay.errors import ManifestError
from kuberay.placement import GPU, Layer, NodePool, Pod, Taint, Verdict, judge_all


@dataclass(frozen=True)
class Proof:
    """Every verdict, and every broken promise as a sentence. Empty `findings`: proven."""

    verdicts: tuple[Verdict, ...]
    findings: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether no promise is broken."""
        return not self.findings


def prove(pods: Sequence[Pod], pools: Sequence[NodePool]) -> Proof:
    """Judge every pod against every pool and name each broken promise.

    Raises:
        ManifestError: there is no Ray pod or no GPU pool, so nothing would be proven.
    """
    if not any(pod.side == "ray" for pod in pods):
        raise ManifestError("The manifests hold no Ray pod, so there is nothing to prove.")
    if not any(pool.role == "gpu" for pool in pools):
        raise ManifestError("No node pool has the role gpu, so there is nothing to prove.")
    verdicts = judge_all(pods, pools)
    findings = [
        *_bypasses(pods),
        *_untainted(pools),
        *(text for verdict in verdicts for text in _cpu_side(verdict)),
        *(text for verdict in verdicts for text in _llm_strays(verdict)),
        *(text for pod in pods for text in _reach(pod, [v for v in verdicts if v.pod is pod])),
    ]
    return Proof(tuple(verdicts), tuple(findings))


def _bypasses(pods: Sequence[Pod]) -> Iterator[str]:
    """What no filter sees: a fixed node, and GPUs claimed on the wrong side."""
    for pod in pods:
        if pod.node_name:
            yield f"{pod.owner} sets nodeName, which bypasses the scheduler. Remove it."
        if pod.side != "llm" and (pod.advertised_gpus or GPU in pod.requests):
            yield f"{pod.owner} claims a GPU. Ray's side must request none, with num-gpus: 0."
        if pod.side == "llm" and not pod.requests.get(GPU):
            yield f"{pod.owner} claims no GPU. Set the limit {GPU}."


def _untainted(pools: Sequence[NodePool]) -> Iterator[str]:
    for pool in pools:
        hard = any(t.effect in ("NoSchedule", "NoExecute") for t in _own_taints(pool))
        if pool.role == "gpu" and not hard:
            yield f"GPU pool {pool.name} carries no taint of its own. Add sku=gpu:NoSchedule."


def _own_taints(pool: NodePool) -> list[Taint]:
    return [t for t in pool.taints if not t.key.startswith("kubernetes.azure.com/")]


def _cpu_side(verdict: Verdict) -> Iterator[str]:
    """Pods that are not LLM ranks stay off GPU pools; Ray's by both layers."""
    pod, pool = verdict.pod, verdict.pool
    if pod.side == "llm" or pool.role != "gpu":
        return
    if verdict.lands:
        yield f"{pod.owner} can land in GPU pool {pool.name}: neither layer holds it back."
        return
    if pod.side == "ray":
        yield from _missing_layers(verdict)


def _missing_layers(verdict: Verdict) -> Iterator[str]:
    pod, pool = verdict.pod, verdict.pool
    if Layer.TAINT not in verdict.blocked_by:
        yield (
            f"{pod.owner}: the taint layer is missing towards GPU pool {pool.name} (the pool's "
            "taint is absent or tolerated). Taint the pool and remove the toleration."
        )
    if Layer.AFFINITY not in verdict.blocked_by:
        yield (
            f"{pod.owner}: the affinity layer is missing towards GPU pool {pool.name}. "
            "Require the CPU pool's label in the pod's node affinity."
        )


def _llm_strays(verdict: Verdict) -> Iterator[str]:
    """LLM ranks stay on GPU pools by affinity, whatever else would keep them from the others."""
    pod, pool = verdict.pod, verdict.pool
    if pod.side == "llm" and pool.role != "gpu" and Layer.AFFINITY not in verdict.blocked_by:
        yield f"{pod.owner}: no affinity keeps it out of {pool.name} pool. Require the GPU pool."


def _reach(pod: Pod, verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Every pod has somewhere to go; an LLM rank a GPU pool, on demand if it only prefers spot."""
    homes = [v.pool for v in verdicts if v.lands]
    if not homes:
        yield f"{pod.owner} can land nowhere: {_why_not(pod, verdicts)}."
        return
    on_demand = any(v.pool.role == "gpu" and not v.pool.spot for v in verdicts)
    if pod.side == "llm" and on_demand and all(pool.spot for pool in homes):
        yield f"{pod.owner} can land on spot nodes only: an eviction leaves it no fallback."
    spot = [v for v in verdicts if v.pool.role == "gpu" and v.pool.spot]
    wants_spot = any(
        r.matches(v.pool.labels) for r in pod.preferred for v in spot if r.key in _SPOT
    )
    if pod.side == "llm" and wants_spot and not any(v.lands for v in spot):
        yield f"{pod.owner} prefers spot nodes but cannot land on any: {_why_not(pod, spot)}."


_SPOT = ("kubernetes.azure.com/scalesetpriority",)


def _why_not(pod: Pod, verdicts: Sequence[Verdict]) -> str:
    """The reasons at the pools that the pod is meant for, or everywhere if there is none."""
    meant = [v for v in verdicts if (v.pool.role == "gpu") == (pod.side == "llm")] or verdicts
    return "; ".join(f"{v.pool.name}: {', '.join(v.blocked_by.values())}" for v in meant)
