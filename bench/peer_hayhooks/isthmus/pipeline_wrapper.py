"""The pipeline of `bench.gateway peers` as a Haystack pipeline that Hayhooks serves.

Retriever, prompt and question are Isthmus's; everything between them is Haystack's, written as its
documentation does: retriever → ChatPromptBuilder → OpenAIChatGenerator.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from hayhooks import BasePipelineWrapper, async_streaming_generator
from haystack import Pipeline, component
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, Document
from haystack.utils import Secret

from rag_graph.prompts import HEAD
from rag_graph.retrieval.retriever import Retriever
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery

PASSAGES = (
    "{% for d in documents %}"
    '<passage id="{{ loop.index }}" title="{{ d.meta.title }}">{{ d.content }}</passage>'
    "{% if not loop.last %}\n\n{% endif %}{% endfor %}"
)


@component
class IsthmusRetriever:
    """Isthmus's retriever as a component."""

    def __init__(self, settings: RagSettings) -> None:
        self._settings = settings
        self._opening = asyncio.Lock()
        self._retriever: Retriever | None = None

    @component.output_types(documents=list[Document])
    def run(self, query: str) -> dict[str, Any]:
        """Haystack asks for one beside `run_async`."""
        raise NotImplementedError

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str) -> dict[str, Any]:
        """Return the passages for `query`."""
        async with self._opening:
            if self._retriever is None:
                self._retriever = await Retriever.open(self._settings)
        found = await self._retriever.search(SearchQuery(query))
        return {"documents": [Document(content=p.text, meta={"title": p.title}) for p in found]}


class PipelineWrapper(BasePipelineWrapper):  # type: ignore[misc]  # of another environment
    """What Hayhooks serves at /chat/completions."""

    def setup(self) -> None:
        """Build the pipeline."""
        settings = RagSettings()
        template = [
            ChatMessage.from_system(f"{HEAD}\n\n{PASSAGES}"),
            ChatMessage.from_user("{{ question }}"),
        ]
        pipeline = Pipeline()
        pipeline.add_component("retriever", IsthmusRetriever(settings))
        pipeline.add_component(
            "prompt", ChatPromptBuilder(template, required_variables=["documents", "question"])
        )
        pipeline.add_component(
            "llm",
            OpenAIChatGenerator(
                api_key=Secret.from_token("none"),
                model="mock",
                api_base_url=f"{settings.llm_url.removesuffix('/v1')}/v1",
                generation_kwargs={"max_completion_tokens": settings.max_tokens},
            ),
        )
        pipeline.connect("retriever.documents", "prompt.documents")
        pipeline.connect("prompt.prompt", "llm.messages")
        self.pipeline = pipeline

    async def run_chat_completion_async(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> str | AsyncGenerator[str, None]:
        """Answer the last message."""
        question = messages[-1]["content"]
        inputs = {"retriever": {"query": question}, "prompt": {"question": question}}
        if body.get("stream"):
            return async_streaming_generator(pipeline=self.pipeline, pipeline_run_args=inputs)
        answer = await self.pipeline.run_async(inputs)
        text: str = answer["llm"]["replies"][0].text
        return text
