"""One request on its way through the engine."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field

from llm_backend.engine.guide import Guide
from llm_backend.runtime.ipc import SamplingParams


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and the answer so far, and how much of both is in the KV cache.

    Attributes:
        tokens: prompt and generated token ids, in order.
        num_prompt: how many of `tokens` are the prompt.
        max_length: `tokens` never grows beyond this many.
        deadline: engine clock, seconds, after which the request is dropped; None is never.
        blocks: KV cache blocks that hold it, in order; the last may be partly filled.
        num_computed: leading tokens whose keys and values are in `blocks`.
        guide: which tokens may come next; None for any.
        num_cached: prompt tokens that the prefix cache saved when it was first admitted.
    """

    request_id: str
    tokens: list[int]
    sampling: SamplingParams
    max_length: int
    tenant: str = ""
    cache_salt: str = ""
    deadline: float | None = None
    guide: Guide | None = None
    num_prompt: int = field(init=False)
    blocks: list[int] = field(default_factory=list)
    num_computed: int = 0
    num_cached: int | None = None
    _hashes: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.num_prompt = len(self.tokens)

    @property
    def num_uncomputed(self) -> int:
        """Tokens that must go through the model before the next one can be sampled."""
        return len(self.tokens) - self.num_computed

    @property
    def num_generated(self) -> int:
        """Tokens of the answer so far."""
        return len(self.tokens) - self.num_prompt

    @property
    def is_decoding(self) -> bool:
        """Whether only its newest token is missing from the KV cache."""
        return self.num_uncomputed == 1

    def block_hashes(self, block_size: int) -> list[bytes]:
        """Return the hash of each full block of `tokens`.

        A block's hash covers everything before it as well, and the salt, so that equal hashes
        mean equal keys and values. They are 128-bit BLAKE2b: a collision is not to be expected.
        """
        for i in range(len(self._hashes), len(self.tokens) // block_size):
            parent = self._hashes[-1] if self._hashes else self.cache_salt.encode()
            ids = array("i", self.tokens[i * block_size : (i + 1) * block_size])
            self._hashes.append(_digest(parent, ids.tobytes()))
        return self._hashes


def _digest(parent: bytes, block: bytes) -> bytes:
    # The parent goes in as the MAC key's input, length first, so no two pairs concatenate alike.
    head = len(parent).to_bytes(4, "little")
    return hashlib.blake2b(head + parent + block, digest_size=16).digest()
