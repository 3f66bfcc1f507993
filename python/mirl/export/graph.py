"""A graph of operators that grows node by node."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class Node(NamedTuple):
    """An operator and the names of what it takes and gives."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """The nodes and constants so far, seen from one place of the network.

    What flows from node to node is known by its name: place, operator and a number. Parameters have
    their own names.
    """

    parameters: Mapping[str, NDArray[np.float32]]
    """Of the whole network, by name."""
    config: Mapping[str, Any]
    """Its sizes."""
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    """What nodes read, by name: parameters and numbers."""
    place: str = ""

    def at(self, name: str) -> Graph:
        """Return the same graph, seen from a place within this one."""
        return replace(self, place=f"{self.place}{name}.")

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of what it gives."""
        output = f"{self.place}{operator}.{len(self.nodes)}"
        self.nodes.append(Node(operator, inputs, output, attributes))
        return output

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a parameter of this place."""
        return self.parameters[self.place + name].shape

    def parameter(self, name: str, rows: range | None = None) -> str:
        """Add a parameter of this place, or some of its rows, and return its full name."""
        name = self.place + name
        if rows is None:
            return self.constant(name, self.parameters[name])
        values = self.parameters[name][rows.start : rows.stop]
        return self.constant(f"{name}[{rows.start}:{rows.stop}]", values)

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add numbers that are known, unless they are there, and return their name."""
        self.constants.setdefault(name, values)
        return name

    def integers(self, *values: int) -> str:
        """Add a short vector, such as a shape."""
        return self.constant(f"int64{list(values)}", np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """Add a number."""
        return self.constant(f"float32({value})", np.array(value, np.float32))
