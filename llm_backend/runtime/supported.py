"""Which architectures the engine runs: what it would answer wrongly is refused at the start."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from typing import Any

from llm_backend.errors import EngineStartError

_SUPPORTED = (
    "Supported are decoders with full causal attention in every layer, to which each token's "
    "position is told, and whose rotary frequencies are fixed."
)


def check(module: Any) -> None:
    """See that what the model computes for a sequence follows from its tokens and KV cache alone.

    Args:
        module: as Hugging Face made it.

    Raises:
        EngineStartError: it does not; the message names the cause.
    """
    for problem in _problems(module):
        raise _refusal(module.config, problem)


def check_layers(module: Any, found: Collection[int]) -> None:
    """See that attention was asked for in every layer.

    Args:
        module: the model.
        found: the layers, from 0, that asked for it.

    Raises:
        EngineStartError: in some layers it was not.
    """
    layers = module.config.get_text_config().num_hidden_layers
    if set(found) != set(range(layers)):
        problem = f"{len(found)} of its {layers} layers have attention that can be replaced"
        raise _refusal(module.config, problem)


def _problems(module: Any) -> Iterator[str]:
    config = module.config.get_text_config()
    if getattr(module, "_is_stateful", False):
        yield "it keeps a state besides keys and values"
    for name in ("num_attention_heads", "max_position_embeddings"):
        if not getattr(config, name, None):
            yield f"its config has no {name}"
    if "position_ids" not in inspect.signature(module.forward).parameters:
        yield "it takes no position_ids"
    for kind in _rope_types(module):
        # By the longest sequence of a step, so that an answer would depend on its batch.
        if kind == "longrope" or "dynamic" in kind:
            yield f"its rotary embedding, {kind!r}, changes with the length"


def _rope_types(module: Any) -> Iterator[str]:
    """Yield the kinds of rotary embedding in the model; some have one for each kind of layer."""
    for part in module.modules():
        kinds = getattr(part, "rope_type", None) or ()
        yield from [kinds] if isinstance(kinds, str) else dict(kinds).values()


def _refusal(config: Any, problem: str) -> EngineStartError:
    return EngineStartError(
        f"This engine cannot run the architecture {config.model_type!r}: {problem}. {_SUPPORTED}"
    )
