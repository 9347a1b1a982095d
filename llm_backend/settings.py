"""Settings of `llm_backend`, read once at a process's start from `LLM_*` environment variables.

The front end and every rank read the same variables, so that they agree without a side channel.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts import errors
from llm_backend.errors import SettingsError

BUNDLED = "bundled:"


class LlmSettings(BaseSettings):
    """Which model is served, on what, how much of it at once, and when it counts as broken."""

    model_config = SettingsConfigDict(env_prefix="LLM_", frozen=True, env_ignore_empty=True)

    # What is served, and where.
    model: str = Field(
        default="bundled:smollm2-135m-instruct",
        min_length=1,
        description="bundled:NAME, or a Hugging Face model in safetensors: its directory, or "
        "az://CONTAINER/PREFIX in Azure Blob Storage.",
    )
    served_model_name: str = Field(
        default="", description="Model id in the API. Empty: the last part of LLM_MODEL."
    )
    cache_dir: Path = Field(
        default=Path("~/.cache/isthmus"),
        description="Directory for converted and fetched models, and compiled kernels.",
    )
    cache_model: bool = Field(
        default=False,
        description="Copy a directory's model to LLM_CACHE_DIR first: for a share that is slower "
        "than the local disk. What comes from az:// always is.",
    )
    fetch_parallel: int = Field(
        default=8, ge=1, le=256, description="Pieces of 8 MiB that are fetched side by side."
    )
    fetch_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="Seconds that a storage which does not answer is asked again.",
    )
    host: str = Field(default="127.0.0.1", description="Address that the HTTP API listens on.")
    port: int = Field(default=8001, ge=0, le=65535, description="Port; 0 takes a free one.")

    # The engine: ranks and memory.
    tensor_parallel: int = Field(default=1, ge=1, le=64, description="MPI ranks of one model.")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where the model runs.")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Type of weights and KV cache."
    )
    threads_per_rank: int = Field(
        default=0, ge=0, description="CPU threads of a rank. 0: the cores divided by the ranks."
    )
    max_model_len: int = Field(
        default=0, ge=0, description="Context length, tokens. 0: what the model was trained for."
    )
    kv_cache_mib: int = Field(
        default=256, ge=8, description="KV cache of one model over all its ranks, MiB."
    )
    block_size: int = Field(default=16, ge=1, le=256, description="Tokens of one KV cache block.")
    max_num_seqs: int = Field(
        default=32, ge=1, le=4096, description="Most sequences that decode together."
    )
    max_batched_tokens: int = Field(
        default=0,
        ge=0,
        description="Token budget of one step, prefill and decode together; larger steps delay "
        "the tokens of running requests. 0: 128 on a CPU, 2048 on a GPU, at least max_num_seqs.",
    )
    kernels: Literal["auto", "plain"] = Field(
        default="auto",
        description="auto: C++ kernels on CPUs, for models of Llama's shape, and Triton's and CUDA "
        "graphs on GPUs; plain: torch only.",
    )
    prefix_cache: bool = Field(default=True, description="Reuse the KV blocks of shared prefixes.")

    # The engine: how it is started and watched.
    mpirun: str = Field(
        default="", description="mpirun to start. Empty: beside this Python, then on PATH."
    )
    mpirun_args: str = Field(
        default="", description="Further mpirun arguments, such as --hostfile, as a shell splits."
    )
    advertise_address: str = Field(
        default="",
        description="Address at which ranks on other hosts reach this one. Empty: what this host's "
        "name resolves to, else its first interface.",
    )
    lifeline_token: SecretStr = Field(
        default=SecretStr(""),
        description="Set by the front end for its ranks, anew at each start of the engine.",
    )
    start_timeout_s: float = Field(
        default=600.0, gt=0, description="Seconds that the engine may take to become ready."
    )
    heartbeat_timeout_s: float = Field(
        default=5.0, gt=0, description="Seconds of a rank's silence after which it counts as hung."
    )
    loading_heartbeat_timeout_s: float = Field(
        default=60.0, gt=0, description="The same while a rank imports and loads, seconds."
    )
    progress_timeout_s: float = Field(
        default=8.0, gt=0, description="Seconds without a step, while work waits, likewise."
    )
    restart_backoff_s: float = Field(
        default=0.5, gt=0, description="Pause before the first restart, seconds; doubles each time."
    )
    restart_backoff_max_s: float = Field(
        default=30.0, gt=0, description="Longest pause between restarts, seconds."
    )

    # Requests.
    max_waiting: int = Field(
        default=256, ge=0, description="Requests queued beyond max_num_seqs before refusal."
    )
    request_timeout_s: float = Field(
        default=600.0, gt=0, description="Deadline of a request that brings none, seconds."
    )
    drain_timeout_s: float = Field(
        default=20.0, ge=0, description="Seconds that running requests get after SIGTERM."
    )
    stream_buffer_tokens: int = Field(
        default=1024, ge=16, description="Tokens held for a slow client before it is cut off."
    )
    send_timeout_s: float = Field(
        default=30.0, gt=0, description="Seconds without progress before a connection is cut."
    )
    max_body_bytes: int = Field(
        default=4 * 2**20, ge=1024, description="Largest request body, bytes."
    )
    max_schema_bytes: int = Field(
        default=64 * 1024,
        ge=256,
        description="Largest JSON schema that an answer is held to, and largest sum of a request's "
        "tool schemas, bytes.",
    )
    api_key: SecretStr = Field(
        default=SecretStr(""), description="Bearer token that requests must carry. Empty: none."
    )
    tls_cert: Path | None = Field(default=None, description="PEM certificate chain; serves https.")
    tls_key: Path | None = Field(default=None, description="PEM private key of tls_cert.")
    tls_client_ca: Path | None = Field(
        default=None, description="PEM authority that clients' certificates must come from (mTLS)."
    )
    tls_client_names: str = Field(
        default="",
        description="DNS names, separated by commas, of which a client's certificate must bear "
        "one. Empty: every client of tls_client_ca.",
    )

    @field_validator("cache_dir", "tls_cert", "tls_key", "tls_client_ca")
    @classmethod
    def _expand(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if 0 < self.max_batched_tokens < self.max_num_seqs:
            raise ValueError("LLM_MAX_BATCHED_TOKENS must be 0 or at least LLM_MAX_NUM_SEQS")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("set both LLM_TLS_CERT and LLM_TLS_KEY, or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("LLM_TLS_CLIENT_CA needs LLM_TLS_CERT and LLM_TLS_KEY")
        if self.client_names and self.tls_client_ca is None:
            raise ValueError("LLM_TLS_CLIENT_NAMES needs LLM_TLS_CLIENT_CA")
        return self

    @property
    def client_names(self) -> list[str]:
        """The names of `tls_client_names`."""
        return [name.strip() for name in self.tls_client_names.split(",") if name.strip()]

    @property
    def step_tokens(self) -> int:
        """The token budget of one step."""
        usual = 128 if self.device == "cpu" else 2048
        return self.max_batched_tokens or max(usual, self.max_num_seqs)

    @property
    def model_name(self) -> str:
        """The last part of `model`."""
        return self.model.removeprefix(BUNDLED).rstrip("/").rpartition("/")[2]

    @property
    def model_id(self) -> str:
        """The model's name in the API."""
        return self.served_model_name or self.model_name


def load() -> LlmSettings:
    """Read the settings from the environment.

    Raises:
        SettingsError: a variable's value is not allowed; the message names the variable.
    """
    try:
        return LlmSettings()
    except ValidationError as error:
        raise SettingsError(errors.of_settings(error, "LLM_")) from error


def inherited_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment with `extra`, for a child that reads the same settings."""
    return {**os.environ, **extra}
