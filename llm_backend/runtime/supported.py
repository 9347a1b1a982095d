"""Which architectures the engine runs: what it would answer wrongly is refused at the start."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from llm_backend.errors import EngineStartError

_SUPPORTED = (
    "Supported are decoders with full causal attention in every layer, to which each token's "
    "position is told."
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


def steady_length(config: Any) -> int:
    """Return the longest context, in tokens, whose rotary frequencies are those of a shorter one.

    Beyond it transformers changes them by the longest sequence of a step, so that an answer would
    depend on its batch: with "longrope" from the length of the first training on, with "dynamic"
    from `max_position_embeddings` on, which is the limit anyway.
    """
    firsts = (
        int(rope["original_max_position_embeddings"])
        for rope in _rotary(config)
        if rope.get("rope_type") == "longrope"
    )
    return min([int(config.max_position_embeddings), *firsts])


def _rotary(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the parameters of rotary embeddings; some models have one for each kind of layer."""
    given = getattr(config, "rope_parameters", None) or {}
    if "rope_type" in given:
        yield given
    else:
        yield from (each for each in given.values() if isinstance(each, Mapping))


def _refusal(config: Any, problem: str) -> EngineStartError:
    return EngineStartError(
        f"This engine cannot run the architecture {config.model_type!r}: {problem}. {_SUPPORTED}"
    )
