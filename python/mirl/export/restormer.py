"""Restormer in ONNX's operators, by the names and equations of src/models/restormer.rs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirl.export.layers import cat, conv, down, level, up

if TYPE_CHECKING:
    from mirl.export.graph import Graph


def restormer(graph: Graph, image: str) -> None:
    """Add the network, whose last node gives the restored image."""
    e1, e2, e3, x = encoder(graph, image)  # the last [n, 8d, h/8, w/8]
    x = cat(graph, up(graph.at("up4_3"), x), e3)
    x = level(graph.at("decoder_level3"), conv(graph.at("reduce_chan_level3"), x))
    x = cat(graph, up(graph.at("up3_2"), x), e2)
    x = level(graph.at("decoder_level2"), conv(graph.at("reduce_chan_level2"), x))
    x = cat(graph, up(graph.at("up2_1"), x), e1)
    x = level(graph.at("refinement"), level(graph.at("decoder_level1"), x))  # [n, 2d, h, w]
    graph.add("Add", conv(graph.at("output"), x), image)


def encoder(graph: Graph, image: str) -> tuple[str, str, str, str]:
    """Add levels 1 to 3 and the latent one, and return what each gives."""
    e1 = level(graph.at("encoder_level1"), conv(graph.at("patch_embed.proj"), image))
    e2 = level(graph.at("encoder_level2"), down(graph.at("down1_2"), e1))
    e3 = level(graph.at("encoder_level3"), down(graph.at("down2_3"), e2))
    return e1, e2, e3, level(graph.at("latent"), down(graph.at("down3_4"), e3))
