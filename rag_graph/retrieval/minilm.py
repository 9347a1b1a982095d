"""all-MiniLM-L6-v2 as an ONNX graph, built from its safetensors file without torch.

The graph is what `sentence-transformers` computes: BERT, mean pooling over the attention mask,
L2 normalisation. Its nodes are ONNX Runtime's fused `com.microsoft` ones, which the runtime's own
optimiser would otherwise have to find: https://onnxruntime.ai/docs/ContribOperators.md. Why this
way: docs/decisions/0001-build-minilm-onnx-without-torch.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

LAYERS = 6
HEADS = 12
DIMENSION = 384
EPSILON = 1e-12
OPSET = 18
CONTRIB = "com.microsoft"
CONTRIB_OPSET = 1
IR_VERSION = 10

Weights = Mapping[str, npt.NDArray[np.float32]]


class _Builder:
    """Collects the nodes and constants of one graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.types: list[onnx.ValueInfoProto] = []

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        array = np.ascontiguousarray(value)
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, output: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def fused(self, op: str, output: str, *inputs: str, **attributes: Any) -> str:
        """Add a `com.microsoft` node. ONNX infers no type for those, so it is told."""
        self.types.append(
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", "tokens", None])
        )
        return self.node(op, output, *inputs, domain=CONTRIB, **attributes)


def build(weights: Weights) -> onnx.ModelProto:
    """Return the fp32 model.

    Inputs `input_ids` and `attention_mask`, int64 [batch, tokens]; output `embedding`, float32
    [batch, 384], of unit length.

    Args:
        weights: the checkpoint's tensors under Hugging Face's BertModel names.

    Raises:
        KeyError: a tensor is missing.
    """
    graph = _Builder()
    mask = graph.node("Cast", "mask", "attention_mask", to=TensorProto.INT32)
    hidden = _embeddings(graph, weights)
    for i in range(LAYERS):
        hidden = _layer(graph, weights, i, hidden, mask)
    _pooling(graph, hidden)
    return _model(graph)


def _embeddings(graph: _Builder, weights: Weights) -> str:
    """Word + position + type 0 embeddings, layer norm: [batch, tokens, 384]."""
    kinds = weights["embeddings.token_type_embeddings.weight"]
    words = graph.constant("words", weights["embeddings.word_embeddings.weight"])
    places = graph.constant("places", weights["embeddings.position_embeddings.weight"] + kinds[:1])
    shape = graph.node("Shape", "length", "input_ids", start=1, end=2)
    zero = graph.constant("zero", np.array([0], np.int64))
    word = graph.node("Gather", "word", words, "input_ids")
    place = graph.node("Slice", "place", places, zero, shape)
    both = graph.node("Add", "embedded", word, place)
    return graph.node(
        "LayerNormalization",
        "hidden",
        both,
        graph.constant("norm.weight", weights["embeddings.LayerNorm.weight"]),
        graph.constant("norm.bias", weights["embeddings.LayerNorm.bias"]),
        epsilon=EPSILON,
    )


def _layer(graph: _Builder, weights: Weights, i: int, hidden: str, mask: str) -> str:
    """One encoder layer, post-norm."""
    source, name = f"encoder.layer.{i}", f"layer{i}"
    parts = [f"{source}.attention.self.{part}" for part in ("query", "key", "value")]
    attended = graph.fused(
        "Attention",
        f"{name}.attended",
        hidden,
        graph.constant(f"{name}.qkv", np.hstack([weights[f"{p}.weight"].T for p in parts])),
        graph.constant(f"{name}.qkv_bias", np.hstack([weights[f"{p}.bias"] for p in parts])),
        mask,
        num_heads=HEADS,
    )
    hidden = _residual(graph, weights, f"{source}.attention.output", attended, hidden)
    wide = _linear(graph, weights, f"{source}.intermediate.dense", hidden)
    bias = graph.constant(f"{name}.wide_bias", weights[f"{source}.intermediate.dense.bias"])
    wide = graph.fused("BiasGelu", f"{name}.gelu", wide, bias)
    return _residual(graph, weights, f"{source}.output", wide, hidden)


def _linear(graph: _Builder, weights: Weights, source: str, hidden: str) -> str:
    """The product alone; the bias is fused into what follows."""
    matrix = graph.constant(f"{source}.matrix", weights[f"{source}.weight"].T)
    return graph.node("MatMul", f"{source}.product", hidden, matrix)


def _residual(graph: _Builder, weights: Weights, source: str, inner: str, outer: str) -> str:
    """LayerNorm(outer + inner·W + b)."""
    return graph.fused(
        "SkipLayerNormalization",
        f"{source}.hidden",
        _linear(graph, weights, f"{source}.dense", inner),
        outer,
        graph.constant(f"{source}.norm", weights[f"{source}.LayerNorm.weight"]),
        graph.constant(f"{source}.norm_bias", weights[f"{source}.LayerNorm.bias"]),
        graph.constant(f"{source}.bias", weights[f"{source}.dense.bias"]),
        epsilon=EPSILON,
    )


def _pooling(graph: _Builder, hidden: str) -> None:
    """Mean over the tokens of the mask, then unit length.

    The mean's divisor cancels in the normalisation, so the sum is enough.
    """
    mask = graph.node("Cast", "mask.float", "attention_mask", to=TensorProto.FLOAT)
    row = graph.node("Unsqueeze", "mask.row", mask, graph.constant("one", np.array([1], np.int64)))
    total = graph.node("MatMul", "pool.sum", row, hidden)
    flat = graph.node("Squeeze", "pool.flat", total, "one")
    graph.node("LpNormalization", "embedding", flat, axis=1, p=2)


def _model(graph: _Builder) -> onnx.ModelProto:
    tokens = ["batch", "tokens"]
    body = helper.make_graph(
        graph.nodes,
        "all-MiniLM-L6-v2",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, tokens),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, tokens),
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSION])],
        list(graph.constants.values()),
        value_info=graph.types,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, CONTRIB_OPSET)]
    model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION)
    # The quantiser advises a pre-processing pass, which would only fuse what is fused already.
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    return model


def export(safetensors: Path, target: Path, *, quantized: bool = True) -> None:
    """Write the model of the checkpoint `safetensors` to `target`.

    Args:
        safetensors: Hugging Face BertModel weights of all-MiniLM-L6-v2, fp32.
        target: the `.onnx` file to write; not atomic.
        quantized: int8 weights per channel and int8 activations, or fp32 throughout.

    Raises:
        KeyError: a tensor is missing.
        OSError: a file cannot be read or written.
    """
    model = build(load_file(safetensors))
    if not quantized:
        onnx.save(model, target)
        return
    with TemporaryDirectory(dir=target.parent) as scratch:
        plain = Path(scratch) / "fp32.onnx"
        onnx.save(model, plain)
        quantize_dynamic(
            plain,
            target,
            op_types_to_quantize=["MatMul", "Attention", "Gather"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            # Seven bits: CPUs without VNNI saturate on eight, and a vector must not depend on
            # the machine that made it. XQuAD: dense nDCG@10 0.946, as with eight bits and fp32.
            reduce_range=True,
            extra_options={"MatMulConstBOnly": True},
        )
