"""Convert a GGUF file into a Hugging Face directory in safetensors. A process of its own.

    python -m llm_backend.models.convert SOURCE.gguf DIRECTORY

Transformers shows its progress bars on stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gguf import GGUFReader
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(source: Path, target: Path) -> None:
    """Write weights (float32), config, generation config, tokenizer and chat template."""
    folder, file = str(source.parent), source.name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype="float32")
    _save_weights(model, target)
    # The weights are plain now; a loader must not look for the GGUF file again.
    del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(target)
    model.generation_config.save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    _mend_pre_tokenizer(tokenizer, source)
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(target)


def _save_weights(model: Any, target: Path) -> None:
    """Save every parameter once: a tied output projection is the embedding."""
    tied = set(model.all_tied_weights_keys) if model.config.tie_word_embeddings else set()
    state = {
        name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied
    }
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})


def _mend_pre_tokenizer(tokenizer: Any, source: Path) -> None:
    """Split digits one by one, as SmolLM2 was trained; transformers drops that from a GGUF."""
    kind = GGUFReader(source).get_field("tokenizer.ggml.pre")
    if kind is not None and kind.contents() == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
