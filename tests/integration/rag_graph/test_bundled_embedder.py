"""The bundled embedding model: the ONNX build against PyTorch's BERT, and its cache."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertModel

from rag_graph.errors import EmbedderError
from rag_graph.retrieval import bundled, minilm
from rag_graph.retrieval.embedder import OnnxEmbedder, open_embedder
from rag_graph.retrieval.vectors import Vectors
from rag_graph.settings import RagSettings

TEXTS = [
    "Which taint do the GPU node pools carry?",
    "An isthmus is the narrow land between two seas. " * 6,
    "Ωmega, naïve café — 東京 123-456",
    "x",
    "kubectl get pods --namespace isthmus -o wide | grep Running",
]


@pytest.fixture(scope="module")
def source() -> Path:
    return bundled._find()


@pytest.fixture(scope="module")
def reference(source: Path) -> Vectors:
    """What sentence-transformers computes: BERT, mean over the tokens, unit length."""
    model = BertModel.from_pretrained(source).eval()
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    vectors = []
    for text in TEXTS:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.no_grad():
            hidden = model(input_ids=ids).last_hidden_state
        vectors.append(torch.nn.functional.normalize(hidden.mean(1), dim=1)[0].numpy())
    return np.stack(vectors)


def cosines(a: Vectors, b: Vectors) -> npt.NDArray[np.float32]:
    return np.einsum("ij,ij->i", a, b)


async def test_fp32_is_the_reference(source: Path, reference: Vectors, tmp_path: Path) -> None:
    minilm.export(source / "model.safetensors", tmp_path / "model.onnx", quantized=False)
    (tmp_path / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    vectors = await OnnxEmbedder(tmp_path, "fp32").embed(TEXTS)
    assert cosines(vectors, reference).min() > 0.99999


async def test_int8_is_near_the_reference(reference: Vectors, tmp_path: Path) -> None:
    embedder = await open_embedder(RagSettings(cache_dir=tmp_path))
    vectors = await embedder.embed(TEXTS)
    assert embedder.dimension == minilm.DIMENSION
    assert cosines(vectors, reference).min() > 0.97  # a single letter; sentences reach 0.99
    assert np.median(cosines(vectors, reference)) > 0.985
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_a_vector_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    embedder = await open_embedder(RagSettings(cache_dir=tmp_path))
    together = await embedder.embed(TEXTS)
    alone = np.concatenate([await embedder.embed([text]) for text in TEXTS])
    assert np.array_equal(together, alone)


def test_racing_for_the_cache_leaves_one_whole_model(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(bundled.prepare, [tmp_path] * 2)
    assert first == second
    assert sorted(p.name for p in first.iterdir()) == ["model.onnx", "tokenizer.json"]
    assert [p.name for p in (tmp_path / "embedders").iterdir()] == [first.name]


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other")
    with pytest.raises(EmbedderError, match="not the file that Isthmus was tested with"):
        bundled._check(tmp_path / "model.safetensors", "0" * 64)


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "embedders").write_text("in the way")
    with pytest.raises(EmbedderError, match="RAG_CACHE_DIR"):
        bundled.prepare(tmp_path)


def test_importing_rag_graph_loads_no_torch_and_no_ray() -> None:
    code = (
        "import rag_graph.graph, rag_graph.ingest.pipeline, rag_graph.retrieval.retriever, sys;"
        "sys.exit(str([m for m in ('torch', 'ray', 'deepspeed') if m in sys.modules] or ''))"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, "")
