"""Which settings an evaluation reads: two values of any other make no difference to compare.

A module without imports of weight, for the command to look before it loads a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rag_graph.settings import RagSettings

RETRIEVAL = frozenset(
    {
        "embedder_url",
        "embedder_model",
        "embedder_dimension",
        "embedder_api_key",
        "embedder_timeout_s",
        "embedder_query_prompt",
        "embedder_document_prompt",
        "reranker_dir",
        "reranker_url",
        "reranker_model",
        "reranker_api_key",
        "reranker_timeout_s",
        "rerank_candidates",
        "chunk_tokens",
        "candidates",
        "probes",
        "rank_constant",
        "index_rows",
        "resident_bytes",
    }
)
ANSWERS = RETRIEVAL | {
    "top_k",
    "context_tokens",
    "min_evidence",
    "max_parts",
    "mcp_file",
    "tool_steps",
    "tool_tokens",
    "llm_url",
    "llm_fallback_url",
    "llm_model",
    "llm_api_key",
    "llm_tls_ca",
    "llm_tls_cert",
    "llm_tls_key",
    "models_file",
    "answer_budget",
    "max_tokens",
    "temperature",
    "timeout_s",
    "connect_timeout_s",
    "first_token_timeout_s",
}
BY_EVAL: Mapping[str, frozenset[str]] = {"retrieval": RETRIEVAL, "answers": ANSWERS}


_SWITCHES = frozenset({"embedder_url", "reranker_dir", "reranker_url"})
"""Empty, they say that the bundled embedder is used, or no reranker."""


def idle(names: Iterable[str], settings: RagSettings) -> str | None:
    """Return why one of the settings `names` is without effect in `settings`, or None."""
    for name in sorted(set(names) - _SWITCHES):
        if name.startswith("rerank") and not settings.reranks:
            return f"{name} makes no difference without reranker_dir or reranker_url."
        if name.startswith("embedder_") and not settings.embedder_url:
            return f"{name} makes no difference without embedder_url."
    return None
