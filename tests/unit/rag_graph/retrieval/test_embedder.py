"""Models of a directory: which outputs are read, and how; others are refused when it is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from rag_graph.errors import EmbedderError
from rag_graph.retrieval.embedder import OnnxEmbedder

WORDS = ["a", "b", "c", "strange"]
TABLE = np.array([[1, 0, 0], [0, 2, 0], [3, 0, 4]], np.float32)
"""Vectors of the first three words; the last one has none, and ends the run."""
FIRST = helper.make_node("Gather", ["tokens", "zero"], ["sentence_embedding"], axis=1)
SUM = helper.make_node("ReduceSum", ["tokens", "one"], ["sum"], keepdims=0)
DEEP = helper.make_node("Unsqueeze", ["tokens", "one"], ["deep"])


def directory(folder: Path, outputs: dict[str, int], *nodes: NodeProto) -> Path:
    """Write a model that looks its tokens up, then does `nodes`; outputs are given by rank."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["tokens"]), *nodes],
        "embeds",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
            for name, rank in outputs.items()
        ],
        [
            numpy_helper.from_array(TABLE, "table"),
            numpy_helper.from_array(np.array(0, np.int64), "zero"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        folder / "model.onnx",
    )
    return folder


@pytest.mark.parametrize(
    ("outputs", "node", "expected"),
    [
        ({"tokens": 3}, None, [1.5, 1, 2]),
        ({"tokens": 3, "sentence_embedding": 2}, FIRST, [0, 1, 0]),
        ({"sum": 2}, SUM, [3, 2, 4]),
    ],
)
async def test_a_text_has_one_unit_vector_whatever_the_model_pools(
    tmp_path: Path, outputs: dict[str, int], node: NodeProto | None, expected: list[float]
) -> None:
    embedder = OnnxEmbedder(directory(tmp_path, outputs, *([node] if node else [])), "tiny")
    vectors = await embedder.embed(["b c", "a"])
    assert embedder.dimension == 3
    assert np.allclose(vectors[0], np.array(expected) / np.linalg.norm(expected))
    assert np.allclose(vectors[1], [1, 0, 0])


def test_a_model_of_another_output_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    folder = directory(tmp_path, {"deep": 4}, DEEP)
    with pytest.raises(
        EmbedderError, match=r"makes \[1, 1, 1, 3\] of one text.*\[batch, dimension"
    ):
        OnnxEmbedder(folder, "tiny")


async def test_a_model_that_fails_says_so(tmp_path: Path) -> None:
    embedder = OnnxEmbedder(directory(tmp_path, {"tokens": 3}), "tiny")
    with pytest.raises(EmbedderError, match="The embedding model failed"):
        await embedder.embed(["a", "strange"])
