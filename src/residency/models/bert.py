"""A BERT encoder as an ONNX graph, written from its safetensors: no torch, no export.

The architecture is that of Devlin et al. 2018 with post-normalisation, under the names of Hugging
Face's `BertModel`. The three projections of attention are one product, which halves their cost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

VERSION = 1  # raised when the graph or its quantization gives other vectors than before
_OPSET = 20  # the first with Gelu


class _Graph:
    """Nodes and constants in the order in which they were added; every node has one output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        import onnx

        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        import onnx

        name = f"n{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def linear(self, value: str, weight: Any, bias: Any) -> str:
        product = self.add("MatMul", value, self.constant(weight.T))
        return self.add("Add", product, self.constant(bias))


def write_int8(folder: Path, out: Path) -> None:
    """The model of a Hugging Face folder as an ONNX file with int8 weights.

    It takes `input_ids` and `attention_mask`, int64 of (texts, tokens), and leaves `hidden`,
    float32 of (texts, tokens, width). Activations are quantized as they come (dynamic).
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = _model(config, load_file(folder / "model.safetensors"))
    whole = out.with_suffix(".fp32.onnx")
    onnx.save(model, whole)
    # 7 bits of the 8: with all of them, sums overflow 16 bits on processors without VNNI.
    quantize_dynamic(whole, out, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
    whole.unlink()


def _model(config: Mapping[str, Any], weights: Mapping[str, Any]) -> Any:
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph()
    hidden = _embedded(graph, config, weights)
    mask = _mask(graph)
    for number in range(config["num_hidden_layers"]):
        hidden = _layer(graph, config, _under(weights, f"encoder.layer.{number}."), hidden, mask)
    graph.nodes.append(helper.make_node("Identity", [hidden], ["hidden"]))
    shape = ["texts", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, shape)
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info(
        "hidden", TensorProto.FLOAT, [*shape, config["hidden_size"]]
    )
    made = helper.make_graph(graph.nodes, "bert", inputs, [output], graph.constants)
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=10)
    onnx.checker.check_model(model)
    # Quantization warns unless told that the graph was simplified; this one is simple as written.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    return model


def _under(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _embedded(graph: _Graph, config: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
    """Words, their places, and the one token type that a single text has."""
    own = _under(weights, "embeddings.")
    words = graph.add("Gather", graph.constant(own["word_embeddings.weight"]), "input_ids")
    length = graph.add("Shape", "input_ids", start=1, end=2)
    places = graph.add(
        "Slice",
        graph.constant(own["position_embeddings.weight"] + own["token_type_embeddings.weight"][0]),
        graph.constant(np.array([0])),
        length,
    )
    return _normal(graph, config, _under(own, "LayerNorm."), graph.add("Add", words, places))


def _normal(
    graph: _Graph, config: Mapping[str, Any], weights: Mapping[str, Any], value: str
) -> str:
    scale, bias = graph.constant(weights["weight"]), graph.constant(weights["bias"])
    return graph.add(
        "LayerNormalization", value, scale, bias, axis=-1, epsilon=config["layer_norm_eps"]
    )


def _mask(graph: _Graph) -> str:
    """0 for a token, -10,000 for padding, as (texts, 1, 1, tokens)."""
    kept = graph.add("Cast", "attention_mask", to=1)
    padding = graph.add("Sub", graph.constant(np.float32(1)), kept)
    bias = graph.add("Mul", padding, graph.constant(np.float32(-10_000)))
    return graph.add("Unsqueeze", bias, graph.constant(np.array([1, 2])))


def _layer(
    graph: _Graph, config: Mapping[str, Any], weights: Mapping[str, Any], value: str, mask: str
) -> str:
    mixed = _attention(graph, config, weights, value, mask)
    own = _under(weights, "attention.output.")
    mixed = graph.linear(mixed, own["dense.weight"], own["dense.bias"])
    value = _normal(graph, config, _under(own, "LayerNorm."), graph.add("Add", mixed, value))
    wide = graph.linear(
        value, weights["intermediate.dense.weight"], weights["intermediate.dense.bias"]
    )
    narrow = graph.linear(
        graph.add("Gelu", wide), weights["output.dense.weight"], weights["output.dense.bias"]
    )
    summed = graph.add("Add", narrow, value)
    return _normal(graph, config, _under(weights, "output.LayerNorm."), summed)


def _attention(
    graph: _Graph, config: Mapping[str, Any], weights: Mapping[str, Any], value: str, mask: str
) -> str:
    heads, width = config["num_attention_heads"], config["hidden_size"]
    own = _under(weights, "attention.self.")
    parts = ("query", "key", "value")
    projected = graph.linear(
        value,
        np.concatenate([own[f"{part}.weight"] for part in parts]),
        np.concatenate([own[f"{part}.bias"] for part in parts]),
    )
    split = graph.constant(np.array([0, 0, 3, heads, width // heads]))
    each = graph.add("Reshape", projected, split)
    query, key, content = (
        graph.add(
            "Transpose",
            graph.add("Gather", each, graph.constant(np.array(place)), axis=2),
            perm=[0, 2, 3, 1] if parts[place] == "key" else [0, 2, 1, 3],
        )
        for place in range(3)
    )
    scores = graph.add("MatMul", query, key)
    scaled = graph.add("Mul", scores, graph.constant(np.float32((width // heads) ** -0.5)))
    share = graph.add("Softmax", graph.add("Add", scaled, mask), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", share, content), perm=[0, 2, 1, 3])
    return graph.add("Reshape", mixed, graph.constant(np.array([0, 0, width])))
