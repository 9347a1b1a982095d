"""Base URLs of services, checked where they are set rather than at the first question."""

from __future__ import annotations

from urllib.parse import urlsplit


def check(url: str, *, credentials: bool = False) -> None:
    """Accept a URL that can be asked.

    Args:
        url: of a service.
        credentials: whether a user and a password in it are sent.

    Raises:
        ValueError: it cannot; the message says why, without its credentials.
    """
    example = "a URL such as http://127.0.0.1:8001/v1"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url.rpartition('@')[2]!r} is not {example}: {error}") from error
    if "@" in parts.netloc and not credentials:
        raise ValueError(
            f"the URL of {parts.hostname} carries a user or password, which is not sent: "
            "take it out, and set an API key if the service wants one"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"{url.rpartition('@')[2]!r} is not {example}")
