"""The LLM service that a gateway talks to: the one of the settings, or the mock in process."""

from __future__ import annotations

from contracts.mock_llm import MockLLM
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.settings import RagSettings

MOCK_URL = "http://mock-llm.invalid"


def connect(rag: RagSettings) -> LLMClient:
    """Return a client; without RAG_LLM_URL the reference mock answers, in this process."""
    if not rag.llm_url:
        return LLMClient(MOCK_URL, transport=StreamingASGITransport(MockLLM()))
    key = rag.llm_api_key.get_secret_value()
    return LLMClient(rag.llm_url, key, connect_timeout_s=rag.connect_timeout_s)
