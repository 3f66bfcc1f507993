"""The exported network with layer norms in plain operators: the form that OpenVINO runs fastest.

ONNX Runtime is faster with the operator LayerNormalization, which `mirl.export` writes.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from mirl.export import layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirl.export.graph import Graph


@contextmanager
def plain_norms() -> Iterator[None]:
    """Let `mirl.export` write this form."""
    usual = layers._layer_norm
    layers._layer_norm = _layer_norm
    try:
        yield
    finally:
        layers._layer_norm = usual


def _layer_norm(graph: Graph, x: str) -> str:
    body = graph.at("body")
    channels = graph.integers(1)
    weight, bias = (_image(body, name) for name in ("weight", "bias"))
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, channels))
    squares = graph.add("ReduceSumSquare", centred, channels)
    share = graph.scalar(1 / body.shape("weight")[0])
    variance = graph.add("Mul", squares, share)
    epsilon = graph.scalar(layers.LAYER_NORM_EPSILON)
    deviation = graph.add("Sqrt", graph.add("Add", variance, epsilon))
    normal = graph.add("Div", centred, deviation)
    return graph.add("Add", graph.add("Mul", normal, weight), bias)


def _image(body: Graph, name: str) -> str:
    values = body.parameters[f"{body.place}{name}"]
    return body.constant(f"{body.place}{name}.image", np.reshape(values, (1, -1, 1, 1)))
