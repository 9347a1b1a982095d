"""Hand-built frames are held against the pydantic types they stand for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from contracts.openai import (
    ChatChunkChoice,
    ChatCompletionChunk,
    ChatDelta,
    Completion,
    CompletionChoice,
    Usage,
)
from contracts.sse import Decoder
from contracts.streaming import ChatFrames, CompletionFrames

HEAD = {"id": "chatcmpl-1", "created": 7, "model": 'a "quoted" model'}


def chat(frame: bytes) -> ChatCompletionChunk:
    (event,) = Decoder().feed(frame)
    return ChatCompletionChunk.model_validate_json(event.data)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_content_frames_carry_any_text(text: str) -> None:
    choice = ChatChunkChoice(index=2, delta=ChatDelta(content=text))
    assert chat(ChatFrames(**HEAD, index=2).content(text)) == ChatCompletionChunk(
        **HEAD, choices=[choice]
    )


def test_a_chat_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    frames = ChatFrames(**HEAD)
    assert chat(frames.role()).choices[0].delta == ChatDelta(role="assistant", content="")
    last = chat(frames.finish("length")).choices[0]
    assert (last.delta, last.finish_reason) == (ChatDelta(), "length")


def test_the_usage_frame_has_no_choices_and_takes_extensions() -> None:
    frame = ChatFrames(**HEAD).usage(Usage.of(3, 4), citations=[1])
    assert chat(frame) == ChatCompletionChunk(**HEAD, choices=[], usage=Usage.of(3, 4))
    assert b'"citations": [1]' in frame


def test_completion_frames() -> None:
    frames = CompletionFrames(**HEAD)
    (text,) = Decoder().feed(frames.content("é\n"))
    assert Completion.model_validate_json(text.data) == Completion(
        **HEAD, choices=[CompletionChoice(text="é\n")]
    )
    (end,) = Decoder().feed(frames.finish("stop"))
    assert Completion.model_validate_json(end.data).choices[0].finish_reason == "stop"
