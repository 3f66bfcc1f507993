"""What a weight is worth: criteria of pruning. The weights of the smallest scores go.

A criterion of your own is a function of a parameter's weights and gradients that returns scores of
the same shape; see `mirl.prune`. Gradients are those of the mean absolute error, whatever loss the
network is trained with.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mirl.models import Network

Array = NDArray[np.float32]
State = Mapping[str, Array]
Batches = Sequence[tuple[Array, Array]]
Score = Callable[[Array, Array], Any]
"""Scores by the weights and the gradients of a parameter, all of one shape."""

SYNFLOW_STEPS = 100
"""Prunings of SynFlow (Tanaka et al. 2020, section 6)."""
SYNFLOW_SIZE = 64
"""Height and width of the image of ones that flows through the network. Masks depend on it a
little: with 80 % of a small network pruned, those by 32 or 128 have a Jaccard index of 0.94 with
those by 64."""
HESSIAN_STEP = 3e-5
"""Norm of the two steps from the weights, relative to theirs, between which gradients differ by Hg."""


@dataclass(frozen=True)
class Criterion:
    """A score, and what it is computed from."""

    score: Score
    """Scores by the weights of a parameter and what `signals` has for it."""
    signals: Callable[[Network, Batches, Sequence[int]], Iterator[State]]
    """Arrays by parameter name, from a network, batches and a seed; the scores of all that it yields
    are averaged."""
    data: Literal["ignored", "taken", "needed"] = "ignored"
    """What becomes of batches."""
    steps: int = 1
    """Prunings, each with scores of its own, in which an amount is removed."""


def magnitude(weights: Array, _: Array) -> Any:
    """``|w|`` (Han et al. 2015)."""
    return np.abs(weights)


def random(_: Array, uniform: Array) -> Any:
    """A number drawn for each weight."""
    return uniform


def snip(weights: Array, gradients: Array) -> Any:
    """``|g w|``, by how much the error changes with the weight (Lee et al. 2019, eq. 4)."""
    return np.abs(gradients * weights)


def taylor(weights: Array, gradients: Array) -> Any:
    """(g w)² of each batch, averaged (Molchanov et al. 2019, eq. 8)."""
    return np.square(gradients * weights)


def grasp(weights: Array, hessian_gradient: Array) -> Any:
    """(Hg) w: what is left of the gradients' flow (Wang et al. 2020, eq. 8, with its sign turned)."""
    return hessian_gradient * weights


def synflow(weights: Array, flow: Array) -> Any:
    """``|w ∂R/∂w|``, R the sum of the outputs of the network of ``|w|`` (Tanaka et al. 2020, eq. 2).

    There the prompts' softmax is saturated, and gradients of ``prompt*.linear_layer.weight`` are
    exactly 0 in float32: these weights go first. ``exclude=("dead", "prompt*.linear_layer.weight")``
    keeps them.
    """
    return np.abs(flow * weights)


def _nothing(model: Network, _: Batches, __: Sequence[int]) -> Iterator[State]:
    yield {}


def _uniform(model: Network, _: Batches, seed: Sequence[int]) -> Iterator[State]:
    draw = {
        name: np.random.default_rng([*seed, zlib.crc32(name.encode())]) for name in model.shapes
    }
    yield {name: draw[name].random(shape, np.float32) for name, shape in model.shapes.items()}


def _batch_gradients(model: Network, batches: Batches, _: Sequence[int]) -> Iterator[State]:
    for degraded, clean in batches:
        yield model.gradients(degraded, clean)


def _gradient(model: Network, batches: Batches, seed: Sequence[int]) -> Iterator[State]:
    """The gradient of the mean absolute error of all batches; where there is none, no array."""
    yield _mean(_batch_gradients(model, batches, seed))


def _mean(states: Iterable[State]) -> dict[str, Array]:
    sums: dict[str, NDArray[np.float64]] = {}
    count = 0
    for state in states:
        count += 1
        for name, values in state.items():
            sums[name] = sums.get(name, 0.0) + values.astype(np.float64)
    return {name: (total / count).astype(np.float32) for name, total in sums.items()}


def _hessian_gradient(model: Network, batches: Batches, seed: Sequence[int]) -> Iterator[State]:
    """The product Hg, as the difference of gradients at two points on the line along g.

    H is of the error with its signs as they are, as differentiating twice has it: where one turns on
    the way, the absolute error has a kink, which would be most of the difference.
    """
    (gradient,) = _gradient(model, batches, seed)
    # Of the network that is differentiated, whatever it restores in.
    slopes = [
        np.sign(model._network.restore(degraded, "float32") - clean) / clean.size
        for degraded, clean in batches
    ]
    mask, state = model.mask, model.state_dict()
    alive = {name: values * mask.get(name, True) for name, values in gradient.items()}
    step = HESSIAN_STEP * _norm(state) / (_norm(alive) or 1.0)
    sides = []
    for sign in (1, -1):
        moved = {
            name: (values + sign * step * alive[name]).astype(np.float32)
            for name, values in state.items()
            if name in alive
        }
        network = _copy(model, state | moved)._network
        pairs = zip(batches, slopes, strict=True)
        sides.append(_mean(network.vjp(degraded, slope) for (degraded, _), slope in pairs))
    yield {name: (sides[0][name] - sides[1][name]) / np.float32(2 * step) for name in alive}


def _flow(model: Network, _: Batches, __: Sequence[int]) -> Iterator[State]:
    positive = _copy(model, {name: np.abs(values) for name, values in model.state_dict().items()})
    ones = np.ones((1, 3, SYNFLOW_SIZE, SYNFLOW_SIZE), np.float32)
    yield positive._network.vjp(ones, ones)


CRITERIA: dict[str, Criterion] = {
    "magnitude": Criterion(magnitude, _nothing),
    "random": Criterion(random, _uniform),
    "snip": Criterion(snip, _gradient, data="needed"),
    "taylor": Criterion(taylor, _batch_gradients, data="needed"),
    "grasp": Criterion(grasp, _hessian_gradient, data="needed"),
    "synflow": Criterion(synflow, _flow, steps=SYNFLOW_STEPS),
}


def criterion_of(criterion: str | Score) -> Criterion:
    """The criterion of a name, or around a function of weights and gradients.

    Raises
    ------
    ValueError
        An unknown name.
    TypeError
        Neither a name nor a function.
    """
    if isinstance(criterion, str):
        if criterion not in CRITERIA:
            raise ValueError(f"criterion must be one of {tuple(CRITERIA)}, got {criterion!r}")
        return CRITERIA[criterion]
    if not callable(criterion):
        kind = type(criterion).__name__
        raise TypeError(f"criterion must be a name, a function or scores by name, got {kind}")
    return Criterion(criterion, _gradient, data="taken")


def scores_of(
    model: Network,
    criterion: Criterion,
    names: Iterable[str],
    batches: Batches,
    seed: Sequence[int],
) -> dict[str, Array]:
    """Scores of the named parameters; what has no gradient scores as if it were zero.

    Raises
    ------
    ValueError
        Scores of another shape than the weights; or NaN, as of gradients where there are no batches.
    """
    state = model.state_dict()
    # Zeros would be worth the same everywhere, and what comes first would go.
    blind = criterion.data == "taken" and not batches
    missing = np.nan if blind else 0.0

    def scored(signal: State) -> dict[str, Array]:
        found = {}
        for name in names:
            weights = state[name]
            signals = signal.get(name, np.full_like(weights, missing))
            scores = np.asarray(criterion.score(weights, signals))
            if scores.shape != weights.shape:
                raise ValueError(
                    f"{name}: the criterion returned scores of shape {scores.shape}"
                    f" for weights of shape {weights.shape}"
                )
            if blind and np.isnan(scores).any():
                raise ValueError(
                    f"{name}: a score of NaN; a criterion that uses gradients needs data"
                )
            found[name] = scores
        return found

    return _mean(map(scored, criterion.signals(model, batches, seed)))


def _copy(model: Network, state: State) -> Network:
    """A network of these values, with the same masks, in the same place."""
    copied = copy.deepcopy(model)
    copied.load_state_dict(state)
    return copied


def _norm(state: State) -> float:
    squares = (np.square(values, dtype=np.float64).sum() for values in state.values())
    return float(np.sqrt(sum(squares)))
