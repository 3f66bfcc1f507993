"""ONNX files (github.com/onnx/onnx, docs/IR.md), written by the package onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirl.export.dynet import dynet
from mirl.export.graph import Graph
from mirl.export.promptir import promptir
from mirl.export.restormer import restormer
from mirl.export.symunet import symunet
from mirl.extras import need

if TYPE_CHECKING:
    from pathlib import Path

    from mirl.models import Network

GRAPHS = {"PromptIR": promptir, "Restormer": restormer, "DyNet": dynet, "SymUNet": symunet}
"""What adds a network to a graph, by its name."""
IMAGE = "image"
RESTORED = "restored"
OPSET = 20
"""The first with Gelu."""
IR_VERSION = 9
"""The one that came with this opset: programs refuse later ones than they know."""
MAX_BYTES = 1 << 31
"""What a protobuf message, which an ONNX file is, stays below."""


def write_onnx(model: Network, path: Path) -> None:
    """Write the graph of a network."""
    need("onnx", "onnx")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = Graph(model.state_dict(), model.config)
    name = model._network.name
    GRAPHS[name](graph, IMAGE)
    graph.nodes[-1] = graph.nodes[-1]._replace(output=RESTORED)
    if sum(values.nbytes for values in graph.constants.values()) >= MAX_BYTES:
        raise ValueError(f"{model.num_parameters:,} parameters do not fit into an ONNX file")
    images: list[str | int | None] = ["N", 3, "H", "W"]
    content = helper.make_graph(
        [
            helper.make_node(operator, inputs, [output], name=output, **attributes)
            for operator, inputs, output, attributes in graph.nodes
        ],
        name,
        [helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, images)],
        [helper.make_tensor_value_info(RESTORED, TensorProto.FLOAT, images)],
        [numpy_helper.from_array(values, name) for name, values in graph.constants.items()],
    )
    file = helper.make_model(
        content, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.save(file, path)
