"""Pruning and rewinding: the two halves of a lottery-ticket round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirl.models import Density, PromptIR, Snapshot, density_of, preset_choice

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Layer:
    """What is alive of one parameter."""

    name: str
    alive: int
    total: int

    @property
    def density(self) -> float:
        """The share that is alive, in [0, 1]."""
        return self.alive / self.total


@dataclass(frozen=True)
class PruneReport:
    """What is alive after pruning, layer by layer."""

    layers: list[Layer]
    """The prunable parameters, in the network's order."""
    alive: int
    """Values of all parameters that no mask leaves out."""
    total: int
    """Values of all parameters."""
    density: Density

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        lines = [
            f"{layer.name:<{width}} {layer.alive:>10,} of {layer.total:>10,} {layer.density:8.2%}"
            for layer in self.layers
        ]
        lines.append(
            f"alive: {self.alive:,} of {self.total:,} parameters ({self.density.all:.2%});"
            f" {self.density.prunable:.2%} of the prunable"
        )
        return "\n".join(lines)


def prune(
    model: PromptIR,
    amount: float = 0.2,
    scope: str = "global",
    *,
    preset: str = "default",
    threshold: str | None = None,
    alive: str | None = None,
    unused: bool | None = None,
    output_rate: float = 0.5,
) -> PruneReport:
    """Remove the smallest surviving weights (MIR-L, arXiv 2510.14463, algorithm 1).

    Prunable is every parameter with ``weight`` in its name, layer-norm weights included; never
    prompts, temperatures and biases. Removed weights are exactly zero from then on and stay so in
    training. `model.mask` is extended.

    Parameters
    ----------
    model
        The network to prune, in place.
    amount
        Share of the surviving weights to remove, in (0, 1).
    scope
        ``"global"``: all weights compete. ``"layerwise"``: each tensor loses the same share, the
        one named ``output`` only `output_rate` times it.
    preset
        ``"default"``, or ``"paper-code"`` for what the published code does. The presets differ in:
    threshold
        ``"exact"`` (default): exactly ``round(amount * alive)`` weights go, ties by order.
        ``"percentile"`` (paper-code): those below numpy's linear percentile of the magnitudes.
    alive
        ``"mask"`` (default): the mask tells which weights are alive. ``"nonzero"`` (paper-code): a
        weight is alive when it is not zero.
    unused
        Whether the convolutions that the forward never uses compete. Default no, paper-code yes.
    output_rate
        Layerwise, the factor on `amount` for the tensor named ``output``; in (0, 1].

    Returns
    -------
    PruneReport
        What is alive, layer by layer, and both densities.

    Raises
    ------
    ValueError
        An argument out of range, or nothing would be left. The network is unchanged then.
    """
    paper = preset_choice(preset) == "paper-code"
    unused = paper if unused is None else unused
    network = model._network
    network.prune(
        amount,
        scope,
        threshold or ("percentile" if paper else "exact"),
        alive or ("nonzero" if paper else "mask"),
        output_rate,
        unused,
    )
    report = network.report(unused)
    layers, living, total = report
    return PruneReport([Layer(*layer) for layer in layers], living, total, density_of(report))


def rewind(
    model: PromptIR,
    snapshot: Snapshot,
    *,
    preset: str = "default",
    biases: bool = True,
    prompts: bool = False,
    temperatures: bool = False,
) -> None:
    """Set the surviving weights back to their values in a snapshot.

    In both presets, as in the published code: prunable parameters become mask × snapshot, biases
    those of the snapshot, prompts and temperatures keep their trained values.

    Parameters
    ----------
    model
        The network to rewind, in place.
    snapshot
        Of the same network, by `PromptIR.snapshot`.
    preset
        ``"default"`` or ``"paper-code"``; they agree on rewinding.
    biases, prompts, temperatures
        What is rewound beside the weights.

    Raises
    ------
    ValueError
        A snapshot of a network of other sizes. The network is unchanged then.
    """
    preset_choice(preset)
    model._network.rewind(snapshot._snapshot, biases, prompts, temperatures)
