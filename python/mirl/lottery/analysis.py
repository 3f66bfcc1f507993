"""What tickets have in common, and whether their losses are connected."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.checks import whole
from mirl.data.batches import first_batches
from mirl.groups import prunable
from mirl.lottery.folder import RunFolder

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mirl.models import Network

WIDTH_STEP = 2
"""Channels of the first level come in pairs."""


@dataclass(frozen=True)
class Overlap:
    """How many survivors two networks of one size share."""

    jaccard: float
    """Survivors of both over survivors of either, in [0, 1]."""
    chance: float
    """What masks of the same layer densities would have if they were drawn."""
    layers: dict[str, float] = field(repr=False)
    """The Jaccard index of each parameter that was compared; 1 where nothing is left in either."""


def mask_overlap(first: Network, second: Network) -> Overlap:
    """Compare the masks of two networks.

    Which weights do the tickets of two tasks share, those of two seeds, or two rounds?

    Parameters
    ----------
    first, second
        Of the same sizes.

    Returns
    -------
    Overlap
        The Jaccard index ``|a ∩ b| / |a ∪ b|`` of the survivors, over all prunable parameters and of
        each, and what to expect by chance: Σ n d_a d_b / Σ n (d_a + d_b - d_a d_b) over parameters
        of n values and densities d. What is pruned in either counts, prompts and biases too; what
        the forward never uses does not.

    Raises
    ------
    ValueError
        Networks of different sizes.
    """
    _check_sizes(first, second)
    return _overlap(_masks(first), _masks(second))


def _check_sizes(*networks: Network) -> None:
    shapes = [network.shapes for network in networks]
    if any(each != shapes[0] for each in shapes):
        raise ValueError("networks of different sizes cannot be compared weight by weight")


def _masks(model: Network) -> dict[str, NDArray[np.bool_]]:
    """Masks of all that is pruned or prunable, but for what the forward never uses."""
    network, masks = model._network, model.mask
    counted = {*prunable(network, "default"), *masks}
    return {
        name: masks[name] if name in masks else np.ones(shape, bool)
        for name, shape in model.shapes.items()
        if name in counted and not network.is_unused(name)
    }


def _overlap(
    first: Mapping[str, NDArray[np.bool_]], second: Mapping[str, NDArray[np.bool_]]
) -> Overlap:
    layers = {}
    both = either = by_chance = of_either = 0.0
    for name in {**first, **second}:
        # Where only one of them has a mask, the other's parameter is whole.
        a, b = np.broadcast_arrays(*(masks.get(name, np.True_) for masks in (first, second)))
        shared, union = int((a & b).sum()), int((a | b).sum())
        expected = float(a.mean() * b.mean() * a.size)
        both, either = both + shared, either + union
        by_chance, of_either = by_chance + expected, of_either + shared + union - expected
        layers[name] = shared / union if union else 1.0
    return Overlap(
        both / either if either else 1.0, by_chance / of_either if of_either else 1.0, layers
    )


def mask_stability(
    first: str | os.PathLike[str], second: str | os.PathLike[str]
) -> dict[int, Overlap]:
    """Compare the masks of two runs round by round.

    Two seeds of one method, or two methods of one seed: how far a ranking of the dense network
    (one-shot) agrees with what round after round of training arrives at, say.

    Parameters
    ----------
    first, second
        Folders of runs.

    Returns
    -------
    dict
        By the rounds that both have come to, from 1, as `mask_overlap` gives it.

    Raises
    ------
    FileNotFoundError
        A folder holds no run.
    ValueError
        Networks of different sizes.
    """
    runs = [RunFolder.existing(folder) for folder in (first, second)]
    first_rounds, second_rounds = ({record["round"] for record in run.records()} for run in runs)
    return {
        round_: mask_overlap(*(run.network(round_) for run in runs))
        for round_ in sorted(first_rounds & second_rounds - {0})
    }


def overlap_matrix(networks: Mapping[str, Network]) -> NDArray[np.float64]:
    """Jaccard indices between all of some networks, in their order.

    Parameters
    ----------
    networks
        Of the same sizes, by name.

    Returns
    -------
    numpy.ndarray
        Symmetric, float64 (N, N), ones on the diagonal.

    Raises
    ------
    ValueError
        Networks of different sizes.
    """
    _check_sizes(*networks.values())
    masks = [_masks(network) for network in networks.values()]
    matrix = np.ones((len(masks), len(masks)))
    for i, first in enumerate(masks):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = _overlap(first, masks[j]).jaccard
    return matrix


@dataclass(frozen=True)
class Connectivity:
    """The loss on the line between two networks."""

    positions: NDArray[np.float64]
    """From 0, the first network, to 1, the second."""
    losses: NDArray[np.float64]
    """The mean absolute error at each."""

    @property
    def barrier(self) -> float:
        """The most by which the loss exceeds the line between its ends; 0 where it never does."""
        line = (1 - self.positions) * self.losses[0] + self.positions * self.losses[-1]
        return float((self.losses - line).max())


def linear_connectivity(
    first: Network, second: Network, data: Any, *, points: int = 11, batches: int = 8
) -> Connectivity:
    """The loss along the straight line between the weights of two networks.

    Two runs from the same start are stable to the order of their data where there is no barrier
    between them (Frankle et al., Linear Mode Connectivity and the Lottery Ticket Hypothesis, ICML
    2020, section 2).

    Parameters
    ----------
    first, second
        Of the same sizes.
    data
        A `mirl.Loader` or any iterable of ``(degraded, clean)`` batches.
    points
        Places on the line, both ends included.
    batches
        How many batches the loss is the mean of, the first ones.

    Returns
    -------
    Connectivity
        Places, losses, and the barrier.

    Raises
    ------
    ValueError
        Networks of different sizes, less than two points, data without a batch.
    """
    _check_sizes(first, second)
    whole("points", points, 2)
    pairs = first_batches(data, batches)
    positions = np.linspace(0, 1, points)
    ends = first.state_dict(), second.state_dict()
    between = copy.deepcopy(first)
    between.mask = {}
    losses = []
    for position in positions:
        state = {
            name: ((1 - position) * ends[0][name] + position * ends[1][name]).astype(np.float32)
            for name in ends[0]
        }
        between.load_state_dict(state)
        errors = [np.abs(between(x) - y).mean(dtype=np.float64) for x, y in pairs]
        losses.append(float(np.mean(errors)))
    return Connectivity(positions, np.array(losses))


def dense_sizes(ticket: Network) -> dict[str, Any]:
    """Sizes of a dense network with as many parameters as a ticket has left.

    The same depth, and all widths narrower by one factor: the control that asks whether a small
    network would do as well.

    Parameters
    ----------
    ticket
        A pruned network.

    Returns
    -------
    dict
        Arguments of the network's class: of all widths the one whose count comes nearest.
    """
    config = ticket.config
    wanted = ticket.density().all * ticket.num_parameters
    widths = range(WIDTH_STEP, config["dim"] + 1, WIDTH_STEP)
    best, nearest = config, abs(ticket.num_parameters - wanted)
    for size in (_narrowed(config, width) for width in widths):
        try:
            apart = abs(type(ticket)(**size).num_parameters - wanted)
        except ValueError:
            continue  # widths that do not split into the heads
        if apart < nearest:
            best, nearest = size, apart
    return best


def _narrowed(config: dict[str, Any], dim: int) -> dict[str, Any]:
    narrowed = config | {"dim": dim}
    if "prompt_dims" in config:
        factor = dim / config["dim"]
        # Blocks on features and prompts split their channels into the heads of their level.
        step = max(config["heads"])
        dims = [max(step, round(factor * width / step) * step) for width in config["prompt_dims"]]
        narrowed["prompt_dims"] = dims
    return narrowed
