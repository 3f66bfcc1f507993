"""Layers of the networks in ONNX's operators, by the names and equations of src/nn and src/ops/block.

Images are [n, c, h, w]. Where weights or scores can be split or divided, images are not: it spares
ONNX Runtime and OpenVINO copies, and with uneven parts OpenVINO takes half as long again.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mirl.export.graph import Graph

LAYER_NORM_EPSILON = 1e-5
"""As in src/ops/block."""
DIRECTION_EPSILON = 1e-12
"""As in src/ops/block: the shortest q or k that is divided by its length."""


def level(graph: Graph, x: str) -> str:
    """All the blocks that there are."""
    for index in count():
        place = graph.at(str(index))
        # There is a first one: without, it is an error to look for it.
        if index > 0 and f"{place.place}norm1.body.weight" not in graph.parameters:
            break
        x = block(place, x)
    return x


def block(graph: Graph, x: str) -> str:
    """Attention, then the feed-forward network, each added to what it is given."""
    x = graph.add("Add", x, _attention(graph.at("attn"), _layer_norm(graph.at("norm1"), x)))
    return graph.add("Add", x, _feed_forward(graph.at("ffn"), _layer_norm(graph.at("norm2"), x)))


def _layer_norm(graph: Graph, x: str) -> str:
    """Over channels, which ONNX wants last."""
    body = graph.at("body")
    if f"{body.place}bias" not in graph.parameters:
        return _bias_free(body, x)
    weight, bias = body.parameter("weight"), body.parameter("bias")
    rows = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    rows = graph.add("LayerNormalization", rows, weight, bias, epsilon=LAYER_NORM_EPSILON)
    return graph.add("Transpose", rows, perm=[0, 3, 1, 2])


def _bias_free(graph: Graph, x: str) -> str:
    """γ·x/√(σ² + ε), for which ONNX has no operator."""
    weight = graph.parameters[f"{graph.place}weight"].reshape(-1, 1, 1)
    channels = graph.integers(1)
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, channels))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), channels)
    deviation = graph.add("Sqrt", graph.add("Add", variance, graph.scalar(LAYER_NORM_EPSILON)))
    scaled = graph.add("Div", x, deviation)
    return graph.add("Mul", scaled, graph.constant(f"{graph.place}weight", weight))


def _attention(graph: Graph, x: str) -> str:
    """W·A·v with A = softmax(τ·q·kᵀ / (‖q‖·‖k‖))."""
    q, k, v = _expand(graph, "qkv", "qkv_dwconv", 3, x)
    heads, channels = graph.shape("temperature")[0], graph.shape("project_out.weight")[0]
    by_head = graph.integers(0, heads, channels // heads, -1)
    q, k, v = (graph.add("Reshape", part, by_head) for part in (q, k, v))  # [n, heads, c, h·w]
    scores = graph.add("MatMul", q, graph.add("Transpose", k, perm=[0, 1, 3, 2]))
    scores = graph.add("Div", scores, _length(graph, q))
    scores = graph.add("Div", scores, graph.add("Transpose", _length(graph, k), perm=[0, 1, 3, 2]))
    scores = graph.add("Mul", scores, graph.parameter("temperature"))
    y = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), v)
    return conv(graph.at("project_out"), graph.add("Reshape", y, graph.add("Shape", x)))


def _length(graph: Graph, x: str) -> str:
    """Of each channel over all pixels, [n, heads, c, 1]."""
    length = graph.add("ReduceL2", x, graph.integers(-1))
    return graph.add("Max", length, graph.scalar(DIRECTION_EPSILON))


def _feed_forward(graph: Graph, x: str) -> str:
    a, b = _expand(graph, "project_in", "dwconv", 2, x)
    return conv(graph.at("project_out"), graph.add("Mul", graph.add("Gelu", a), b))


def _expand(graph: Graph, pointwise: str, depthwise: str, parts: int, x: str) -> list[str]:
    """1×1, then depthwise 3×3 convolution, each part of the channels by itself."""
    channels = graph.shape(f"{depthwise}.weight")[0] // parts
    results = []
    for start in range(0, parts * channels, channels):
        rows = range(start, start + channels)
        part = conv(graph.at(pointwise), x, rows)
        results.append(conv(graph.at(depthwise), part, rows, group=channels))
    return results


def conv(graph: Graph, x: str, rows: range | None = None, group: int = 1, stride: int = 1) -> str:
    """Convolution, to all channels or to those of some rows.

    1×1 or 3×3, padded to the same size, or 2×2 with a stride of 2. With a bias where there is one.
    """
    *_, size = graph.shape("weight")
    parameters = [graph.parameter("weight", rows)]
    if f"{graph.place}bias" in graph.parameters:
        parameters.append(graph.parameter("bias", rows))
    shape = {"kernel_shape": [size] * 2, "pads": [(size - 1) // 2] * 4, "strides": [stride] * 2}
    return graph.add("Conv", x, *parameters, group=group, **shape)


def down(graph: Graph, x: str) -> str:
    """Half the channels, then four of them from each 2×2 pixels, those of one channel together."""
    place = graph.at("body.0")
    channels = place.shape("weight")[0]
    x = graph.add("SpaceToDepth", conv(place, x), blocksize=2)  # those of one pixel together
    order = np.arange(4 * channels).reshape(4, channels).T.ravel()
    return graph.add("Gather", x, graph.constant(f"{graph.place}order", order), axis=1)


def up(graph: Graph, x: str) -> str:
    """Twice the channels, then 2×2 pixels from each four of them."""
    return shuffle(graph, conv(graph.at("body.0"), x))


def shuffle(graph: Graph, x: str) -> str:
    """2×2 pixels from each four channels."""
    return graph.add("DepthToSpace", x, blocksize=2, mode="CRD")


def cat(graph: Graph, *parts: str) -> str:
    """Channels beside channels."""
    return graph.add("Concat", *parts, axis=1)
