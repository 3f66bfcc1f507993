"""Pruning and rewinding: the two halves of a lottery-ticket round."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from mirl.checks import check_choice, check_switches, finite, whole
from mirl.choices import Of
from mirl.criteria import Array, Criterion, criterion_of, scores_of
from mirl.data.batches import first_batches
from mirl.errors import CollapseWarning
from mirl.groups import excluded, select
from mirl.models import Density, Network, Snapshot, check_model, preset_choice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mirl import _mirl
    from mirl.arrays import FloatArray
    from mirl.choices import Alive, CriterionName, Granularity, Preset, Scope, Threshold
    from mirl.criteria import Score

OUTPUT_RATE = 0.5
"""Layerwise, what the tensor named ``output`` loses beside the others, in the published code."""
WITHOUT_FIRST = "the network adds the same to every image of one size"
WITHOUT_LAST = "the network returns its input"
BIAS_ALONE = "the network adds one colour to every image"
"""What a network does without its first or its last convolution, which may have a bias. All goes
through them on its way to what is added to the input; blocks can be gone around."""


@dataclass(frozen=True)
class Layer:
    """What is alive of one parameter."""

    name: str
    alive: int
    """Its values that the mask keeps."""
    total: int
    """All of its values."""

    @property
    def density(self) -> float:
        """The share that is alive, in [0, 1]."""
        return self.alive / self.total


@dataclass(frozen=True, repr=False)
class PruneReport:
    """What is alive after pruning, layer by layer."""

    layers: list[Layer]
    """The parameters that competed, in the network's order."""
    alive: int
    """Values of all parameters that no mask leaves out."""
    total: int
    """Values of all parameters."""
    density: Density
    """The same as shares."""

    def __iter__(self) -> Iterator[Layer]:
        """Go through the layers."""
        return iter(self.layers)

    def __len__(self) -> int:
        """The number of layers."""
        return len(self.layers)

    def __getitem__(self, name: str) -> Layer:
        """The layer of a parameter, by its name; KeyError where it did not compete."""
        return {layer.name: layer for layer in self.layers}[name]

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        lines = [
            f"{layer.name:<{width}} {layer.alive:>10,} of {layer.total:>10,} {layer.density:8.2%}"
            for layer in self.layers
        ]
        return "\n".join([*lines, self._summary()])

    def __repr__(self) -> str:
        return f"PruneReport({len(self.layers)} layers, {self._summary()})"

    def _summary(self) -> str:
        return (
            f"alive: {self.alive:,} of {self.total:,} parameters ({self.density.all:.2%});"
            f" {self.density.prunable:.2%} of the prunable"
        )


def prune(
    model: Network,
    amount: float = 0.2,
    scope: Scope = "global",
    *,
    criterion: CriterionName | Score | Mapping[str, NDArray[np.floating]] = "magnitude",
    data: Any = None,
    batches: int = 8,
    granularity: Granularity = "weights",
    include: Sequence[str] = ("weights",),
    exclude: Sequence[str] | None = None,
    min_density: float = 0.0,
    seed: int | Sequence[int] = 0,
    preset: Preset = "default",
    threshold: Threshold | None = None,
    alive: Alive | None = None,
    output_rate: float = OUTPUT_RATE,
    of: Of = "alive",
) -> PruneReport:
    """Remove the surviving weights of the smallest scores.

    By default the smallest magnitudes, as MIR-L does (arXiv 2510.14463, algorithm 1), of every
    parameter with ``weight`` in its name, layer-norm weights included; prompts, temperatures and
    biases only where `include` says so. Removed weights are exactly zero from then on and stay so
    in training. `Network.mask` is extended.

    Parameters
    ----------
    model
        The network to prune, in place.
    amount
        Share of the surviving weights to remove, in (0, 1); of the surviving channels where
        `granularity` is ``"channels"``. N:M patterns ignore it (it must lie in (0, 1) all the same).
    scope
        ``"global"``: all compete. ``"layerwise"``: each tensor loses the same share, the one named
        ``output`` only `output_rate` times it. ``"uniform"``: each tensor comes to the same density.
        ``"erk"``: its density goes with (n_out + n_in + h + w)/(n_out n_in h w), the Erdős–Rényi
        kernel (Evci et al. 2020, section 3). Nothing that was removed comes back for the last two.
    criterion
        ``"magnitude"``; ``"random"``; by gradients ``"snip"``, ``"taylor"``, ``"grasp"``;
        ``"synflow"``, in a hundred prunings without data: see `mirl.criteria` for formulas and
        papers. Or a function ``(weights, gradients) -> scores`` of the arrays of one parameter
        (gradients are those of the mean absolute error, and NaN without `data`); or the scores by
        parameter name, as of `mirl.Trainer.movement`.
    data, batches
        What gradients are taken of: a `mirl.Loader` or any iterable of ``(degraded, clean)``, and
        how many of its batches, the first ones (of a loader, those of epoch 0).
    granularity
        ``"weights"``; ``"channels"``: whole output channels of tensors of two or more dimensions, by
        their mean score; ``"N:M"``, as ``"2:4"``: of each M weights along the input channels the N
        of the largest scores stay, where the input channels come in whole groups.
    include, exclude
        Which parameters compete: groups (``"weights"``, ``"norms"``, ``"biases"``, ``"prompts"``,
        ``"temperatures"``, ``"dead"``), names, or patterns (``"encoder_level1.*"``). By default
        ``"dead"``, the convolutions that the forward never uses, is excluded; in paper-code
        nothing is.
    min_density
        Share of each tensor that stays at least, in [0, 1), so that no layer collapses.
    seed
        Of ``"random"``.
    preset
        ``"default"``, or ``"paper-code"`` for what the published code does. The presets differ in
        `exclude` and:
    threshold
        ``"exact"`` (default): exactly ``round(amount * alive)`` weights go, ties by order.
        ``"percentile"`` (paper-code): those below numpy's linear percentile of the scores. The steps
        of ``"synflow"`` and of ``of="all"``, which the published code has not, are exact.
    alive
        ``"mask"`` (default): the mask tells which weights are alive. ``"nonzero"`` (paper-code): a
        weight is alive when it is not zero.
    output_rate
        Layerwise, the factor on `amount` for the tensor named ``output``; in (0, 1]. SymUNet has none
        of that name.
    of
        ``"alive"``: `amount` is a share of what survives. ``"all"``: of all that competes, alive or
        not, so that the density comes to ``1 - amount``; nothing goes where it is less already.

    Returns
    -------
    PruneReport
        What is alive of those that competed, layer by layer, and both densities.

    Raises
    ------
    ValueError
        An argument out of range, a pattern without a parameter, scores that are not finite or do
        not fit, or nothing would be left. The network is unchanged then.
    TypeError
        An argument of another type, by name.

    Warns
    -----
    mirl.errors.CollapseWarning
        Nothing is left of the last convolution: the network returns its input, or where that
        convolution has a bias its input and one colour. Or of the first: it adds the same to every
        image of one size.

    Examples
    --------
    >>> import numpy as np, mirl
    >>> model = mirl.PromptIR(
    ...     dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1,
    ...     prompt_dims=(8, 16, 40), prompt_sizes=(8, 4, 2),
    ... )
    >>> report = mirl.prune(model, 0.9, exclude=("dead", "norms"), min_density=0.01)
    >>> min(layer.density for layer in report) >= 0.01
    True
    """
    check_model(model)
    paper = preset_choice(preset) == "paper-code"
    amount = finite("amount", amount)
    network = model._network
    names = select(network, include, excluded(preset) if exclude is None else exclude)
    check_choice("of", of, get_args(Of))
    units = granularity_of(granularity)
    threshold = threshold or ("percentile" if paper else "exact")
    alive = alive or ("nonzero" if paper else "mask")
    rates = (finite("output_rate", output_rate), finite("min_density", min_density))

    emptied_before = _emptied(network, names)

    def count() -> list[tuple[int, int]]:
        return network.units(names, *units, alive)

    def remove(
        scores: Mapping[str, Any] | None, amount: float, since: list[int] | None = None
    ) -> None:
        if scores is not None:
            scores = {name: np.asarray(each, np.float32) for name, each in scores.items()}
        rule = threshold if since is None else "exact"
        network.prune(names, scores, since, amount, scope, *units, rule, alive, *rates)

    since = [total for _, total in count()] if of == "all" else None
    if isinstance(criterion, str) and criterion == "magnitude":
        remove(None, amount, since)
    elif isinstance(criterion, Mapping):
        remove(criterion, amount, since)
    else:
        rule = criterion_of(criterion)
        images, seeds = _images(rule, data, batches), _seeds(seed)
        if rule.steps == 1:
            remove(scores_of(model, rule, names, images, seeds), amount, since)
        else:
            living = [alive for alive, _ in count()]
            since = since or living
            with _unless_it_fails(model):
                for share in _shares(amount, rule.steps, sum(living) / max(sum(since), 1)):
                    remove(scores_of(model, rule, names, images, seeds), share, since)
    layers, alive_of_all, total = network.report(names)
    for name, collapse in _emptied(network, names).items():
        if name in emptied_before:
            continue
        message = (
            f"nothing is left of {name}: {collapse} from here on (layer collapse);"
            " min_density keeps a share of each layer"
        )
        warnings.warn(message, CollapseWarning, stacklevel=2)
    return PruneReport(
        [Layer(*layer) for layer in layers], alive_of_all, total, model.density(preset)
    )


def _emptied(network: _mirl.Network, names: Sequence[str]) -> dict[str, str]:
    """The ends of the network that nothing is alive of, and what it does without them."""
    first, last = network.ends
    has_bias = f"{last.removesuffix('weight')}bias" in dict(network.parameters())
    ends = {first: WITHOUT_FIRST, last: BIAS_ALONE if has_bias else WITHOUT_LAST}
    layers, _, _ = network.report([name for name in names if name in ends])
    return {name: ends[name] for name, alive, _ in layers if alive == 0}


def _images(criterion: Criterion, data: Any, batches: int) -> list[tuple[Array, Array]]:
    """The batches that a criterion is computed from."""
    whole("batches", batches, 1)
    if criterion.data == "ignored":
        return []
    if data is None:
        if criterion.data == "needed":
            raise ValueError("this criterion needs data: batches of degraded and clean images")
        return []
    return first_batches(data, batches)


def _seeds(seed: int | Sequence[int]) -> list[int]:
    each = seed if isinstance(seed, list | tuple) else [seed]
    return [whole("seed", number) for number in each]


def _shares(amount: float, steps: int, begun: float) -> Iterator[float]:
    """What is gone after each step, from a density on: each takes the same share of what it finds."""
    if not 0 < amount < 1:
        raise ValueError(f"amount must lie in (0, 1), got {amount}")
    if begun > 1 - amount:
        yield from (1 - begun * ((1 - amount) / begun) ** (i / steps) for i in range(1, steps + 1))


@contextmanager
def _unless_it_fails(model: Network) -> Iterator[None]:
    """Keep a change of the network in several steps only as a whole."""
    state, mask = model.snapshot(), model.mask
    try:
        yield
    except BaseException:
        model.mask = mask
        model.load_state_dict(state.state_dict())
        raise


def granularity_of(granularity: str) -> tuple[str, tuple[int, int]]:
    """The core's name, and N and M of a pattern.

    Raises
    ------
    ValueError
        Not a valid granularity, or a pattern that keeps nothing or all.
    """
    kept, colon, group = str(granularity).partition(":")
    if colon and kept.isdecimal() and group.isdecimal():
        if not 0 < int(kept) < int(group):
            raise ValueError(
                f"granularity: a pattern N:M keeps 0 < N < M weights, got {granularity}"
            )
        return "pattern", (int(kept), int(group))
    if granularity not in ("weights", "channels"):
        raise ValueError(f"granularity must be 'weights', 'channels' or 'N:M', got {granularity!r}")
    return granularity, (0, 0)


def rewind(
    model: Network,
    snapshot: Snapshot | Mapping[str, FloatArray],
    *,
    preset: Preset = "default",
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
        Of the same network, by `Network.snapshot`; or a state dict.
    preset
        ``"default"`` or ``"paper-code"``; they agree on rewinding.
    biases, prompts, temperatures
        What is rewound beside the weights.

    Raises
    ------
    ValueError
        A snapshot of a network of other sizes. The network is unchanged then.
    TypeError
        A switch that is neither True nor False.
    """
    check_model(model)
    preset_choice(preset)
    check_switches(biases=biases, prompts=prompts, temperatures=temperatures)
    if not isinstance(snapshot, Snapshot):
        snapshot = Snapshot(snapshot)
    model._network.rewind(snapshot._snapshot, biases, prompts, temperatures)
