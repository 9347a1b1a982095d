"""The model: a Hugging Face decoder, sharded by DeepSpeed, that runs ragged steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging as transformers_logging

from llm_backend.errors import EngineStartError, ModelInvalidError
from llm_backend.runtime import attention, supported

_LOADING_FAULTS = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
)
"""What transformers raises over a directory that it cannot make a model of."""

CPU = torch.device("cpu")
_SHARDED_DTYPES = (torch.float32, torch.bfloat16)
"""What DeepSpeed takes on every device."""

Report = Callable[[str, float], None]
"""Called with a phase in words and the percentage of the whole start."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One rank's shard of a model.

    Attributes:
        module: called with token ids [1, tokens], positions and a `Batch`.
        vocab_size: of the logits.
        eos_token_ids: tokens that end an answer.
        trained_length: context length in tokens that the model was trained for, as far as its
            rotary frequencies stay as they are (`supported.steady_length`).
        weights_bytes: of this rank.
    """

    module: nn.Module
    vocab_size: int
    eos_token_ids: frozenset[int]
    trained_length: int
    weights_bytes: int

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        batch: attention.Batch,
        sampled_rows: Tensor,
    ) -> Tensor:
        """Run the step's tokens and return the logits after `sampled_rows`.

        Args:
            tokens: [tokens] ids, laid end to end.
            positions: [tokens] of each in its sequence.
            batch: their places in the KV cache.
            sampled_rows: [sampled] only these are projected onto the vocabulary.

        Returns:
            [sampled, vocab_size].
        """
        output = self.module(
            input_ids=tokens[None],
            position_ids=positions[None],
            use_cache=False,
            logits_to_keep=sampled_rows,
            batch=batch,
        )
        logits: Tensor = output.logits[0]
        return logits


def load(
    directory: Path,
    dtype: torch.dtype,
    ranks: int,
    progress: Report,
    device: torch.device = CPU,
) -> LoadedModel:
    """Load a safetensors directory and shard it over `ranks` with DeepSpeed AutoTP.

    Args:
        directory: `config.json` and `*.safetensors`.
        dtype: of the weights.
        ranks: tensor parallel size; `torch.distributed` must span them when it is more than one.
        progress: told what is going on.
        device: where the shard goes.

    Raises:
        ModelInvalidError: the directory is not what transformers can load without pickle.
        EngineStartError: the architecture cannot be sharded or run here.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    attention.register()
    progress("loading weights", 40)
    module = _map(directory)
    supported.check(module)
    config = module.config.get_text_config()
    _check_heads(config, ranks)
    progress("sharding", 70)
    sharded = _shard(module, dtype, ranks).to(device)
    return LoadedModel(
        module=sharded,
        vocab_size=config.vocab_size,
        eos_token_ids=_eos_token_ids(directory, config),
        trained_length=supported.steady_length(config),
        weights_bytes=sum(p.numel() * p.element_size() for p in set(sharded.parameters())),
    )


def probe(model: LoadedModel, device: torch.device) -> dict[int, tuple[int, int]]:
    """Return each layer's heads and head size on this rank, by one forward pass.

    Raises:
        EngineStartError: the model's attention is of a kind that the engine does not compute.
    """
    shapes = attention.ShapeProbe({})
    zero = torch.zeros(1, dtype=torch.long, device=device)
    with torch.inference_mode():
        model.forward(zero, zero, shapes, zero)
    supported.check_layers(model.module, shapes.shapes)
    return shapes.shapes


def _map(directory: Path) -> Any:
    """Return the whole model, mapped: of a file, what is never looked at is never read."""
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype="auto",  # the files' own: another one would be a copy of everything
            attn_implementation=attention.NAME,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except _LOADING_FAULTS as error:
        raise ModelInvalidError(f"The model in {directory} cannot be loaded: {error}") from error
    module, found = loaded
    if missing := sorted(found["missing_keys"]):
        # transformers would fill them with random numbers.
        raise ModelInvalidError(
            f"The weights in {directory} lack {missing[0]} and {len(missing) - 1} others that its "
            "config.json asks for: one of the two is of another model, or incomplete."
        )
    return module


def _shard(module: Any, dtype: torch.dtype, ranks: int) -> nn.Module:
    """Return this rank's part of `module`, cut first and only then brought into `dtype`."""
    # DeepSpeed's conversion takes the rotary embedding's frequencies along, which Hugging Face
    # keeps in fp32; in bf16 they are up to 0.2 % off.
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    stored = module.dtype if module.dtype in _SHARDED_DTYPES else dtype
    engine = deepspeed.init_inference(
        module, tensor_parallel={"tp_size": ranks}, dtype=stored, keep_module_on_host=True
    )
    sharded: nn.Module = engine.module.eval().requires_grad_(False)
    for parameter in sharded.parameters():
        parameter.data = parameter.data.to(dtype).contiguous()
    for name, buffer in buffers.items():
        sharded.get_buffer(name).data = buffer
    return sharded


def _check_heads(config: Any, ranks: int) -> None:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if heads < ranks:
        raise EngineStartError(
            f"The model has {heads} key-value heads, fewer than {ranks} ranks: "
            f"set LLM_TENSOR_PARALLEL to at most {heads}."
        )


def _eos_token_ids(directory: Path, config: Any) -> frozenset[int]:
    """Return the end-of-sequence tokens; `generation_config.json` goes before `config.json`."""
    ids = config.eos_token_id
    if (directory / "generation_config.json").is_file():
        ids = GenerationConfig.from_pretrained(directory).eos_token_id or ids
    return frozenset([ids] if isinstance(ids, int) else ids or [])
