"""Every case renders alike with both Helms, and is what the API server would accept."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.support import chart, crds

KUBERNETES = "1.34"
NATIVE = ("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1")
NATIVE_GROUPS = (
    *NATIVE,
    "rbac.authorization.k8s.io/v1",
    "storage.k8s.io/v1",
    "discovery.k8s.io/v1",
)
UNDEFINED = {"SecretProviderClass"}
"""Kinds whose definitions ../shared/crds does not have: the template's own test is all there is."""


@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize(
    "file", ["values.yaml", "values-dev.yaml", "values-prod.yaml", "values-spot.yaml"]
)
def test_lint(major: int, file: str) -> None:
    result = chart.helm(major, "lint", "--strict", ".", "--values", file)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("case", chart.MATRIX)
def test_both_helms_agree(case: str) -> None:
    assert chart.rendered(case, major=3) == chart.rendered(case, major=4)


@pytest.mark.parametrize("case", chart.MATRIX)
def test_native_kinds_are_strictly_valid(case: str) -> None:
    for document in chart.rendered(case):
        if document["apiVersion"] in NATIVE_GROUPS:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("case", chart.MATRIX)
def test_custom_kinds_are_strictly_valid(case: str) -> None:
    definitions = crds.load()
    for document in chart.rendered(case):
        custom = document["apiVersion"] not in NATIVE_GROUPS
        if custom and document["kind"] not in UNDEFINED:
            assert definitions.errors(document) == [], document["metadata"]["name"]


def _planted(document: dict[str, Any], path: list[Any], key: str) -> dict[str, Any]:
    for step in path:
        document = document[step]
    document[key] = document.pop(key[:-1]) if key[:-1] in document else 1
    return document


POD = ["spec", "rayClusterConfig", "headGroupSpec", "template", "spec"]


@pytest.mark.parametrize(
    ("kind", "path", "typo"),
    [
        ("RayService", ["spec"], "serveConfigV2s"),
        ("RayService", POD, "affinitys"),
        ("RayService", [*POD, "containers", 0], "resourcess"),
        ("MPIJob", ["spec"], "slotsPerWorkers"),
        ("MPIJob", ["spec", "mpiReplicaSpecs", "Launcher", "template", "spec"], "tolerationss"),
        ("Certificate", ["spec"], "dnsNamess"),
    ],
)
def test_a_misspelt_field_of_a_custom_kind_is_refused(
    kind: str, path: list[Any], typo: str
) -> None:
    definitions = crds.load()
    manifests = copy.deepcopy(chart.rendered("mtls"))
    document = next(m for m in manifests if m["kind"] == kind)
    _planted(document, path, typo)
    assert any(typo in error for error in definitions.errors(document))


def test_a_cel_rule_is_applied() -> None:
    definitions = crds.load()
    document = chart.one(chart.rendered("default"), "RayService")
    spec = {**document["spec"], "managedBy": "somebody-else"}
    assert any("managedBy" in e for e in definitions.errors({**document, "spec": spec}))


def test_a_misspelt_field_of_a_native_kind_is_refused() -> None:
    policy = dict(chart.objects(chart.rendered("prod"), "NetworkPolicy")["isthmus-ray"])
    policy["spec"] = {**policy["spec"], "podSelectors": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(policy, KUBERNETES, strict=True)


def test_every_template_is_rendered_by_some_case() -> None:
    """A template that no case reaches would never be validated."""
    templates = {
        p.relative_to(chart.CHART).as_posix()
        for p in chart.CHART.glob("templates/**/*.yaml")
        if p.name != "validate.yaml"
    }
    for case in chart.MATRIX:
        file, values = chart.MATRIX[case]
        text = chart.text(values, file)
        templates -= {t for t in templates if f"# Source: isthmus/{t}" in text}
    assert templates == set()


def test_every_template_has_a_test_of_its_own() -> None:
    tests = {p.name for p in (Path(__file__).parent / "templates").glob("test_*.py")}
    for template in chart.CHART.glob("templates/**/*.yaml"):
        if template.name != "validate.yaml":
            stem = template.stem.replace("-", "_")
            name = f"test_helm_{stem}.py" if template.parent.name == "tests" else f"test_{stem}.py"
            assert name in tests, template.name


def test_the_notes_tell_the_next_step() -> None:
    result = chart.helm(4, "install", "isthmus", ".", "--dry-run=client", "--namespace", "rag")
    assert "isthmus cluster wait isthmus --namespace rag" in result.stdout, result.stderr
