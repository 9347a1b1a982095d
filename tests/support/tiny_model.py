"""A model directory without a model: what the front end reads of one."""

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
