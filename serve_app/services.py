"""What the HTTP routes stand on, as values that a test can replace.

The routes know no Ray: under Ray Serve these callables are calls to other deployments, in a unit
test they are plain functions.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rag_graph.llm.pool import LLM
from rag_graph.memory import Memory
from rag_graph.settings import RagSettings
from rag_graph.state import Event, Passage, Question, SearchQuery
from serve_app.admission import Admission
from serve_app.auth import Key, Keys, Right, bearer
from serve_app.degrade import Degrading
from serve_app.errors import RequestError
from serve_app.feedback import FeedbackStore
from serve_app.held import Held
from serve_app.library import Library
from serve_app.limits import Limiter
from serve_app.metrics import Metrics
from serve_app.oidc import Provider, looks_like_token
from serve_app.settings import ServeSettings

Answer = Callable[[Question], AsyncGenerator[Event, None]]
Search = Callable[[SearchQuery], Awaitable[list[Passage]]]
Collections = Callable[[], Awaitable[list[str]]]
Check = Callable[[], Awaitable[object]]
"""Returns when a part can do its work, raises otherwise."""


@dataclass(frozen=True)
class Services:
    """Everything that the routes call."""

    serve: ServeSettings
    rag: RagSettings
    answer: Answer
    llm: LLM
    search: Search
    library: Library
    collections: Collections
    checks: dict[str, Check]
    """Parts that have to work before the gateway counts as ready, by name."""
    keys: Keys
    memory: Memory
    oidc: Provider | None = None
    limiter: Limiter = field(default_factory=Limiter)
    admission: Admission = field(
        default_factory=lambda: Admission(ceiling=64, max_waiting=64, max_wait_s=10.0)
    )

    @property
    def metrics(self) -> Metrics:
        """What this replica counts."""
        return self.admission.metrics

    @cached_property
    def degrading(self) -> Degrading:
        """What answers when a part does not work."""
        return Degrading(self.serve, self.llm, self.metrics)

    @cached_property
    def opinions(self) -> FeedbackStore:
        """What people thought of their answers."""
        return FeedbackStore(self.rag.memory_url)

    @cached_property
    def held(self) -> Held:
        """The questions that wait for the LLM service to start."""
        return Held(self.llm, self.serve.max_held, self.metrics)

    @property
    def asks_for_keys(self) -> bool:
        """Whether requests have to say who they are."""
        return self.keys.required

    async def identify(self, sent: Mapping[str, str]) -> Key:
        """Return the key of a request with the headers `sent`.

        Raises:
            RequestError: it carries none, or none that is known.
            UnavailableError: it carries a token that cannot be checked now.
        """
        given = bearer(sent)
        if self.oidc is not None and looks_like_token(given):
            return await self.oidc.key(given)
        return self.keys.of(sent)

    async def admit(self, sent: Mapping[str, str]) -> Key:
        """Return the key of a request with the headers `sent`, having counted the request.

        Raises:
            RequestError: the key is unknown, or has used up its minute.
            UnavailableError: it carries a token that cannot be checked now.
        """
        key = await self.identify(sent)
        try:
            await self.limiter.admit(key)
        except RequestError:
            self.metrics.refused.labels("minute").inc()
            raise
        self.metrics.tenant_requests.labels(key.tenant).inc()
        return key

    async def authorize(self, sent: Mapping[str, str], right: Right, collection: str | None) -> Key:
        """Return the key of a request with the headers `sent`, admitted, which may do this.

        Raises:
            RequestError: the key is unknown, may not do this, or has used up its minute.
            UnavailableError: it carries a token that cannot be checked now.
        """
        key = await self.admit(sent)
        key.check(right, collection)
        return key
