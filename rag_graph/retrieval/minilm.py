"""all-MiniLM-L6-v2 as an ONNX graph, built from its safetensors file without torch.

The graph is what `sentence-transformers` computes: BERT, mean pooling, L2 normalisation, for texts
without padding. The weights of its products are int8, their inputs are quantised as they come, by
ONNX Runtime's own nodes: https://onnxruntime.ai/docs/ContribOperators.md. Why this way:
docs/decisions/0001-build-minilm-onnx-without-torch.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

LAYERS = 6
HEADS = 12
DIMENSION = 384
EPSILON = 1e-12
OPSET = 20
CONTRIB = "com.microsoft"
CONTRIB_OPSET = 1
IR_VERSION = 10
STEPS = 63
"""Of an int8 weight on either side of 0. Seven bits: CPUs without VNNI saturate on eight, and a
vector must not depend on the machine that made it."""
TABLE_STEPS = 127
"""Of an int8 element of the table of words, which no product takes in."""

Floats = npt.NDArray[np.float32]
Weights = Mapping[str, Floats]


class _Builder:
    """Collects the nodes and constants of one graph."""

    def __init__(self, weights: Weights, *, quantized: bool) -> None:
        self._weights = weights
        self._quantized = quantized
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        array = np.ascontiguousarray(value)
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, output: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def norm(self, output: str, source: str, hidden: str) -> str:
        """Add a layer norm with the checkpoint's weights of `source`."""
        scale = self.constant(f"{source}.scale", self._weights[f"{source}.weight"])
        bias = self.constant(f"{source}.bias", self._weights[f"{source}.bias"])
        return self.node("LayerNormalization", output, hidden, scale, bias, epsilon=EPSILON)

    def linear(self, output: str, hidden: str, *sources: str) -> str:
        """Add one product with the checkpoint's weights of `sources`, side by side."""
        matrix = np.hstack([self._weights[f"{source}.weight"].T for source in sources])
        bias = np.hstack([self._weights[f"{source}.bias"] for source in sources])
        offset = self.constant(f"{output}.bias", bias)
        if not self._quantized:
            product = self.node(
                "MatMul", f"{output}.product", hidden, self.constant(f"{output}.matrix", matrix)
            )
            return self.node("Add", output, product, offset)
        integers, steps = _quantize(matrix, 0, STEPS)
        return self.node(
            "DynamicQuantizeMatMul",
            output,
            hidden,
            self.constant(f"{output}.matrix", integers),
            self.constant(f"{output}.step", steps[0]),
            self.constant(f"{output}.zero", np.zeros(steps.shape[1], np.int8)),
            offset,
            domain=CONTRIB,
        )

    def rows(self, output: str, source: str, indices: str) -> str:
        """Add a look-up in a table of the checkpoint."""
        table = self._weights[source]
        if not self._quantized:
            return self.node("Gather", output, self.constant(source, table), indices)
        integers, steps = _quantize(table, 1, TABLE_STEPS)
        found = self.node("Gather", f"{output}.int", self.constant(source, integers), indices)
        step = self.node(
            "Gather", f"{output}.step", self.constant(f"{source}.step", steps), indices
        )
        number = self.node("Cast", f"{output}.float", found, to=TensorProto.FLOAT)
        return self.node("Mul", output, number, step)


def _quantize(matrix: Floats, axis: int, most: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return int8 elements of `most` steps along `axis`, symmetric, and the steps' size."""
    largest = np.abs(matrix).max(axis=axis, keepdims=True)
    steps: Floats = (np.maximum(largest, np.finfo(np.float32).tiny) / most).astype(np.float32)
    return np.rint(matrix / steps).clip(-most, most).astype(np.int8), steps


def build(weights: Weights, *, quantized: bool = True) -> onnx.ModelProto:
    """Return the model.

    Input `input_ids`, int64 [batch, tokens], without padding; output `embedding`, float32
    [batch, 384], of unit length.

    Args:
        weights: the checkpoint's tensors under Hugging Face's BertModel names, fp32.
        quantized: int8 weights with a step size for each channel, and int8 activations; or fp32.

    Raises:
        KeyError: a tensor is missing.
    """
    graph = _Builder(weights, quantized=quantized)
    hidden = _embeddings(graph, weights)
    for i in range(LAYERS):
        hidden = _layer(graph, i, hidden)
    _pooling(graph, hidden)
    return _model(graph)


def _embeddings(graph: _Builder, weights: Weights) -> str:
    """Word + position + type 0 embeddings, layer norm: [batch, tokens, 384]."""
    kinds = weights["embeddings.token_type_embeddings.weight"]
    places = graph.constant("places", weights["embeddings.position_embeddings.weight"] + kinds[:1])
    length = graph.node("Shape", "length", "input_ids", start=1, end=2)
    zero = graph.constant("zero", np.array([0], np.int64))
    place = graph.node("Slice", "place", places, zero, length)
    word = graph.rows("word", "embeddings.word_embeddings.weight", "input_ids")
    both = graph.node("Add", "embedded", word, place)
    return graph.norm("hidden", "embeddings.LayerNorm", both)


def _layer(graph: _Builder, i: int, hidden: str) -> str:
    """One encoder layer, post-norm."""
    source, name = f"encoder.layer.{i}", f"layer{i}"
    attended = _attention(graph, f"{source}.attention.self", f"{name}.attention", hidden)
    hidden = _residual(graph, f"{source}.attention.output", f"{name}.attended", attended, hidden)
    wide = graph.linear(f"{name}.wide", hidden, f"{source}.intermediate.dense")
    wide = graph.node("Gelu", f"{name}.gelu", wide)
    return _residual(graph, f"{source}.output", f"{name}.out", wide, hidden)


def _attention(graph: _Builder, source: str, name: str, hidden: str) -> str:
    """Every token attends to every other: texts come without padding, so there is no mask."""
    parts = [f"{source}.{part}" for part in ("query", "key", "value")]
    packed = graph.linear(f"{name}.packed", hidden, *parts)
    split = [f"{name}.{part}" for part in ("query", "key", "value")]
    graph.nodes.append(
        helper.make_node("Split", [packed], split, name=f"{name}.split", axis=-1, num_outputs=3)
    )
    return graph.node("MultiHeadAttention", name, *split, domain=CONTRIB, num_heads=HEADS)


def _residual(graph: _Builder, source: str, name: str, inner: str, outer: str) -> str:
    """LayerNorm(outer + inner·W + b), from two nodes: the fused one takes five times as long."""
    inner = graph.linear(f"{name}.inner", inner, f"{source}.dense")
    both = graph.node("Add", f"{name}.sum", inner, outer)
    return graph.norm(name, f"{source}.LayerNorm", both)


def _pooling(graph: _Builder, hidden: str) -> None:
    """Mean over the tokens, then unit length: the mean's divisor cancels, so the sum is enough."""
    tokens = graph.constant("tokens", np.array([1], np.int64))
    total = graph.node("ReduceSum", "pool.sum", hidden, tokens, keepdims=0)
    graph.node("LpNormalization", "embedding", total, axis=1, p=2)


def _model(graph: _Builder) -> onnx.ModelProto:
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    vector = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSION])
    constants = list(graph.constants.values())
    body = helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", [ids], [vector], constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, CONTRIB_OPSET)]
    return helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION)


def export(safetensors: Path, target: Path, *, quantized: bool = True) -> None:
    """Write the model of the checkpoint `safetensors` to `target`.

    Args:
        safetensors: Hugging Face BertModel weights of all-MiniLM-L6-v2, fp32.
        target: the `.onnx` file to write; not atomic.
        quantized: as `build` takes it.

    Raises:
        KeyError: a tensor is missing.
        OSError: a file cannot be read or written.
    """
    onnx.save(build(load_file(safetensors), quantized=quantized), target)
