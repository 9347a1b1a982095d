"""How requests end, as the metrics tell it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from contracts import telemetry
from contracts.errors import Code
from llm_backend.api.choice import Choice
from llm_backend.api.dispatcher import Dispatcher
from llm_backend.api.exchange import Exchange
from llm_backend.api.formats import TextFormat
from llm_backend.api.metrics import Metrics
from llm_backend.api.stops import StopStrings
from llm_backend.errors import RequestError
from llm_backend.models.tokenizer import Tokenizer
from llm_backend.runtime import ipc
from llm_backend.runtime.supervisor import State, Status
from llm_backend.settings import LlmSettings
from tests.support.tiny_model import write_tiny_model

COUNTED = {telemetry.LLM_REQUESTS_TOTAL: "", telemetry.LLM_PROMPT_TOKENS_TOTAL: "prompt"}
TOKEN = ipc.Output("r", [70])


class Rig:
    """One streamed request of three prompt tokens, and the engine that answers it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.metrics = Metrics()
        self.dispatcher = Dispatcher(LlmSettings(stream_buffer_tokens=16))
        self.dispatcher.engine_up(ipc.Ready(100, 10, 16, "hash"), lambda _: None)
        self.exchange = Exchange(
            self.dispatcher,
            self.metrics,
            [ipc.Submit("r", [70, 71, 72], ipc.SamplingParams(), 50)],
            [Choice(0, tokenizer.detokenizer(), StopStrings([]))],
            TextFormat({"id": "x", "created": 1, "model": "m"}, 1, tokenizer, logprobs=False),
            1,
            streamed=True,
        )
        self.frames = self.exchange.frames(include_usage=False)

    def says(self, *outputs: ipc.Output) -> None:
        self.dispatcher.engine_says(ipc.Outputs(list(outputs)))

    async def code(self) -> str | None:
        """Read to the end; return the code of the error, if it is one."""
        try:
            async for _ in self.frames:
                pass
        except RequestError as error:
            return error.code
        return None

    def counted(self) -> dict[str, float]:
        """Return the requests by outcome, and the prompt tokens."""
        text = self.metrics.render(Status(State.READY), ipc.Stats()).decode()
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        found = {s.labels.get("outcome", s.name): s.value for s in samples if s.name in COUNTED}
        return {COUNTED.get(name, name): value for name, value in found.items()}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(Tokenizer(write_tiny_model(tmp_path)))


async def test_an_answer(rig: Rig) -> None:
    rig.says(TOKEN, ipc.Output("r", [70], "length"))
    assert await rig.code() is None
    assert rig.counted() == {"ok": 1, "prompt": 3}


async def test_an_engine_that_fails(rig: Rig) -> None:
    rig.says(TOKEN)
    rig.dispatcher.engine_down("rank 1 ended")
    assert await rig.code() == Code.NOT_READY
    assert rig.counted() == {Code.NOT_READY: 1, "prompt": 0}


async def test_a_deadline_that_passes(rig: Rig) -> None:
    rig.dispatcher.engine_says(ipc.Rejected("r", Code.REQUEST_TIMEOUT, "Too late."))
    assert await rig.code() == Code.REQUEST_TIMEOUT
    assert rig.counted() == {Code.REQUEST_TIMEOUT: 1, "prompt": 0}


async def test_a_reader_that_is_cut(rig: Rig) -> None:
    for _ in range(17):
        rig.says(TOKEN)
    assert await rig.code() == Code.OVERLOADED
    assert rig.counted() == {Code.OVERLOADED: 1, "prompt": 0}


async def test_a_client_that_leaves(rig: Rig) -> None:
    rig.says(TOKEN)
    reading = asyncio.create_task(rig.code())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert rig.counted() == {"aborted": 1, "prompt": 0}
