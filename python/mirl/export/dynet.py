"""DyNet in ONNX's operators, by the names and equations of src/models/dynet.rs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirl.export.layers import block, cat, conv, down, level, up
from mirl.export.promptir import prompted

if TYPE_CHECKING:
    from mirl.export.graph import Graph


def dynet(graph: Graph, image: str) -> None:
    """Add the network, whose last node gives the restored image."""
    e1 = _repeated(graph, "encoder_level1", 0, conv(graph.at("patch_embed.proj"), image))
    e2 = _repeated(graph, "encoder_level2", 1, down(graph.at("down1_2"), e1))
    e3 = _repeated(graph, "encoder_level3", 2, down(graph.at("down2_3"), e2))
    x = _repeated(graph, "latent", 3, down(graph.at("down3_4"), e3))  # [n, 8d, h/8, w/8]
    x = cat(graph, up(graph.at("up4_3"), prompted(graph, 3, x)), prompted(graph, 2, e3))
    x = _repeated(graph, "decoder_level3", 2, conv(graph.at("reduce_chan_level3"), x))
    x = cat(graph, up(graph.at("up3_2"), x), prompted(graph, 1, e2))
    x = _repeated(graph, "decoder_level2", 1, conv(graph.at("reduce_chan_level2"), x))
    x = cat(graph, up(graph.at("up2_1"), x), e1)
    x = level(graph.at("refinement"), _repeated(graph, "decoder_level1", 0, x))  # [n, 2d, h, w]
    graph.add("Add", conv(graph.at("output"), x), image)


def _repeated(graph: Graph, name: str, i: int, x: str) -> str:
    """One block, as often as level i has it."""
    for _ in range(graph.config["num_blocks"][i]):
        x = block(graph.at(name), x)
    return x
