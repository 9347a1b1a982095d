"""Architectures that would be answered wrongly, or fail in the middle, are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llm_backend.errors import EngineStartError
from llm_backend.runtime import model, supported

SIZES = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 64,
}
OPT = {"ffn_dim": 64, "word_embed_proj_dim": 64}
XGLM = {"d_model": 64, "num_layers": 2, "attention_heads": 2, "ffn_dim": 64}
LFM2 = {"layer_types": ["conv", "full_attention"], "block_ff_dim": 64, "block_multiple_of": 32}
FALCON_H1 = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
DEEPSEEK = {
    "q_lora_rank": None,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "first_k_dense_replace": 2,
}
BART = {
    "d_model": 64,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 64,
    "encoder_layers": 1,
}


def rope(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, "factor": 2.0, **more},
    }


LONG = {
    "short_factor": [1.0] * 16,
    "long_factor": [2.0] * 16,
    "original_max_position_embeddings": 32,
}


def load(directory: Path, kind: str, **fields: Any) -> model.LoadedModel:
    """Write a random model of an architecture and load it as a rank does."""
    config = AutoConfig.for_model(kind, **{**SIZES, **fields})
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    loaded = model.load(directory, torch.float32, 1, lambda *_: None)
    model.probe(loaded, torch.device("cpu"))
    return loaded


@pytest.mark.parametrize(
    ("kind", "fields", "why"),
    [
        ("mamba", {}, "keeps a state"),
        ("falcon_h1", FALCON_H1, "keeps a state"),
        ("lfm2", LFM2, "1 of its 2 layers have attention"),
        ("xglm", XGLM, "0 of its 2 layers have attention"),
        ("bart", BART, "takes no position_ids"),
        ("bloom", {"n_layer": 2, "n_head": 2}, "takes no position_ids"),
    ],
)
def test_refused(tmp_path: Path, kind: str, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(EngineStartError, match=f"the architecture '{kind}': .*{why}.*Supported"):
        load(tmp_path, kind, **fields)


def test_values_of_another_size_than_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineStartError, match="values have the size 32, its keys 48"):
        load(tmp_path, "deepseek_v2", **DEEPSEEK)


@pytest.mark.parametrize("missing", ["num_attention_heads", "max_position_embeddings"])
def test_a_size_that_the_config_lacks_is_named(
    tiny_llama: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = AutoModelForCausalLM.from_pretrained(tiny_llama)
    monkeypatch.setattr(whole.config, missing, 0)
    with pytest.raises(EngineStartError, match=f"its config has no {missing}"):
        supported.check(whole)


@pytest.mark.parametrize(("rope_type", "length"), [("dynamic", 64), ("longrope", 32)])
def test_a_context_ends_where_rotary_frequencies_would_change(
    tmp_path: Path, rope_type: str, length: int
) -> None:
    fields = rope(rope_type, **(LONG if rope_type == "longrope" else {}))
    loaded = load(tmp_path, "llama", **fields)
    assert loaded.trained_length == length
    rotary = loaded.module.model.rotary_emb
    before = rotary.inv_freq.clone()
    for last in (length - 1, 0):
        rotary(torch.zeros(1, 1, 64), torch.tensor([[last]]))
        assert torch.equal(rotary.inv_freq, before)
    rotary(torch.zeros(1, 1, 64), torch.tensor([[length]]))
    assert not torch.equal(rotary.inv_freq, before), "one token more"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("llama", rope("linear")),
        ("llama", rope("yarn")),
        ("qwen3", {}),
        ("gemma", {}),
        ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 64}),
        ("opt", OPT),
    ],
)
def test_taken(tmp_path: Path, kind: str, fields: dict[str, Any]) -> None:
    assert load(tmp_path, kind, **fields).trained_length == 64
