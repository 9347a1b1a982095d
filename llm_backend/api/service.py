"""What the routes share: the model's tokenizer, the dispatcher, and one request's preparation."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial

from contracts import headers
from contracts.tools import Tool
from llm_backend.api import prepare
from llm_backend.api.choice import Choice
from llm_backend.api.constraints import Constraints
from llm_backend.api.dispatcher import Dispatcher
from llm_backend.api.exchange import Exchange
from llm_backend.api.formats import ChatFormat, TextFormat
from llm_backend.api.metrics import Metrics
from llm_backend.api.stops import StopStrings
from llm_backend.api.texts import Texts
from llm_backend.api.tool_calls import ToolCallReader
from llm_backend.api.types import MAX_CHOICES, ChatRequest, SamplingRequest, TextRequest
from llm_backend.errors import InvalidRequestError, ModelUnknownError, NotReadyError
from llm_backend.models.tokenizer import Tokenizer
from llm_backend.runtime import ipc
from llm_backend.runtime.supervisor import Supervisor
from llm_backend.settings import LlmSettings


class Service:
    """Everything that a request needs. `tokenizer` comes once the model's files are there."""

    def __init__(
        self, settings: LlmSettings, dispatcher: Dispatcher, supervisor: Supervisor
    ) -> None:
        self.settings = settings
        self.dispatcher = dispatcher
        self.supervisor = supervisor
        self.metrics = Metrics()
        self.texts = Texts()
        self.tokenizer: Tokenizer | None = None
        self.created = int(time.time())
        self._constraints = Constraints(settings.max_schema_bytes)

    def check_model(self, model: str) -> None:
        """See that the model asked for is the one served.

        Raises:
            ModelUnknownError: it is not.
        """
        if model != self.settings.model_id:
            raise ModelUnknownError(
                f"The model {model!r} does not exist; this service has {self.settings.model_id!r}.",
                "model",
            )

    def need_tokenizer(self) -> Tokenizer:
        """Return the tokenizer.

        Raises:
            NotReadyError: the model is still being prepared.
        """
        if self.tokenizer is None:
            raise NotReadyError("The model is being prepared; try again soon.", None, 2)
        return self.tokenizer

    def close(self) -> None:
        """End the threads. No requests come any more."""
        self.texts.close()

    async def chat(self, wanted: ChatRequest, header: Mapping[str, str], size: int) -> Exchange:
        """Admit a chat completion whose body had `size` bytes.

        Raises:
            RequestError: it cannot be answered, or not now.
        """
        self.check_model(wanted.model)
        self.dispatcher.check_admission(wanted.n)
        tokenizer = self.need_tokenizer()
        tools = wanted.offered_tools
        limit = self._ready().max_model_len
        work = partial(prepare.chat_prompt, wanted.messages, tokenizer, tools, max_model_len=limit)
        prompt = await self.texts.work(work, size)
        grammar = await self._constraints.of(wanted, tokenizer.tool_format)
        return self._exchange(wanted, [prompt], header, ChatFormat, grammar, tools)

    async def complete(self, wanted: TextRequest, header: Mapping[str, str], size: int) -> Exchange:
        """Admit a text completion whose body had `size` bytes.

        Raises:
            RequestError: it cannot be answered, or not now.
        """
        self.check_model(wanted.model)
        sequences = len(wanted.prompts) * wanted.n
        if sequences > MAX_CHOICES:
            raise InvalidRequestError(
                f"{len(wanted.prompts)} prompts with n={wanted.n} are {sequences} sequences; at "
                f"most {MAX_CHOICES} are allowed in one request.",
                "n",
            )
        self.dispatcher.check_admission(sequences)
        tokenizer, ready = self.need_tokenizer(), self._ready()
        work = partial(
            prepare.text_prompts, wanted, tokenizer, ready.vocab_size, ready.max_model_len
        )
        prompts = await self.texts.work(work, size)
        grammar = await self._constraints.of(wanted, None)
        return self._exchange(wanted, prompts, header, TextFormat, grammar)

    def _exchange(
        self,
        wanted: SamplingRequest,
        prompts: Sequence[list[int]],
        header: Mapping[str, str],
        kind: type[ChatFormat | TextFormat],
        grammar: str,
        tools: Sequence[Tool] = (),
    ) -> Exchange:
        tokenizer = self.need_tokenizer()
        answer_id = f"{kind.ID}-{uuid.uuid4().hex}"
        submits = prepare.submits(
            wanted,
            prompts,
            prefix=answer_id,
            ready=self._ready(),
            tenant=header.get(headers.TENANT, wanted.user),
            deadline_s=self._deadline(header),
            grammar=grammar,
            salt=header.get(headers.TENANT, ""),
        )
        choices = [self._choice(i, wanted, tools) for i in range(len(submits))]
        head = {"id": answer_id, "created": int(time.time()), "model": self.settings.model_id}
        logprobs = wanted.logprobs_wanted is not None
        form = kind(head, len(choices), tokenizer, logprobs=logprobs)
        return Exchange(
            self.dispatcher,
            self.metrics,
            submits,
            choices,
            form,
            len(prompts),
            streamed=wanted.stream,
        )

    def _choice(self, index: int, wanted: SamplingRequest, tools: Sequence[Tool]) -> Choice:
        tokenizer = self.need_tokenizer()
        reader = None
        if tools and tokenizer.tool_format is not None:
            names = [tool.function.name for tool in tools]
            reader = ToolCallReader(tokenizer.tool_format, names)
        stops = StopStrings(wanted.stop_sequences)
        return Choice(index, tokenizer.detokenizer(), stops, reader, wanted.min_tokens)

    def _ready(self) -> ipc.Ready:
        if self.dispatcher.ready is None:
            raise NotReadyError("The engine is starting; try again soon.", None, 2)
        return self.dispatcher.ready

    def _deadline(self, header: Mapping[str, str]) -> float:
        """Return the seconds left: the caller's, but no more than the settings allow."""
        try:
            given = headers.deadline_seconds(header)
        except ValueError as error:
            raise InvalidRequestError(str(error), headers.DEADLINE_MS) from error
        most = self.settings.request_timeout_s
        return most if given is None else min(given, most)
