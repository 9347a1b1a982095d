"""What the front end and rank 0 say to each other: msgspec structs over one local ZeroMQ pair.

The front end binds a DEALER socket at `ipc://` in a private directory, one for each start of the
engine, so that nothing of an engine that died can reach its successor; rank 0 connects to it.

    front end -> rank 0   Submit, Cancel, Shutdown
    rank 0 -> front end   Loading ..., Ready, then Outputs after every step, Rejected, EngineFailed

Tokenisation stays in the front end: only token ids cross. Structs travel as MessagePack arrays;
a new field goes to the end and has a default.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import zmq


class _Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of what is sent on its own: the first element is the type's name."""


class _Part(msgspec.Struct, frozen=True, array_like=True):
    """Base of what is sent inside a message."""


class SamplingParams(_Part, frozen=True):
    """How the next token is chosen. The defaults are greedy, without any penalty.

    Attributes:
        temperature: 0 is greedy.
        top_k: 0 is no limit.
        seed: makes the choice reproducible whatever else is in the batch; None draws one.
        stop_token_ids: tokens that end the answer besides the model's end-of-sequence tokens;
            they are counted and sent.
        ignore_eos: keep going past end-of-sequence tokens.
        min_tokens: no end-of-sequence or stop token before this many tokens.
        logit_bias: (token id, added to its logit) pairs.
        logprobs: None for none, else how many alternatives to report with each token (0: only
            the chosen one).
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None


class Submit(_Message, frozen=True):
    """One sequence to generate.

    Attributes:
        prompt_ids: at least one token; with `max_tokens` at most `Ready.max_model_len`.
        max_tokens: most tokens to generate, at least 1.
        tenant: whom the scheduler is fair to.
        cache_salt: prefix-cache blocks are shared only under the same salt.
        deadline_s: seconds from now after which the request is rejected with
            `deadline_exceeded`, wherever it stands; None is never.
        grammar: what the answer must look like (`engine.grammar`); empty for no constraint.
    """

    request_id: str
    prompt_ids: list[int]
    sampling: SamplingParams
    max_tokens: int
    tenant: str = ""
    cache_salt: str = ""
    deadline_s: float | None = None
    grammar: str = ""


class Cancel(_Message, frozen=True):
    """Forget a request within a step; nothing more is sent for it. Unknown ids are no error."""

    request_id: str


class Shutdown(_Message, frozen=True):
    """End all ranks now, with exit code 0."""


class TokenLogprob(_Part, frozen=True):
    """Natural logarithm of a token's probability, and of its most likely alternatives."""

    logprob: float
    top: list[tuple[int, float]] = []


class Output(_Part, frozen=True):
    """What one step brought for one request.

    Attributes:
        token_ids: the new tokens, in order; the token that ended the answer is included.
        finish_reason: "stop" at an end-of-sequence or stop token, "length" at `max_tokens` or the
            context length, None while the request goes on.
        cached_tokens: prompt tokens that the prefix cache saved; final from the first output on.
        logprobs: one for each token of `token_ids` when they were asked for.
        stop_token: whether the last of `token_ids` is a special token that ended the answer and
            is not part of its text.
    """

    request_id: str
    token_ids: list[int]
    finish_reason: Literal["stop", "length"] | None = None
    cached_tokens: int = 0
    logprobs: list[TokenLogprob] | None = None
    stop_token: bool = False


class Stats(_Part, frozen=True):
    """Gauges and counters of the engine, counters since its start."""

    step: int = 0
    running: int = 0
    waiting: int = 0
    free_blocks: int = 0
    total_blocks: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0


class Outputs(_Message, frozen=True):
    """All that one step brought, in one message."""

    outputs: list[Output]
    stats: Stats = Stats()


class Rejected(_Message, frozen=True):
    """A request ended without a finish reason. `code` is one of `contracts.errors.Code`."""

    request_id: str
    code: str
    message: str


class Loading(_Message, frozen=True):
    """How far the start is: `phase` in words ("loading weights"), `percent` of the whole."""

    phase: str
    percent: float
    rank: int = 0


class Ready(_Message, frozen=True):
    """All ranks are loaded; requests may come.

    Attributes:
        max_model_len: context length in tokens, prompt and answer together.
        num_blocks: KV cache blocks, of `block_size` tokens.
        model_hash: hex digest of the weights as loaded.
        weights_bytes: weights of all ranks together.
        kv_cache_bytes: KV cache of all ranks together.
    """

    max_model_len: int
    num_blocks: int
    block_size: int
    model_hash: str
    weights_bytes: int = 0
    kv_cache_bytes: int = 0
    vocab_size: int = 0


class EngineFailed(_Message, frozen=True):
    """A rank cannot go on. `permanent`: a restart would fail in the same way."""

    message: str
    permanent: bool = False
    rank: int = 0


ToEngine = Submit | Cancel | Shutdown
ToFront = Outputs | Rejected | Loading | Ready | EngineFailed

_encoder = msgspec.msgpack.Encoder()
_to_engine: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
_to_front: msgspec.msgpack.Decoder[ToFront] = msgspec.msgpack.Decoder(ToFront)


def encode(message: ToEngine | ToFront) -> bytes:
    """Return the bytes of one message."""
    return _encoder.encode(message)


def decode_to_engine(raw: bytes) -> ToEngine:
    """Return the message that the front end sent.

    Raises:
        msgspec.ValidationError: it is none that rank 0 takes.
    """
    return _to_engine.decode(raw)


def decode_to_front(raw: bytes) -> ToFront:
    """Return the message that rank 0 sent.

    Raises:
        msgspec.ValidationError: it is none that the front end takes.
    """
    return _to_front.decode(raw)


def configure(socket: zmq.Socket[Any]) -> None:
    """Make sends never block or drop, and closing never wait for a peer that is gone."""
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.LINGER, 0)


def connect(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """Return rank 0's socket. Read it with `recv()`, write it with `send()`, from one thread."""
    socket = context.socket(zmq.DEALER)
    configure(socket)
    socket.connect(endpoint)
    return socket


class WorkerArguments(msgspec.Struct, frozen=True):
    """The command line of a rank: what its settings cannot tell it.

    Attributes:
        endpoint: where rank 0 connects to the front end, `ipc://...`.
        lifeline: Unix socket that every rank reports to (`runtime.lifeline`).
        model_dir: directory of the model, complete and in safetensors.
        remote_lifeline: `ADDRESS:PORT` of the same for ranks on other hosts; empty for none.
    """

    endpoint: str
    lifeline: str
    model_dir: Path
    remote_lifeline: str = ""

    def argv(self) -> list[str]:
        """Return the arguments as `parse` takes them."""
        names = ("--endpoint", self.endpoint, "--lifeline", self.lifeline)
        remote = ("--remote-lifeline", self.remote_lifeline) if self.remote_lifeline else ()
        return [*names, *remote, "--model-dir", str(self.model_dir)]

    @classmethod
    def parse(cls, argv: Sequence[str]) -> WorkerArguments:
        """Read a command line, without the program's name; exits with 2 on a wrong one."""
        parser = argparse.ArgumentParser(prog="llm_backend.runtime.worker")
        parser.add_argument("--endpoint", required=True)
        parser.add_argument("--lifeline", required=True)
        parser.add_argument("--model-dir", required=True, type=Path)
        parser.add_argument("--remote-lifeline", default="")
        given = parser.parse_args(argv)
        return cls(given.endpoint, given.lifeline, given.model_dir, given.remote_lifeline)
