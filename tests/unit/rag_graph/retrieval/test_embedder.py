"""Models of a directory: which outputs are read, and how; others are refused when it is opened."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from rag_graph.errors import EmbedderError
from rag_graph.retrieval.embedder import OnnxEmbedder, open_embedders
from rag_graph.retrieval.sentence_transformer import read
from rag_graph.settings import RagSettings

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


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, [0, 1, 0]),
        ({"pooling_mode_max_tokens": True}, [3, 2, 4]),
        ({"pooling_mode": "mean"}, [1.5, 1, 2]),
        ({"pooling_mode": ["mean_sqrt_len_tokens"]}, [1.5, 1, 2]),
        ({"pooling_mode": "weightedmean"}, [6, 2, 8]),
        ({"pooling_mode": "lasttoken"}, [3, 0, 4]),
    ],
)
async def test_vectors_of_tokens_are_pooled_as_the_directory_says(
    tmp_path: Path, said: dict[str, object], expected: list[float]
) -> None:
    folder = directory(tmp_path, {"tokens": 3})
    write(folder / "1_Pooling/config.json", said)
    vectors = await OnnxEmbedder(folder, "tiny", recipe=read(folder)).embed(["b c"])
    assert np.allclose(vectors[0], np.array(expected) / np.linalg.norm(expected))


async def test_queries_and_documents_have_the_prompts_of_the_directory(tmp_path: Path) -> None:
    folder = directory(tmp_path, {"tokens": 3})
    prompts = {"query": "c ", "document": "", "passage": "b "}
    write(folder / "config_sentence_transformers.json", {"prompts": prompts})
    write(folder / "tokenizer_config.json", {"model_max_length": 9})
    embedder = OnnxEmbedder(folder, "tiny", recipe=read(folder))
    unit = np.array([1, 2, 0]) / np.sqrt(5)
    assert np.allclose((await embedder.embed(["a"]))[0], unit)
    assert np.allclose(await embedder.embed_query("b"), np.array([3, 2, 4]) / np.sqrt(29))
    assert embedder.max_tokens == 8, "the prompt takes a token"


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ({}, 256),
        ({"tokenizer_config.json": {"model_max_length": int(1e30)}}, 256),
        ({"tokenizer_config.json": {"model_max_length": 512}}, 512),
        (
            {
                "sentence_bert_config.json": {"max_seq_length": 128, "do_lower_case": False},
                "tokenizer_config.json": {"model_max_length": 512},
            },
            128,
        ),
        (
            {
                "sentence_bert_config.json": {"max_seq_length": None},
                "tokenizer_config.json": {"model_max_length": 8192},
                "config.json": {"max_position_embeddings": 2048, "model_type": "bert"},
            },
            2048,
        ),
    ],
)
def test_the_longest_text_is_what_the_directory_says(
    tmp_path: Path, lengths: dict[str, object], expected: int
) -> None:
    for name, said in lengths.items():
        write(tmp_path / name, said)
    assert read(tmp_path).max_tokens == expected


def test_a_recipe_that_makes_other_vectors_of_documents_makes_another_name(tmp_path: Path) -> None:
    names = [OnnxEmbedder(directory(tmp_path, {"tokens": 3}), "tiny").name]
    changes = [
        ("1_Pooling/config.json", {"pooling_mode": "cls"}),
        ("config_sentence_transformers.json", {"prompts": {"document": "b "}}),
    ]
    for name, said in changes:
        write(tmp_path / name, said)
        names.append(OnnxEmbedder(tmp_path, "tiny", recipe=read(tmp_path)).name)
    assert names[0] == "tiny"
    assert len(set(names)) == 3
    write(tmp_path / changes[1][0], {"prompts": {"query": "b "}})
    assert OnnxEmbedder(tmp_path, "tiny", recipe=read(tmp_path)).name == names[1]
    pooled = directory(tmp_path, {"tokens": 3, "sentence_embedding": 2}, FIRST)
    assert OnnxEmbedder(pooled, "tiny", recipe=read(pooled)).name == "tiny", "it pools itself"


MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "pool", "type": "sentence_transformers.models.Pooling"},
]
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"modules.json": [*MODULES, DENSE]}, "its module Dense is not done here"),
        (
            {"modules.json": MODULES, "pool/config.json": {"pooling_mode": ["cls", "max"]}},
            "its pooling, cls and max, is not done here",
        ),
        (
            {
                "1_Pooling/config.json": {"pooling_mode": "mean", "include_prompt": False},
                "config_sentence_transformers.json": {"prompts": {"query": "b "}},
            },
            "leaving prompts out of the pooling is not done here",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_unless_the_model_does_it(
    tmp_path: Path, files: dict[str, object], reason: str
) -> None:
    for name, said in files.items():
        write(tmp_path / name, said)
    with pytest.raises(EmbedderError, match=reason):
        OnnxEmbedder(directory(tmp_path, {"tokens": 3}), "tiny", recipe=read(tmp_path))
    pooled = directory(tmp_path, {"tokens": 3, "sentence_embedding": 2}, FIRST)
    embedder = OnnxEmbedder(pooled, "tiny", recipe=read(pooled))
    assert (await embedder.embed(["a"])).shape == (1, 3)


def test_a_file_that_is_not_of_its_form_is_named(tmp_path: Path) -> None:
    write(tmp_path / "1_Pooling/config.json", ["cls"])
    with pytest.raises(EmbedderError, match=r"1_Pooling/config\.json: "):
        read(tmp_path)


async def test_the_model_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = directory(tmp_path, {"tokens": 3})
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    found = await open_embedders(RagSettings(embedder_dirs=str(folder)))
    (named,) = (name for name in found._named if name.startswith("onnx/"))
    assert (await found.known(named).embed(["a"])).shape == (1, 3)


def write(path: Path, said: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(said))


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
