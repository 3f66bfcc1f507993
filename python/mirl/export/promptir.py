"""PromptIR in ONNX's operators, by the names and equations of src/models/promptir.rs and src/ops/block.

Images are [n, c, h, w]. Where weights or scores can be split or divided, images are not: it spares
ONNX Runtime and OpenVINO copies, and with uneven parts OpenVINO takes half as long again.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from mirl.export.graph import Node

if TYPE_CHECKING:
    from mirl.export.graph import Graph

IMAGE = "image"
RESTORED = "restored"

LAYER_NORM_EPSILON = 1e-5
"""As in src/ops/block."""
DIRECTION_EPSILON = 1e-12
"""As in src/ops/block: the shortest q or k that is divided by its length."""


def promptir(graph: Graph) -> None:
    """Add the network, from `IMAGE` to `RESTORED`."""
    e1 = _level(graph.at("encoder_level1"), _conv(graph.at("patch_embed.proj"), IMAGE))
    e2 = _level(graph.at("encoder_level2"), _down(graph.at("down1_2"), e1))
    e3 = _level(graph.at("encoder_level3"), _down(graph.at("down2_3"), e2))
    x = _level(graph.at("latent"), _down(graph.at("down3_4"), e3))  # [n, 8d, h/8, w/8]
    x = _up(graph.at("up4_3"), _prompted(graph, 3, x), e3)
    x = _level(graph.at("decoder_level3"), _conv(graph.at("reduce_chan_level3"), x))
    x = _up(graph.at("up3_2"), _prompted(graph, 2, x), e2)
    x = _level(graph.at("decoder_level2"), _conv(graph.at("reduce_chan_level2"), x))
    x = _up(graph.at("up2_1"), _prompted(graph, 1, x), e1)
    x = _level(graph.at("refinement"), _level(graph.at("decoder_level1"), x))  # [n, 2d, h, w]
    graph.nodes.append(Node("Add", (_conv(graph.at("output"), x), IMAGE), RESTORED, {}))


def _prompted(graph: Graph, level: int, x: str) -> str:
    """Prompt, block on both, reduction."""
    x = graph.add("Concat", x, _prompt(graph.at(f"prompt{level}"), x), axis=1)
    return _conv(graph.at(f"reduce_noise_level{level}"), _block(graph.at(f"noise_level{level}"), x))


def _prompt(graph: Graph, x: str) -> str:
    _, length, dim, height, width = graph.shape("prompt_param")
    linear = graph.at("linear_layer")
    means = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    logits = linear.add(
        "Gemm", means, linear.parameter("weight"), linear.parameter("bias"), transB=1
    )
    weights = graph.add("Softmax", logits, axis=1)  # [n, length]
    prompts = graph.add("Reshape", graph.parameter("prompt_param"), graph.integers(length, -1))
    mixed = graph.add("MatMul", weights, prompts)
    mixed = graph.add("Reshape", mixed, graph.integers(-1, dim, height, width))
    size = graph.add("Shape", x, start=2)
    resized = graph.add("Resize", mixed, "", "", size, axes=[2, 3], mode="linear")
    return _conv(graph.at("conv3x3"), resized)


def _level(graph: Graph, x: str) -> str:
    """All the blocks that there are."""
    for index in count():
        block = graph.at(str(index))
        if f"{block.place}norm1.body.weight" not in graph.parameters:
            break
        x = _block(block, x)
    return x


def _block(graph: Graph, x: str) -> str:
    x = graph.add("Add", x, _attention(graph.at("attn"), _layer_norm(graph.at("norm1"), x)))
    return graph.add("Add", x, _feed_forward(graph.at("ffn"), _layer_norm(graph.at("norm2"), x)))


def _layer_norm(graph: Graph, x: str) -> str:
    """Over channels, which ONNX wants last."""
    body = graph.at("body")
    weight, bias = body.parameter("weight"), body.parameter("bias")
    rows = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    rows = graph.add("LayerNormalization", rows, weight, bias, epsilon=LAYER_NORM_EPSILON)
    return graph.add("Transpose", rows, perm=[0, 3, 1, 2])


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
    return _conv(graph.at("project_out"), graph.add("Reshape", y, graph.add("Shape", x)))


def _length(graph: Graph, x: str) -> str:
    """Of each channel over all pixels, [n, heads, c, 1]."""
    length = graph.add("ReduceL2", x, graph.integers(-1))
    return graph.add("Max", length, graph.scalar(DIRECTION_EPSILON))


def _feed_forward(graph: Graph, x: str) -> str:
    a, b = _expand(graph, "project_in", "dwconv", 2, x)
    return _conv(graph.at("project_out"), graph.add("Mul", graph.add("Gelu", a), b))


def _expand(graph: Graph, pointwise: str, depthwise: str, parts: int, x: str) -> list[str]:
    """1×1, then depthwise 3×3 convolution, each part of the channels by itself."""
    channels = graph.shape(f"{depthwise}.weight")[0] // parts
    results = []
    for start in range(0, parts * channels, channels):
        rows = range(start, start + channels)
        part = _conv(graph.at(pointwise), x, rows)
        results.append(_conv(graph.at(depthwise), part, rows, group=channels))
    return results


def _conv(graph: Graph, x: str, rows: range | None = None, group: int = 1) -> str:
    """1×1 or 3×3 convolution, to all channels or to those of some rows; padded to the same size."""
    *_, size = graph.shape("weight")
    weight = graph.parameter("weight", rows)
    shape = {"kernel_shape": [size] * 2, "pads": [size // 2] * 4}
    return graph.add("Conv", x, weight, group=group, **shape)


def _down(graph: Graph, x: str) -> str:
    """Half the channels, then four of them from each 2×2 pixels, those of one channel together."""
    place = graph.at("body.0")
    channels = place.shape("weight")[0]
    x = graph.add("SpaceToDepth", _conv(place, x), blocksize=2)  # those of one pixel together
    order = np.arange(4 * channels).reshape(4, channels).T.ravel()
    return graph.add("Gather", x, graph.constant(f"{graph.place}order", order), axis=1)


def _up(graph: Graph, x: str, skip: str) -> str:
    """Twice the size, beside what the encoder had there."""
    x = graph.add("DepthToSpace", _conv(graph.at("body.0"), x), blocksize=2, mode="CRD")
    return graph.add("Concat", x, skip, axis=1)
