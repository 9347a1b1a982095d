"""Settings of the command line: where the processes listen.

The same variables as those processes read, since it starts and calls them; a test holds the
defaults against theirs.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class CliSettings(BaseSettings):
    """Read once when a command starts."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    isthmus_url: str = Field(
        default="",
        description="Base URL of the gateway. Empty: http://SERVE_HOST:SERVE_PORT.",
    )
    isthmus_api_key: SecretStr = Field(
        default=SecretStr(""), description="API key for the gateway. Empty: none."
    )
    isthmus_log_dir: Path = Field(
        default=Path("~/.local/state/isthmus"),
        description="Directory for the logs of the processes that `isthmus up` starts.",
    )
    isthmus_start_timeout_s: float = Field(
        default=600.0, gt=0, description="Seconds until `isthmus up` gives up waiting."
    )
    serve_host: str = Field(default="127.0.0.1", description="Address that the gateway listens on.")
    serve_port: int = Field(default=8000, ge=1, le=65535, description="Port of the gateway.")
    llm_host: str = Field(
        default="127.0.0.1", description="Address that the LLM service listens on."
    )
    llm_port: int = Field(default=8001, ge=1, le=65535, description="Port of the LLM service.")
    rag_llm_url: str = Field(
        default="",
        description="LLM service to use. Empty: `isthmus up` starts one of its own.",
    )

    @property
    def gateway_url(self) -> str:
        """Base URL of the gateway, without a slash at its end."""
        return (self.isthmus_url or _url(self.serve_host, self.serve_port)).rstrip("/")

    @property
    def llm_url(self) -> str:
        """Base URL of the LLM service, without a slash at its end."""
        return (self.rag_llm_url or _url(self.llm_host, self.llm_port)).rstrip("/")

    @property
    def log_dir(self) -> Path:
        """`isthmus_log_dir`, with the home directory in place of ~."""
        return self.isthmus_log_dir.expanduser()


def _url(host: str, port: int) -> str:
    """Return the URL by which this host reaches what listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - not bound
    return f"http://{reachable}:{port}"
