"""The RAG workload: prompts that share most of their head, as retrieval over few documents makes.

About 200 prompt tokens of which about 150 are a shared prefix (SmolLM2's tokenizer), 64 output
tokens, greedy, end-of-sequence ignored so that every server generates the same amount.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

SHARED = (
    "You answer questions about a Kubernetes cluster from the passages given, and from nothing "
    "else. Cite each passage you use by its number.\n"
    '<passage id="1" title="pools">The cluster has three node pools. The system pool runs the '
    "operators. The CPU pool runs retrieval and orchestration and scales between two and twenty "
    "nodes. The GPU pool runs the language model; its nodes carry a taint, so that only pods "
    "with a matching toleration can be scheduled there.</passage>\n"
    '<passage id="2" title="models">Weights are read from a mount that is shared by all replicas. '
    "A replica is ready once every rank has loaded its shard and the first step has run.</passage>"
)

_SUBJECTS = ("the system pool", "a rank", "the GPU pool", "a replica", "the mount", "a toleration")
_ASKS = ("What does", "Why would an operator change", "How many nodes could need", "Who reads")
_ENDS = ("during a rolling update", "when a node is drained", "at night", "under a burst of load")


@dataclass(frozen=True, slots=True)
class Workload:
    """A stream of chat requests, the same for the same seed.

    Attributes:
        output_tokens: tokens that each request generates.
        shared_prefix: whether prompts begin alike, or differ from their first word.
    """

    model: str
    output_tokens: int = 64
    shared_prefix: bool = True
    seed: int = 0

    def request(self, number: int) -> dict[str, Any]:
        """Return the body of the request `number`."""
        rng = random.Random(f"{self.seed}-{number}")
        question = (
            f"Question {number}: {rng.choice(_ASKS)} {rng.choice(_SUBJECTS)} "
            f"{rng.choice(_ENDS)}, and what should be checked first? "
            f"Ticket {rng.randrange(10**6):06d}, asked by team {rng.randrange(100)}."
        )
        head = SHARED if self.shared_prefix else f"Case {rng.randrange(10**6):06d}. {SHARED}"
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": f"{head}\n\n{question}"}],
            "max_tokens": self.output_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
