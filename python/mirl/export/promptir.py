"""PromptIR in ONNX's operators, by the names and equations of src/models/promptir.rs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirl.export.layers import block, cat, conv, level, up
from mirl.export.restormer import encoder

if TYPE_CHECKING:
    from mirl.export.graph import Graph


def promptir(graph: Graph, image: str) -> None:
    """Add the network, whose last node gives the restored image."""
    e1, e2, e3, x = encoder(graph, image)  # the last [n, 8d, h/8, w/8]
    x = cat(graph, up(graph.at("up4_3"), prompted(graph, 3, x)), e3)
    x = level(graph.at("decoder_level3"), conv(graph.at("reduce_chan_level3"), x))
    x = cat(graph, up(graph.at("up3_2"), prompted(graph, 2, x)), e2)
    x = level(graph.at("decoder_level2"), conv(graph.at("reduce_chan_level2"), x))
    x = cat(graph, up(graph.at("up2_1"), prompted(graph, 1, x)), e1)
    x = level(graph.at("refinement"), level(graph.at("decoder_level1"), x))  # [n, 2d, h, w]
    graph.add("Add", conv(graph.at("output"), x), image)


def prompted(graph: Graph, i: int, x: str) -> str:
    """Prompt, block on both, reduction; on level i."""
    x = cat(graph, x, _prompt(graph.at(f"prompt{i}"), x))
    return conv(graph.at(f"reduce_noise_level{i}"), block(graph.at(f"noise_level{i}"), x))


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
    return conv(graph.at("conv3x3"), resized)
