"""What lies between two rounds: pruning, controls, and where the survivors start from."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from mirl.errors import FormatError
from mirl.load import load_native, told_of
from mirl.lottery.control import controlled_masks, reinitialised
from mirl.prune import OUTPUT_RATE, prune, rewind
from mirl.safetensors import read_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mirl.choices import Of
    from mirl.lottery.folder import RunFolder
    from mirl.lottery.recipe import Recipe
    from mirl.models import Network, Snapshot
    from mirl.train import Trainer

GRADUAL_PRUNINGS = 20
"""Prunings of a gradual round."""
GRADUAL_SPAN = (1 / 8, 3 / 4)
"""The share of a round's steps after which the first and the last of them come: after the published
warm-up, and early enough for what is left to recover."""


class Rounds:
    """Makes the network that a round trains of the one that the last round has trained.

    Parameters
    ----------
    model
        The network, changed in place.
    recipe
        The settings of the run.
    competing
        Names of the parameters that pruning may choose from.
    initial
        Its values before round 0.
    parent
        The run whose masks are taken, where the recipe says so.
    """

    def __init__(
        self,
        model: Network,
        recipe: Recipe,
        competing: list[str],
        initial: Snapshot,
        parent: RunFolder | None,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.competing = competing
        self.initial = initial
        self.parent = parent
        self.late: Snapshot | None = None
        """The values after the step of round 0 that the recipe rewinds to."""
        self.dense: Snapshot | None = None
        """The values at the end of round 0."""

    def resume(self, folder: RunFolder, *, late: bool, dense: bool) -> None:
        """Take what the folder of this run, or of its parent, holds to start from.

        `late` and `dense` tell whether the run has passed where these are written.
        """
        recipe = self.recipe
        self.initial = load_native(folder.initial).snapshot()
        if late and isinstance(recipe.rewind, int) and recipe.control != "reinit":
            self.late = self._kept(folder.late)
        if dense and recipe.pruning == "one-shot" and self.parent is None:
            self.dense = self._kept(folder.dense)

    def _kept(self, path: Path) -> Snapshot:
        """What this run has kept; raises FormatError where another one has."""
        kept = load_native(path).snapshot()
        if told_of(read_metadata(path)).get("initial") != fingerprint(self.initial):
            raise FormatError(f"{path}: of a run that began with other values")
        return kept

    def keep_late(self, folder: RunFolder | None) -> None:
        """Keep the network as it is, to rewind to."""
        self.late = self.model.snapshot()
        if folder is not None:
            self.model.save(folder.late, {"initial": fingerprint(self.initial)})

    def keep_dense(self, folder: RunFolder | None) -> None:
        """Keep the network as it is, to prune at once."""
        self.dense = self.model.snapshot()
        if folder is not None:
            self.model.save(folder.dense, {"initial": fingerprint(self.initial)})

    def begin(self, round_: int, trainer: Trainer, batches: Callable[[], Iterable[Any]]) -> None:
        """Make the network of `round_` (from 1); `batches` gives those of its first epoch."""
        recipe, model = self.recipe, self.model
        if self.parent is not None:
            self._masks_of_parent(self.parent, round_)
        elif recipe.pruning == "iterative":
            self._prune(recipe.amount, round_, trainer, batches)
        else:
            model.mask = {}
            start = self.dense if recipe.pruning == "one-shot" else self.initial
            assert start is not None
            model.load_state_dict(start.state_dict())
            if recipe.pruning != "gradual":
                self._prune(1 - (1 - recipe.amount) ** round_, round_, trainer, batches)
        if recipe.rewinds:
            rewind(
                model,
                self._start(round_),
                preset=recipe.preset,
                biases=recipe.rewinds_biases(round_),
                prompts=recipe.rewind_prompts,
                temperatures=recipe.rewind_temperatures,
            )

    def during(
        self,
        round_: int,
        step: int,
        steps: int,
        trainer: Trainer,
        batches: Callable[[], Iterable[Any]],
    ) -> None:
        """Prune before `step` (from 0) of a round's `steps`, where pruning is gradual."""
        if self.parent is not None or self.recipe.pruning != "gradual" or round_ == 0:
            return
        final = (1 - self.recipe.amount) ** round_
        wanted = gradual_density(step, steps, final)
        if wanted is None:
            return
        self._prune(1 - wanted, round_, trainer, batches, of="all")

    def _prune(
        self,
        amount: float,
        round_: int,
        trainer: Trainer,
        batches: Callable[[], Iterable[Any]],
        of: Of = "alive",
    ) -> None:
        recipe = self.recipe
        rounds = 1 if recipe.pruning == "iterative" else round_
        prune(
            self.model,
            amount,
            recipe.scope,
            criterion=trainer.movement() if recipe.criterion == "movement" else recipe.criterion,
            data=batches(),
            batches=recipe.criterion_batches,
            granularity=recipe.granularity,
            include=recipe.include,
            exclude=recipe.exclude,
            min_density=recipe.min_density,
            seed=(recipe.seed, round_),
            preset=recipe.preset,
            output_rate=output_rate(recipe.amount, rounds),
            of=of,
        )

    def _masks_of_parent(self, parent: RunFolder, round_: int) -> None:
        """The parent's network as it began that round, under its masks or a control's."""
        recipe, model, names = self.recipe, self.model, self.competing
        model.mask = {}
        model.load_state_dict(self._start_of_parent(parent, round_).state_dict())
        # A packed file counts what the forward never uses as pruned.
        masks = parent.network(round_).mask
        masks = {name: masks[name] for name in names if name in masks}
        model.mask = controlled_masks(recipe.control, masks, names, model, (recipe.seed, round_))

    def _start_of_parent(self, parent: RunFolder, round_: int) -> Network | Snapshot:
        """What the parent pruned to begin a round."""
        pruning = parent.description()["recipe"]["pruning"]
        if pruning in ("initial", "gradual"):
            return self.initial
        return parent.network(0 if pruning == "one-shot" else round_ - 1)

    def _start(self, round_: int) -> Snapshot:
        recipe = self.recipe
        if recipe.control == "reinit":
            return reinitialised(self.model, (recipe.seed, round_))
        if not isinstance(recipe.rewind, int):
            return self.initial
        assert self.late is not None
        return self.late


def fingerprint(snapshot: Snapshot) -> str:
    """A checksum of all values, to tell two initialisations apart."""
    checksum = 0
    for name, values in snapshot.state_dict().items():
        checksum = zlib.crc32(values.tobytes(), zlib.crc32(name.encode(), checksum))
    return f"{checksum:08x}"


def output_rate(amount: float, rounds: int) -> float:
    """Of one pruning for all of so many rounds, so that ``output`` keeps what they leave it."""
    return float((1 - (1 - OUTPUT_RATE * amount) ** rounds) / (1 - (1 - amount) ** rounds))


def gradual_density(step: int, steps: int, final: float) -> float | None:
    """The density to prune to before `step` of `steps`, if there is a pruning then.

    ``final + (1 - final) (1 - i/n)³`` at the i-th of n prunings (Zhu & Gupta 2018, eq. 1).
    """
    # The last pruning is before a step, however few there are.
    first, last = (min(round(share * steps), steps - 1) for share in GRADUAL_SPAN)
    places = [
        first + (last - first) * index // (GRADUAL_PRUNINGS - 1)
        for index in range(GRADUAL_PRUNINGS)
    ]
    if step not in places:
        return None
    index = GRADUAL_PRUNINGS - places[::-1].index(step)
    return float(final + (1 - final) * (1 - index / GRADUAL_PRUNINGS) ** 3)
