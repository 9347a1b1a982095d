"""Settings of `serve_app`, read once when the application is built, from `SERVE_*` variables."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts import errors
from serve_app.errors import SettingsError

S = TypeVar("S", bound=BaseSettings)


class ServeSettings(BaseSettings):
    """Where the gateway listens, and how much work its deployments take."""

    model_config = SettingsConfigDict(env_prefix="SERVE_", frozen=True, env_ignore_empty=True)

    host: str = Field(default="127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port that the gateway listens on.")
    ingress: Literal["haproxy", "python"] = Field(
        default="haproxy" if sys.platform == "linux" else "python",
        description="What takes connections under serve_app.main: HAProxy, or Serve's own proxy.",
    )
    model_name: str = Field(
        default="isthmus",
        min_length=1,
        max_length=256,
        description="Model id under which clients reach retrieval-augmented answers.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="JSON file of API keys (docs/serving.md). Empty: everybody on this machine.",
    )
    oidc_issuer: str = Field(
        default="",
        description="Issuer URL of an OpenID Connect provider whose tokens are taken beside keys.",
    )
    oidc_audience: str = Field(default="", description="Audience that its tokens have to name.")
    oidc_tenant_claim: str = Field(
        default="tid", min_length=1, description="Claim that names the tenant; Entra ID's is tid."
    )
    oidc_rights_claim: str = Field(
        default="roles", min_length=1, description="Claim that lists ask, ingest, admin."
    )
    oidc_collections_claim: str = Field(
        default="collections", min_length=1, description="Claim that lists collections; * for all."
    )
    oidc_requests_per_minute: int | None = Field(
        default=None, ge=1, description="Requests a minute of a tenant that comes with tokens."
    )
    oidc_tokens_per_minute: int | None = Field(
        default=None, ge=1, description="LLM tokens a minute of a tenant that comes with tokens."
    )
    oidc_keys_s: float = Field(
        default=3600.0, gt=0, description="Seconds for which the provider's keys are kept."
    )
    max_request_bytes: int = Field(
        default=2 * 2**20, ge=1024, description="Largest JSON request body, in bytes."
    )
    body_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds after which a request is refused of whose body nothing more comes.",
    )
    max_ongoing_requests: int = Field(
        default=512, ge=1, description="Requests that one gateway replica works on at once."
    )
    max_queued_requests: int = Field(
        default=512, ge=1, description="Requests that wait for a replica before others get a 503."
    )
    max_llm_requests: int = Field(
        default=256,
        ge=1,
        description="Requests that one gateway replica has at the LLM service at once, at most; "
        "fewer when the service reports that it can take fewer.",
    )
    max_waiting: int = Field(
        default=64,
        ge=0,
        description="Requests that wait for the LLM service in one gateway replica, shared fairly "
        "between tenants, before others are refused.",
    )
    max_wait_s: float = Field(
        default=10.0, gt=0, description="Seconds that a request waits for the LLM service."
    )
    max_held: int = Field(
        default=64,
        ge=0,
        description="Streamed requests that one gateway replica holds while the LLM service "
        "starts, before others get a 503.",
    )
    on_llm_failure: Literal["refuse", "passages"] = Field(
        default="refuse",
        description="When no model can answer: refuse with a 503 that carries the passages found, "
        "or answer 200 with the passages, marked degraded.",
    )
    on_retrieval_failure: Literal["refuse", "answer"] = Field(
        default="refuse",
        description="When documents cannot be searched: refuse with a 503, or have the model "
        "answer alone, marked ungrounded.",
    )
    redis_url: SecretStr = Field(
        default=SecretStr(""),
        description="redis:// or rediss:// URL that replicas share: limits, resumed streams. "
        "Empty: each replica has its own.",
    )
    resume_window_s: float = Field(
        default=60.0,
        gt=0,
        description="Seconds in which a dropped stream can be resumed, where a client asks for it.",
    )
    resume_max_mib: float = Field(
        default=32.0,
        ge=0,
        description="Memory for resumable streams at one gateway replica, MiB; 0: none resumes.",
    )
    readiness_timeout_s: float = Field(
        default=2.0, gt=0, description="Seconds that /readyz waits for each part to answer."
    )
    shutdown_timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds that a stopping replica lets answers finish."
    )
    ray_cpus: int = Field(
        default=2, ge=1, description="CPUs that a local Ray instance of our own offers."
    )
    ray_object_store_mib: int = Field(
        default=256, ge=80, description="Object store of a local Ray instance of our own, MiB."
    )


def read(kind: type[S], given: Mapping[str, Any] = MappingProxyType({})) -> S:
    """Return settings from the environment.

    Args:
        kind: which.
        given: values that override the environment, by the setting's name, such as RAG_TOP_K; of
            other settings they are ignored.

    Raises:
        SettingsError: a value cannot be; the message names its variable.
    """
    prefix = str(kind.model_config["env_prefix"])
    values = {
        name.removeprefix(prefix).lower(): value
        for name, value in given.items()
        if name.startswith(prefix)
    }
    try:
        return kind(**values)
    except ValidationError as error:
        said = errors.of_settings(error, prefix)
        raise SettingsError(f"{said} `isthmus config` lists the settings.") from error
