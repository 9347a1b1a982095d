"""A rank reads its own part of the weights, not all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

_LOAD = """
import json, sys
from pathlib import Path
import torch
from llm_backend.runtime import extensions, model, ranks
from llm_backend.settings import LlmSettings

extensions.use_directory(LlmSettings().cache_dir)
rank = ranks.introduce()
ranks.connect(rank, "gloo")
mapped_model, held = model._map, []


def held_map(directory):
    module = mapped_model(directory)
    held.extend(parameter.data for parameter in module.parameters())
    return module


model._map = held_map  # what is let go of after loading would not show below
loaded = model.load(Path(sys.argv[1]), getattr(torch, sys.argv[2]), rank.size, lambda *_: None)
for parameter in loaded.module.parameters():
    parameter.sum()  # what was not converted is still in the file
read, mapped = 0, False
for line in Path("/proc/self/smaps").read_text().splitlines():
    if "-" in line.split()[0]:
        mapped = line.endswith(".safetensors")
    elif mapped and line.startswith("Rss:"):
        read += 1024 * int(line.split()[1])
Path(sys.argv[3], str(rank.index)).write_text(json.dumps([read, loaded.weights_bytes]))
"""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights are nearly all of MLPs: a third of them cut by columns."""
    directory = tmp_path_factory.mktemp("wide")
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=256,
        intermediate_size=8192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_rank_reads_half_of_what_is_cut_by_rows(
    model_dir: Path, tmp_path: Path, dtype: str
) -> None:
    environment = {
        **os.environ,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    mpirun = str(Path(sys.executable).with_name("mpirun"))
    load = [sys.executable, "-c", _LOAD, str(model_dir), dtype, str(tmp_path)]
    subprocess.run(
        [mpirun, "--bind-to", "none", "-np", "2", *load], env=environment, check=True, timeout=240
    )

    whole = (model_dir / "model.safetensors").stat().st_size
    size = getattr(torch, dtype).itemsize / torch.float32.itemsize
    for rank in ("0", "1"):
        read, kept = json.loads((tmp_path / rank).read_text())
        # two thirds: half of gate and up, all of down; and what the kernel maps around them
        assert 0.6 * whole < read < 0.9 * whole
        assert kept == pytest.approx(0.5 * whole * size, rel=0.05)
