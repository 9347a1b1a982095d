"""The client's own surface, against an API server over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kuberay.client import Cluster
from kuberay.errors import ClusterError, NotFoundError
from tests.support import fake_kube
from tests.support.fake_kube import FakeKube

JOB = {
    "apiVersion": "kubeflow.org/v2beta1",
    "kind": "MPIJob",
    "metadata": {"name": "llm"},
    "spec": {"slotsPerWorker": 1},
}


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKube]:
    with fake_kube.serving() as server:
        path = fake_kube.kubeconfig(tmp_path / "config", server.url)
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield server


def test_delete_removes_and_a_second_time_says_so(kube: FakeKube) -> None:
    kube.put(JOB)
    with Cluster.connect() as cluster:
        cluster.delete("MPIJob", "llm")
        assert kube.objects == {}
        with pytest.raises(NotFoundError, match="Deleting MPIJob llm: the API server answered 404"):
            cluster.delete("MPIJob", "llm")


def test_watch_yields_changes_until_the_object_is_gone(kube: FakeKube) -> None:
    kube.put(JOB)
    with Cluster.connect() as cluster:
        (seen,) = cluster.watch("MPIJob", "llm")
    assert seen["spec"] == JOB["spec"]
    _, _, query = kube.requests[-1]
    assert query["fieldSelector"] == ["metadata.name=llm"]


def test_the_namespace_may_be_given(kube: FakeKube) -> None:
    with Cluster.connect(namespace="other") as cluster:
        assert cluster.list_all("RayService") == []
    assert kube.requests[-1][1] == "/apis/ray.io/v1/namespaces/other/rayservices"


def test_an_unknown_context_is_said(kube: FakeKube) -> None:
    with pytest.raises(ClusterError, match="No cluster to talk to"):
        Cluster.connect(context="elsewhere")
