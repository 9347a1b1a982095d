"""The gateway with its work stubbed, beside the least that Ray Serve does (`bench.gateway_floor`).

One HAProxy and one Ray serve, each with a replica of its own:

* `/floor`: an ingress that makes one empty handle call,
* `/graph`: the same around a LangGraph graph of two empty nodes,
* `/stubs`: the gateway, whose retriever has the passage ready and whose model says a word at once,
* `/mock`: the gateway with that retriever and the mock LLM, over HTTP.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypedDict

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

from bench.instant import Instant
from rag_graph.settings import RagSettings
from rag_graph.state import Passage, SearchQuery
from serve_app import own_ray
from serve_app.deployments.gateway import GatewayReplica
from serve_app.garbage import collect_rarely
from serve_app.settings import ServeSettings

PASSAGE = Passage(
    "c", "d", "Node pools", "pools.md", "GPU node pools carry a taint.", 1.0, similarity=0.9
)
SERVED: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0}, "max_ongoing_requests": 100}


class Stub:
    """A retriever, and an ingestor, with nothing to do."""

    def __init__(self) -> None:
        collect_rarely()

    async def search(self, _: SearchQuery) -> list[Passage]:
        """Return the passage."""
        return [PASSAGE]

    async def nothing(self) -> None:
        """Do nothing."""


class InstantGateway(GatewayReplica):
    """The gateway, whose model is stubbed too."""

    def __init__(
        self, settings: ServeSettings, rag: RagSettings, stub: DeploymentHandle[Stub]
    ) -> None:
        from rag_graph.graph import RagGraph

        super().__init__(settings, rag, stub, stub)  # type: ignore[arg-type]  # stands in for both
        services, llm = self._services, Instant("http://instant.invalid")
        answer = RagGraph(services.search, llm, rag, services.memory).answer
        self._services = replace(services, llm=llm, answer=answer)


class Floor:
    """Makes one empty handle call."""

    def __init__(self, stub: DeploymentHandle[Stub]) -> None:
        collect_rarely()
        self._nothing = stub.options(method_name="nothing", request_serialization="pickle")

    async def __call__(self, _: Request) -> dict[str, str]:
        """Answer."""
        await self._work()
        return {"status": "ok"}

    async def _work(self) -> None:
        await self._nothing.remote()


class _Nothing(TypedDict):
    done: int


class FloorWithGraph(Floor):
    """Makes it in the first of a graph's two nodes."""

    def __init__(self, stub: DeploymentHandle[Stub]) -> None:
        from langgraph.graph import END, START, StateGraph

        super().__init__(stub)

        async def call(state: _Nothing) -> _Nothing:
            await self._nothing.remote()
            return {"done": 1}

        async def rest(state: _Nothing) -> _Nothing:
            return {"done": 2}

        graph = StateGraph(_Nothing)
        graph.add_node("call", call)
        graph.add_node("rest", rest)
        graph.add_edge(START, "call")
        graph.add_edge("call", "rest")
        graph.add_edge("rest", END)
        self._graph = graph.compile()

    async def _work(self) -> None:
        await self._graph.ainvoke({"done": 0})


def applications(settings: ServeSettings, rag: RagSettings) -> Mapping[str, Application]:
    """Return what is served, by its path."""
    alone = rag.model_copy(update={"llm_url": ""})
    return {
        "/floor": _deployed(Floor).bind(_stub()),
        "/graph": _deployed(FloorWithGraph).bind(_stub()),
        "/stubs": _deployed(serve.ingress()(InstantGateway)).bind(settings, alone, _stub()),
        "/mock": _deployed(serve.ingress()(GatewayReplica)).bind(settings, rag, _stub(), _stub()),
    }


def _stub() -> Application:
    return _deployed(Stub).bind()


def _deployed(replica: type) -> serve.Deployment:
    decorate: Callable[[type], serve.Deployment] = serve.deployment(**SERVED)
    return decorate(replica)


def run(settings: ServeSettings, rag: RagSettings) -> None:
    """Serve until an interrupt comes."""
    http = {"host": settings.host, "port": settings.port}
    quiet = {"enable_access_log": False}
    with own_ray.running(settings):
        serve.start(proxy_location="HeadOnly", http_options=http)
        try:
            for path, application in applications(settings, rag).items():
                serve.run(application, name=path[1:], route_prefix=path, logging_config=quiet)
            signal.pause()
        finally:
            serve.shutdown()  # type: ignore[no-untyped-call]
