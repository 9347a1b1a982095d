"""The gateway's HTTP surface over fakes: no Ray, no network, no model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from contracts.mock_llm import MockLLM
from contracts.openai import Usage
from rag_graph.errors import RagError
from rag_graph.llm.asgi_transport import StreamingASGITransport
from rag_graph.llm.client import LLMClient
from rag_graph.memory import Memory
from rag_graph.settings import RagSettings
from rag_graph.state import (
    Answered,
    Citation,
    Event,
    Passage,
    Question,
    Retrieved,
    SearchQuery,
    Token,
)
from serve_app.api import create_api
from serve_app.auth import Keys
from serve_app.services import Services
from serve_app.settings import ServeSettings
from tests.support.library import FakeLibrary

PASSAGE = Passage("c1", "d1", "Pools", "docs/pools.md", "The taint is sku=gpu.", 0.5, 3, "Taints")
CITATION = Citation(1, "c1", "d1", "Pools", "docs/pools.md", 3, "Taints", "sku=gpu.", 0.5)


@dataclass
class Fakes:
    """What the routes call; a test sets what should fail and reads what was asked."""

    tokens: tuple[str, ...] = ("The taint", " is sku=gpu", ". [1]")
    fails_after: int | None = None
    """Tokens that come before `failure`; None: none fails."""
    failure: RagError | None = None
    search_failure: RagError | None = None
    llm_down: RagError | None = None
    questions: list[Question] = field(default_factory=list)
    queries: list[SearchQuery] = field(default_factory=list)
    library: FakeLibrary = field(default_factory=FakeLibrary)
    memory: Memory = field(default_factory=lambda: Memory(RagSettings(memory_url=":memory:")))
    closed: int = 0
    """Answers that ended, by themselves or because their reader went away."""

    async def answer(self, question: Question) -> AsyncGenerator[Event, None]:
        self.questions.append(question)
        try:
            if self.search_failure:
                raise self.search_failure
            yield Retrieved((PASSAGE,))
            for number, token in enumerate(self.tokens):
                self._fail_at(number)
                yield Token(token)
            self._fail_at(len(self.tokens))
            text, usage = "".join(self.tokens), Usage.of(7, len(self.tokens))
            yield Answered(text, (CITATION,), "stop", usage, "tiny", {"passages": 1})
        finally:
            self.closed += 1

    def touched(self) -> tuple[int, ...]:
        """Return how much was asked, searched, submitted and deleted."""
        library = self.library
        jobs, gone = len(library.known), len(library.deleted)
        return len(self.questions), len(self.queries), jobs, gone, len(library.names)

    def _fail_at(self, number: int) -> None:
        if self.fails_after == number and self.failure is not None:
            raise self.failure

    def services(self, keys: Keys) -> Services:
        """Return these fakes as what the routes stand on."""
        return Services(
            serve=ServeSettings(max_request_bytes=4096),
            rag=RagSettings(max_document_bytes=10_000, memory_url=":memory:"),
            answer=self.answer,
            llm=LLMClient("http://mock", transport=StreamingASGITransport(MockLLM())),
            search=self.search,
            library=self.library,
            collections=self.collections,
            checks={"retriever": self.check_retriever, "llm": self.check_llm},
            keys=keys,
            memory=self.memory,
        )

    async def search(self, query: SearchQuery) -> list[Passage]:
        self.queries.append(query)
        if self.search_failure:
            raise self.search_failure
        return [PASSAGE]

    async def collections(self) -> list[str]:
        return sorted(self.library.names)

    async def check_llm(self) -> None:
        if self.llm_down:
            raise self.llm_down

    async def check_retriever(self) -> None:
        return None


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
def keys() -> Keys:
    """The API keys of the gateway under test; a test module may override this."""
    return Keys(())


@pytest.fixture
async def client(fakes: Fakes, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    services = fakes.services(keys)
    transport = httpx.ASGITransport(create_api(services), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
    await services.opinions.aclose()
    await fakes.memory.aclose()
