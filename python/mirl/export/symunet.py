"""SymUNet in ONNX's operators, by the names and equations of src/models/symunet.rs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirl.export.layers import conv, level, shuffle

if TYPE_CHECKING:
    from mirl.export.graph import Graph

LEVELS = 3


def symunet(graph: Graph, image: str) -> None:
    """Add the network, whose last node gives the restored image."""
    x = conv(graph.at("intro"), image)
    skips = []
    for i in range(LEVELS):
        x = level(graph.at(f"encoders.{i}"), x)
        skips.append(x)
        x = conv(graph.at(f"downs.{i}"), x, stride=2)
    x = level(graph.at("middle_blks"), x)  # [n, 8d, h/8, w/8]
    for i, skip in enumerate(reversed(skips)):
        x = graph.add("Add", shuffle(graph, conv(graph.at(f"ups.{i}.0"), x)), skip)
        x = level(graph.at(f"decoders.{i}"), x)
    graph.add("Add", conv(graph.at("ending"), x), image)
