"""The deployment that speaks HTTP: I/O-bound, it runs the graph and calls the other two."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ray.serve.handle import DeploymentHandle

from rag_graph.settings import RagSettings
from serve_app.autoscaling import WAITING
from serve_app.deployments.ingestor import IngestorReplica
from serve_app.deployments.retriever import RetrieverReplica
from serve_app.garbage import collect_rarely
from serve_app.settings import ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI


class GatewayReplica:
    """One copy of the gateway."""

    def __init__(
        self,
        serve: ServeSettings,
        rag: RagSettings,
        retriever: DeploymentHandle[RetrieverReplica],
        ingestor: DeploymentHandle[IngestorReplica],
    ) -> None:
        # Imported here for the reason given in `deployments/retriever.py`: LangGraph, MCP.
        from rag_graph.graph import RagGraph
        from rag_graph.memory import Memory
        from serve_app.admission import Admission
        from serve_app.auth import load
        from serve_app.deployments.calls import Remote
        from serve_app.deployments.library import RemoteLibrary
        from serve_app.limits import Limiter
        from serve_app.llm import connect
        from serve_app.oidc import Provider
        from serve_app.services import Services

        collect_rarely()
        retrievers, ingestors = Remote(retriever), Remote(ingestor)
        search = partial(retrievers.call, "search")
        llm, memory = connect(rag), Memory(rag)
        admission = Admission(serve.max_llm_requests, serve.max_waiting, serve.max_wait_s)
        llm.watch(admission.observe)
        self._services = Services(
            serve=serve,
            rag=rag,
            answer=RagGraph(search, llm, rag, memory).answer,
            memory=memory,
            llm=llm,
            search=search,
            library=RemoteLibrary(retrievers, ingestors),
            collections=partial(retrievers.call, "read", "names"),
            checks={"retriever": partial(retrievers.call, "check"), "llm": llm.models},
            keys=load(serve.api_keys_file, required=bool(serve.oidc_issuer)),
            oidc=Provider(serve) if serve.oidc_issuer else None,
            limiter=Limiter(serve.redis_url.get_secret_value()),
            admission=admission,
        )

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what `autoscaling.LLMAware` wants to know; Serve asks now and then."""
        return {WAITING: float(self._services.admission.waiting)}

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the HTTP application; Ray Serve calls this in the replica's event loop."""
        from serve_app.api import create_api

        return create_api(self._services)
