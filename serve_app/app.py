"""The Ray Serve application. Import path `serve_app.app:app`; with arguments, `:build`.

serve run serve_app.app:app
serve run serve_app.app:build RAG_LLM_URL=http://127.0.0.1:8001/v1 RAG_TOP_K=8
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray import serve
from ray.serve import Application

from rag_graph.settings import RagSettings
from serve_app.deployments.gateway import GatewayReplica
from serve_app.deployments.ingestor import IngestorReplica
from serve_app.deployments.retriever import RetrieverReplica
from serve_app.errors import SettingsError
from serve_app.settings import ServeSettings, read

CPU_SHARES = {"Gateway": 0.25, "Retriever": 0.5, "Ingestor": 0.25}
"""Ray CPUs that a replica reserves: one of each fits a one-core laptop. `configs/production.yaml`
gives them whole cores."""
SHUTDOWN_POLL_S = 0.5


def build(args: Mapping[str, Any]) -> Application:
    """Return the application.

    Settings are read here, once, and handed to every replica, so that all agree.

    Args:
        args: values that override the environment, by the setting's name, such as RAG_TOP_K.

    Raises:
        SettingsError: a name is unknown or a value cannot be.
    """
    settings, rag = read(ServeSettings, args), read(RagSettings, args)
    _refuse_unknown(args)
    if rag.llm_fallback_url and not rag.llm_url:
        raise SettingsError("RAG_LLM_FALLBACK_URL is set without RAG_LLM_URL; set that one too.")
    if settings.oidc_issuer and not settings.oidc_audience:
        raise SettingsError("SERVE_OIDC_ISSUER is set without SERVE_OIDC_AUDIENCE; set it too.")
    return _bind(settings, rag)


def _bind(settings: ServeSettings, rag: RagSettings) -> Application:
    retriever = _deployment(RetrieverReplica, "Retriever", settings).bind(rag)
    ingestor = _deployment(IngestorReplica, "Ingestor", settings).bind(rag)
    gateway = _deployment(serve.ingress()(GatewayReplica), "Gateway", settings)
    return gateway.bind(settings, rag, retriever, ingestor)


def _deployment(replica: type, name: str, settings: ServeSettings) -> serve.Deployment:
    decorate: Callable[[type], serve.Deployment] = serve.deployment(
        name=name,
        ray_actor_options={"num_cpus": CPU_SHARES[name], "num_gpus": 0},
        max_ongoing_requests=settings.max_ongoing_requests,
        max_queued_requests=settings.max_queued_requests,
        graceful_shutdown_timeout_s=settings.shutdown_timeout_s,
        graceful_shutdown_wait_loop_s=SHUTDOWN_POLL_S,
    )
    return decorate(replica)


def _refuse_unknown(args: Mapping[str, Any]) -> None:
    known = {
        f"{kind.model_config['env_prefix']}{field}".upper()
        for kind in (ServeSettings, RagSettings)
        for field in kind.model_fields
    }
    for name in args:
        if name not in known:
            raise SettingsError(f"There is no setting {name!r}. `isthmus config` lists them.")


app = build({})
