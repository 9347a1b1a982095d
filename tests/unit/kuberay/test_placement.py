"""Each filter against the scheduler's documented behaviour."""

from __future__ import annotations

from decimal import Decimal

import pytest

from kuberay.errors import ManifestError
from kuberay.placement import (
    GPU,
    Layer,
    NodePool,
    Pod,
    Requirement,
    Taint,
    Toleration,
    judge,
    parse_taint,
    parse_toleration,
)

SKU = Taint("sku", "gpu", "NoSchedule")


def pool(*taints: Taint, **labels: str) -> NodePool:
    return NodePool("p", "gpu", labels, taints, {"cpu": Decimal(4), GPU: Decimal(1)})


def pod(**fields: object) -> Pod:
    return Pod(owner="Pod/x", side="ray", **{"requests": {}, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"key": "sku", "value": "gpu"}, True),
        ({"key": "sku", "value": "gpu", "effect": "NoSchedule"}, True),
        ({"key": "sku", "value": "gpu", "effect": "NoExecute"}, False),
        ({"key": "sku", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "sku", "value": "cpu"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "sku", "operator": "Equal"}, False),
    ],
)
def test_toleration(toleration: dict[str, str], tolerated: bool) -> None:
    assert parse_toleration(toleration).tolerates(SKU) is tolerated


def test_a_soft_taint_excludes_nobody() -> None:
    soft = Taint("sku", "gpu", "PreferNoSchedule")
    assert judge(pod(), pool(soft)).lands
    assert not judge(pod(), pool(SKU)).lands
    assert not judge(pod(), pool(Taint("sku", "gpu", "NoExecute"))).lands


def test_every_hard_taint_needs_its_toleration() -> None:
    spot = Taint("spot", "true", "NoSchedule")
    tolerant = pod(tolerations=(Toleration("sku", "Exists"),))
    assert judge(tolerant, pool(SKU)).lands
    assert "spot=true" in judge(tolerant, pool(SKU, spot)).blocked_by[Layer.TAINT]


@pytest.mark.parametrize(
    ("requirement", "labels", "matches"),
    [
        (Requirement("a", "In", ("1", "2")), {"a": "2"}, True),
        (Requirement("a", "In", ("1",)), {}, False),
        (Requirement("a", "NotIn", ("1",)), {"a": "1"}, False),
        (Requirement("a", "NotIn", ("1",)), {}, True),
        (Requirement("a", "Exists"), {"a": ""}, True),
        (Requirement("a", "Exists"), {}, False),
        (Requirement("a", "DoesNotExist"), {}, True),
        (Requirement("a", "DoesNotExist"), {"a": ""}, False),
        (Requirement("a", "Gt", ("3",)), {"a": "4"}, True),
        (Requirement("a", "Gt", ("3",)), {"a": "3"}, False),
        (Requirement("a", "Lt", ("3",)), {"a": "2"}, True),
        (Requirement("a", "Lt", ("3",)), {"a": "x"}, False),
    ],
)
def test_requirement(requirement: Requirement, labels: dict[str, str], matches: bool) -> None:
    assert requirement.matches(labels) is matches


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ManifestError, match="no operator 'Near'"):
        Requirement("a", "Near").matches({})


def test_terms_are_alternatives_and_their_requirements_all_count() -> None:
    a, b = Requirement("a", "Exists"), Requirement("b", "Exists")
    assert judge(pod(required_terms=((a,), (b,))), pool(b="1")).lands
    assert not judge(pod(required_terms=((a, b),)), pool(b="1")).lands


@pytest.mark.parametrize("terms", [(), ((),)])
def test_an_empty_required_affinity_matches_no_node(
    terms: tuple[tuple[Requirement, ...], ...],
) -> None:
    assert Layer.AFFINITY in judge(pod(required_terms=terms), pool()).blocked_by


def test_node_selector_needs_the_exact_label() -> None:
    wanting = pod(node_selector={"pool": "cpu"})
    assert judge(wanting, pool(pool="cpu")).lands
    assert judge(wanting, pool(pool="gpu")).blocked_by == {
        Layer.AFFINITY: "requires label pool=cpu"
    }


def test_resources_are_compared_with_an_empty_node() -> None:
    assert judge(pod(requests={GPU: Decimal(1)}), pool()).lands
    assert judge(pod(requests={GPU: Decimal(2)}), pool()).blocked_by == {
        Layer.RESOURCES: "nvidia.com/gpu 2 > 1"
    }
    assert not judge(pod(requests={"rdma/hca": Decimal(1)}), pool()).lands


def test_a_verdict_names_every_layer_that_blocks() -> None:
    kept_out = pod(node_selector={"pool": "cpu"}, requests={"cpu": Decimal(5)})
    assert set(judge(kept_out, pool(SKU)).blocked_by) == set(Layer)


@pytest.mark.parametrize("text", ["sku=gpu", "sku=gpu:Never", "=gpu:NoSchedule"])
def test_a_broken_taint_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match="key=value:Effect"):
        parse_taint(text)


def test_a_taint_is_written_as_it_was_read() -> None:
    assert str(parse_taint("sku=gpu:NoSchedule")) == "sku=gpu:NoSchedule"
