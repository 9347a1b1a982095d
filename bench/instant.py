"""A stand-in for the LLM that takes no time, for benches of what is around it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from contracts.openai import ChatCompletionRequest, Model
from rag_graph.llm.client import LLMClient
from rag_graph.llm.transcript import End, Output, Piece


class Instant(LLMClient):
    """An LLM that says `tokens` words at once, no sentence twice."""

    tokens = 1

    async def models(self) -> list[Model]:
        """Return one model."""
        return [Model(id="instant", created=0, owned_by="bench")]

    async def stream(
        self,
        request: ChatCompletionRequest,
        timeout_s: float,
        extra_headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Output, None]:
        """Say the words."""
        for i in range(self.tokens):
            yield Piece(f" word{i % 97}" if i % 15 else f" in{i}.")
        yield End("stop", None, "instant")
