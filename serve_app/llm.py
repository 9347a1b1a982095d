"""The LLM service that a gateway talks to: what the settings name, or the mock in process."""

from __future__ import annotations

from contracts.mock_llm import MockLLM
from rag_graph import routing
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.llm.pool import LLM, open_llm
from rag_graph.llm.router import ModelRouter
from rag_graph.settings import RagSettings

MOCK_URL = "http://mock-llm.invalid"


def connect(rag: RagSettings) -> LLM:
    """Return a client; without any address the reference mock answers, in this process.

    Raises:
        ModelTableError: RAG_MODELS_FILE cannot be used.
        LLMTlsError: the files for mutual TLS cannot be used.
    """
    if rag.models_file:
        return ModelRouter.open(routing.load(rag.models_file), rag)
    if rag.llm_url:
        return open_llm(rag)
    return LLMClient(MOCK_URL, transport=StreamingASGITransport(MockLLM()))
