"""An answer when a part does not work: passages without a model, or a model without passages.

Which of them, if any, is a setting. What is answered so is marked `degraded`, and `grounded` says
whether it rests on documents.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from contracts.openai import ChatCompletionRequest, ChatMessage
from rag_graph.errors import EmbedderError, LLMError, LLMRequestError, StoreError
from rag_graph.llm.pool import LLM
from rag_graph.llm.transcript import Output, Piece
from rag_graph.state import Answered, Citation, Event, Passage, Question, Retrieved, Token
from serve_app.errors import BusyError, UnavailableError
from serve_app.metrics import Metrics
from serve_app.settings import ServeSettings

RETRIEVAL_FAILURES = (UnavailableError, StoreError, EmbedderError)
QUOTE_CHARS = 300

Generate = Callable[[ChatCompletionRequest], AsyncGenerator[Output, None]]


class Degrading:
    """Answers as well as what works allows."""

    def __init__(self, settings: ServeSettings, llm: LLM, metrics: Metrics) -> None:
        self._settings = settings
        self._llm = llm
        self._metrics = metrics

    async def answer(
        self, question: Question, events: AsyncGenerator[Event, None], generate: Generate
    ) -> AsyncGenerator[Event, None]:
        """Yield `events`, and what the settings put in the place of a failure before a token.

        Args:
            question: what was asked.
            events: its answer.
            generate: has a model answer alone.

        Raises:
            RagError: as `events`, where the settings say to refuse.
            ServeAppError: likewise.
        """
        passages: tuple[Passage, ...] | None = None
        spoken = False
        try:
            async with aclosing(events):
                async for event in events:
                    spoken = spoken or isinstance(event, Token)
                    if isinstance(event, Retrieved):
                        passages = event.passages
                    yield event
        except (LLMError, *RETRIEVAL_FAILURES) as error:
            if spoken or isinstance(error, LLMRequestError | BusyError):
                raise
            instead = self._instead(question, passages, generate, error)
            if instead is not None or passages:
                self._metrics.degraded.inc()
            if instead is None:
                raise
        else:
            return
        async with aclosing(instead):
            async for event in instead:
                yield event

    def _instead(
        self,
        question: Question,
        passages: tuple[Passage, ...] | None,
        generate: Generate,
        error: Exception,
    ) -> AsyncGenerator[Event, None] | None:
        """Return what the settings put in the place of an answer that failed with `error`."""
        if isinstance(error, LLMError):
            wanted = self._settings.on_llm_failure == "passages"
            return _passages_alone(passages, error) if wanted and passages else None
        wanted = self._settings.on_retrieval_failure == "answer"
        return self._model_alone(question, generate, error) if wanted else None

    async def _model_alone(
        self, question: Question, generate: Generate, reason: Exception
    ) -> AsyncGenerator[Event, None]:
        user = ChatMessage(role="user", content=question.text)
        request = ChatCompletionRequest(
            model=question.model or (await self._llm.models())[0].id,
            messages=[*question.history, user],
            max_tokens=question.max_tokens,
            temperature=question.temperature,
            top_p=question.top_p,
            seed=question.seed,
            stop=list(question.stop) or None,
        )
        yield Retrieved(())
        text: list[str] = []
        async with aclosing(generate(request)) as outputs:
            async for output in outputs:
                if isinstance(output, Piece):
                    text.append(output.text)
                    yield Token(output.text, output.tokens)
                else:
                    facts = {"degraded": True, "grounded": False, "reason": str(reason)}
                    yield Answered(
                        "".join(text),
                        (),
                        output.finish_reason,
                        output.usage,
                        output.model,
                        {"route": "ungrounded", **facts},
                    )


async def _passages_alone(
    passages: tuple[Passage, ...], reason: Exception
) -> AsyncGenerator[Event, None]:
    citations = tuple(_citation(number, p) for number, p in enumerate(passages, start=1))
    shown = zip(passages, citations, strict=True)
    quotes = "\n\n".join(f"{_cut_off(c.quote, p.text)} [{c.number}]" for p, c in shown)
    text = f"No model can answer now. These passages were found:\n\n{quotes}"
    facts = {"degraded": True, "grounded": True, "reason": str(reason)}
    yield Token(text)
    yield Answered(text, citations, "stop", None, "none", {"route": "passages", **facts})


def _cut_off(quote: str, text: str) -> str:
    """Return `quote`, with a sign where it is not all of `text`."""
    return quote if quote == text else f"{quote} …"


def _citation(number: int, passage: Passage) -> Citation:
    """Return a citation of the passage's beginning, word for word: the page marks it there."""
    text = passage.text
    return Citation(
        number,
        passage.chunk_id,
        passage.document_id,
        passage.title,
        passage.source,
        passage.page,
        passage.heading,
        text if len(text) <= QUOTE_CHARS else text[:QUOTE_CHARS].rstrip(),
        passage.score,
        "matched",
    )
