"""The exception tree, and that no failure of the client library escapes it."""

from __future__ import annotations

import inspect
import pickle

import httpx2
import lightkube
import pytest
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster as Server
from lightkube.config.models import User

from kuberay import errors
from kuberay.client import Cluster


def _failures() -> list[type[Exception]]:
    found = [c for _, c in inspect.getmembers(httpx2, inspect.isclass)]
    return [c for c in found if issubclass(c, httpx2.RequestError)]


class Failing(httpx2.BaseTransport):
    def __init__(self, failure: type[Exception]) -> None:
        self.failure = failure

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        raise self.failure("on purpose")


def _through(transport: httpx2.BaseTransport) -> Cluster:
    config = KubeConfig.from_one(cluster=Server(server="http://127.0.0.1:1"), user=User())
    return Cluster(lightkube.Client(config, namespace="rag", transport=transport))


@pytest.mark.parametrize("failure", _failures())
def test_every_failure_of_the_transport_is_mapped(failure: type[Exception]) -> None:
    with (
        _through(Failing(failure)) as cluster,
        pytest.raises(errors.ApiError, match="Reading RayService x"),
    ):
        cluster.get("RayService", "x")


def test_an_answer_that_is_not_the_api_servers_is_mapped() -> None:
    class Proxy(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(502, html="<h1>Bad gateway</h1>", request=request)

    cluster = _through(Proxy())
    with pytest.raises(errors.ServerError, match="answered 502: Bad Gateway"):
        cluster.get("RayService", "x")


def test_api_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(errors.ConflictError("x was changed", 409)))  # noqa: S301
    assert (str(error), error.status) == ("x was changed", 409)


def test_the_docstring_draws_the_whole_tree() -> None:
    for name, member in inspect.getmembers(errors, inspect.isclass):
        if issubclass(member, errors.ClusterError):
            assert name in (errors.__doc__ or "")
