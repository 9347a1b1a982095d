"""TLS of the API, as the settings ask for it."""

from __future__ import annotations

import ssl

from contracts import tls
from llm_backend.errors import SettingsError
from llm_backend.settings import LlmSettings

RELOAD_S = 5.0
"""How often the certificate's files are looked at; cert-manager renews them in place."""


def server_tls(settings: LlmSettings) -> tls.Renewal | None:
    """Return the context that the settings ask for, or None for plain HTTP.

    Raises:
        SettingsError: a file cannot be read or does not fit the others.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = tls.TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    names = settings.client_names or None
    try:
        return tls.Renewal(files, lambda found: tls.server_context(found, names))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"The TLS files cannot be used ({error}): check LLM_TLS_CERT={files.cert}, "
            f"LLM_TLS_KEY={files.key} and LLM_TLS_CLIENT_CA={files.ca}."
        ) from error
