"""Small model directories: what the front end reads of one, and a Llama that really runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIALS = ("<eos>", "<hang>", "<exit>", "<crash>", "<reject>", "<turn>")
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' and loop.first %}"
    "{{ raise_exception('the user speaks first') }}{% endif %}{{ m.content }}{% endfor %}"
)


TOOL_TEMPLATE = """
{%- for tool in tools or [] %}{{ tool.function.name ~ '|' }}{% endfor %}
{%- for m in messages %}
    {%- for call in m.tool_calls or [] %}
        {{- '<tool_call>\n' ~ {"name": call.function.name, "arguments": call.function.arguments}
            | tojson ~ '\n</tool_call>' }}
    {%- endfor %}
    {{- m.content }}
{%- endfor %}"""
"""Shows the tools' names; a call is a JSON object with "name" and "arguments"."""


def write_tiny_model(directory: Path, template: str = TEMPLATE) -> Path:
    """Write a byte-level tokenizer whose first ids are `SPECIALS`, a template, and a weight."""
    directory.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.save(str(directory / "tokenizer.json"))
    save_file({"w": np.zeros(1, np.float32)}, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps({"model_type": "llama"}))
    config = {"eos_token": "<eos>", "chat_template": template}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 288,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 65536,
    "eos_token_id": 0,
    "tie_word_embeddings": False,
}


def write_tiny_llama(directory: Path) -> Path:
    """Write a random Llama of two layers, which two ranks can share, with the tokenizer above."""
    write_tiny_model(directory)
    dice = np.random.default_rng(0)
    hidden, middle, vocab = 64, 96, 288
    shapes = {"model.embed_tokens": (vocab, hidden), "lm_head": (vocab, hidden)}
    for layer in range(2):
        attention, mlp = f"model.layers.{layer}.self_attn.", f"model.layers.{layer}.mlp."
        shapes |= {f"{attention}{name}_proj": (128, hidden) for name in "q"}
        shapes |= {f"{attention}{name}_proj": (64, hidden) for name in "kv"}
        shapes |= {f"{attention}o_proj": (hidden, 128), f"{mlp}down_proj": (hidden, middle)}
        shapes |= {f"{mlp}{name}_proj": (middle, hidden) for name in ("gate", "up")}
    norms = ["model.norm"]
    for layer in range(2):
        norms += [f"model.layers.{layer}.{n}_layernorm" for n in ("input", "post_attention")]
    weights = {k: dice.normal(0, 0.1, shape).astype(np.float32) for k, shape in shapes.items()}
    weights |= {name: np.ones(hidden, np.float32) for name in norms}
    named = {f"{name}.weight": value for name, value in weights.items()}
    save_file(named, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(_LLAMA))
    return directory
