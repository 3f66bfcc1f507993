"""A run of rounds between its start, or its last checkpoint, and its end."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.criteria import Criterion, scores_of
from mirl.data.batches import batches_of, check_pairs
from mirl.errors import FormatError
from mirl.groups import GROUPS, prunable, select
from mirl.load import told_of
from mirl.lottery.folder import differences, without_rounds
from mirl.lottery.measuring import check_evaluate, measure
from mirl.lottery.rounds import Rounds, fingerprint
from mirl.machine import versions
from mirl.safetensors import read_metadata
from mirl.uncertainty import TaskUncertainty

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mirl.choices import Recompute
    from mirl.criteria import Score
    from mirl.loggers import Logger
    from mirl.lottery.folder import RunFolder
    from mirl.lottery.recipe import Recipe
    from mirl.models import Network

Batches = Iterator[tuple["NDArray[np.float32]", "NDArray[np.float32]"]]


@dataclass
class Progress:
    """Where a run stands between two steps; all that a checkpoint holds beside the network."""

    round: int = 0
    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    """Mean loss of each finished epoch of this round."""
    loss_sum: float = 0.0
    """Sum over the steps of the epoch that is under way."""
    seconds: float = 0.0
    """Spent on this round so far."""
    uncertainty: dict[str, list[float]] = field(default_factory=dict)
    """State of the tasks' uncertainties, where they weight the tasks."""
    records: list[dict[str, Any]] = field(default_factory=list)
    initial: str = ""
    """Checksum of the values before round 0."""


class Run:
    """One run; its arguments are those of `mirl.find_ticket`, which makes it.

    Raises
    ------
    TypeError, ValueError, OSError
        What does not fit together. Nothing is changed or written before `start`.
    """

    def __init__(
        self,
        model: Network,
        data: Any,
        recipe: Recipe,
        parent: RunFolder | None,
        folder: RunFolder | None,
        evaluate: Any,
        loggers: Sequence[Logger],
        checkpoint_seconds: float,
        recompute: Recompute | None,
    ) -> None:
        self.model = model
        self.data = data
        self.recipe = recipe
        self.parent = parent
        self.folder = folder
        self.evaluate = evaluate
        self.loggers = loggers
        self.checkpoint_seconds = checkpoint_seconds
        self.recompute = recompute
        self.steps = _steps(data)
        self.competing = select(model._network, recipe.include, recipe.excluded)
        self._check()
        self.description = self._describe()
        self.rounds = Rounds(model, recipe, self.competing, model.snapshot(), parent)
        self.trainer = self.recipe.trainer(self.model, self.recompute)
        self.place = Progress()
        self.clock = self.saved = time.monotonic()

    def _check(self) -> None:
        """Raise where the recipe does not fit network, data and parent."""
        recipe = self.recipe
        if recipe.task_weighting and not hasattr(self.data, "tasks"):
            raise TypeError("task_weighting needs data that tells its tasks, as mirl.Loader.tasks")
        last = recipe.epochs * self.steps
        if isinstance(recipe.rewind, int) and recipe.rewind >= last:
            raise ValueError(
                f"rewind must be less than the {last} steps of a round, got {recipe.rewind}"
            )
        check_evaluate(self.evaluate)
        if callable(recipe.criterion):
            self._check_criterion(recipe.criterion)
        if self.parent is not None:
            self._check_parent(self.parent)
        elif recipe.pruning != "iterative" and self.model.mask:
            raise ValueError(
                f"pruning {recipe.pruning!r} begins with the whole network, and this one has masks"
            )

    def _check_criterion(self, score: Score) -> None:
        """Raise where a function cannot score the smallest parameter, by gradients that are drawn."""
        shapes = self.model.shapes
        name = min(self.competing, key=lambda name: prod(shapes[name]))
        drawn = np.random.default_rng(0).standard_normal(shapes[name], np.float32)
        scores_of(self.model, Criterion(score, lambda *_: iter([{name: drawn}])), [name], (), ())

    def _check_parent(self, parent: RunFolder) -> None:
        """Raise where another run's masks are not those of such a run, or too few."""
        rounds = self.recipe.rounds
        if rounds == 0:
            raise ValueError("rounds must be at least 1 with masks_of: round 0 is the other run's")
        theirs = parent.description()
        if "masks_of" in theirs:
            raise ValueError(
                f"{parent.path} took its masks from another run, which masks_of must name"
            )
        for name in ("include", "exclude", "preset", "rewind"):
            here, there = getattr(self.recipe, name), theirs["recipe"][name]
            if isinstance(here, tuple):  # which is a list in a file
                here = list(here)
            if here != there and (name != "rewind" or isinstance(here, int)):
                raise ValueError(f"{parent.path}: its {name} is {there!r}, not {here!r}")
        if theirs["recipe"]["pruning"] == "iterative":
            self._check_revived()
        sizes = differences("", theirs["network"], self._network())
        if sizes:
            raise ValueError(f"{parent.path}: its network is another: {'; '.join(sizes)}")
        missing = [number for number in range(rounds + 1) if not parent.ticket_of(number).exists()]
        if 0 in missing:
            raise ValueError(f"{parent.path} has no round 0, whose network masks_of starts from")
        if missing:
            raise ValueError(
                f"{parent.path} has masks of {missing[0] - 1} rounds so far, fewer than the"
                f" {rounds} that are wanted of it"
            )

    def _check_revived(self) -> None:
        """Raise where a control's masks bring back weights that stay at the 0 of their pruning."""
        recipe = self.recipe
        if recipe.control not in ("shuffle", "random"):
            return
        if not recipe.rewinds:
            raise ValueError(
                f"control {recipe.control!r} brings pruned weights back, and with rewind"
                f" {recipe.rewind!r} they would start at 0"
            )
        groups = {
            "rewind_biases": ("biases", recipe.rewind_biases == "every"),
            "rewind_prompts": ("prompts", recipe.rewind_prompts),
            "rewind_temperatures": ("temperatures", recipe.rewind_temperatures),
        }
        for setting, (group, rewound) in groups.items():
            if not rewound and any(fnmatchcase(name, GROUPS[group]) for name in self.competing):
                raise ValueError(
                    f"control {recipe.control!r} brings pruned {group} back, and with {setting}"
                    f" {getattr(recipe, setting)!r} they would start at 0"
                )

    def _network(self) -> dict[str, Any]:
        return {"name": self.model._network.name, **self.model.config}

    def _describe(self) -> dict[str, Any]:
        describe = getattr(self.data, "describe", None)
        description = {
            "recipe": self.recipe.to_dict(),
            "network": self._network(),
            "data": describe() if describe else {"batches": self.steps},
        }
        if self.parent is not None:
            description["masks_of"] = self.parent.description()
        return description

    def start(self) -> None:
        """Go to the last checkpoint, or to the first step where there is none."""
        if self.parent is not None:
            self.rounds.resume(self.parent, late=True, dense=False)
        initial = self.place.initial = fingerprint(self.rounds.initial)
        if self.folder is not None and self.folder.claim(self.description | {"initial": initial}):
            self._resume(self.folder, initial)
        else:
            self._begin_first()

    def _resume(self, folder: RunFolder, initial: str) -> None:
        try:
            told = told_of(read_metadata(folder.checkpoint))
            place = Progress(**json.loads(told["progress"]))
        except (LookupError, TypeError, ValueError) as error:
            raise FormatError(f"{folder.checkpoint}: no place of a run: {error}") from error
        if place.initial != initial:
            raise FormatError(f"{folder.checkpoint}: of a run that began with other values")
        done = place.epoch * self.steps + place.step
        late = place.round > 0 or (
            isinstance(self.recipe.rewind, int) and done >= self.recipe.rewind
        )
        self.rounds.resume(folder, late=late, dense=bool(place.records))
        if fingerprint(self.rounds.initial) != initial:
            raise FormatError(f"{folder.initial}: not the values that this run began with")
        for record in place.records:
            ticket = folder.ticket_of(record["round"])
            if not ticket.exists():
                why = "not there, though its round is done"
                raise FileNotFoundError(errno.ENOENT, why, str(ticket))
        self.trainer.load_checkpoint(folder.checkpoint)
        self.place = place

    def _begin_first(self) -> None:
        """Begin with round 0, or with the first of the rounds whose masks are taken."""
        if self.folder is not None:
            if self.parent is None:
                self.model.save(self.folder.initial)
            else:
                self.folder.inherit(self.parent)
        if self.parent is not None:
            self._begin(1)
        # Last: from here on the run is resumed.
        self._save()

    def finish(self) -> list[dict[str, Any]]:
        """Go through the rounds that are left, or until a logger wants no more; the records of all."""
        enough = False
        while True:
            records = self.place.records
            if not records or records[-1]["round"] < self.place.round:
                self._round_start()
                while self.place.epoch < self.recipe.epochs:
                    self._epoch()
                enough = self._record()
            if enough or self.place.round == self.recipe.rounds:
                break
            self._begin(self.place.round + 1)
            self._save()
        if self.folder is not None:
            self.model.save(self.folder.ticket, self._provenance())
        return records

    def _round_start(self) -> None:
        density = self.model.density(self.recipe.preset).all
        place = self.place.round
        for logger in self.loggers:
            logger.round_start(place, self.recipe.rounds, density)

    def _epoch(self) -> None:
        place, recipe, steps = self.place, self.recipe, self.steps
        first = recipe.first_step(place.round)
        # A late start may lie within the epoch.
        skipped = max(0, first - place.epoch * steps)
        for logger in self.loggers:
            logger.epoch_start(place.epoch, recipe.epochs, steps, place.step)
        for degraded, clean in self._batches(place.round, place.epoch, place.step):
            done = place.epoch * steps + place.step
            self.rounds.during(
                place.round,
                done,
                recipe.epochs * steps,
                self.trainer,
                lambda: self._batches(place.round, place.epoch),
            )
            self.trainer.lr = recipe.learning_rate(place.round, place.epoch, place.step, steps)
            loss = self._step(degraded, clean)
            place.step += 1
            place.loss_sum += loss
            if place.round == 0 and done + 1 == recipe.rewind:
                self.rounds.keep_late(self.folder)
            for logger in self.loggers:
                logger.step(place.step, loss, self.trainer.lr)
            if time.monotonic() - self.saved >= self.checkpoint_seconds:
                self._save()
            if place.step == steps:
                break
        if place.step != steps:
            raise ValueError(f"data ended after {place.step} of {steps} batches")
        loss = place.loss_sum / (steps - skipped)
        for logger in self.loggers:
            logger.epoch_end(place.epoch, loss)
        place.losses.append(loss)
        place.epoch, place.step, place.loss_sum = place.epoch + 1, 0, 0.0

    def _step(self, degraded: NDArray[np.float32], clean: NDArray[np.float32]) -> float:
        """The loss of a step, as it is without weights of tasks."""
        if self.recipe.task_weighting is None:
            return self.trainer.step(degraded, clean)
        place, uncertainty = self.place, TaskUncertainty()
        uncertainty.load_state_dict(place.uncertainty)
        tasks = self.data.tasks(place.round * self.recipe.epochs + place.epoch, place.step)
        self.trainer.step(degraded, clean, uncertainty.weights(tasks))
        uncertainty.update(tasks, self.trainer.losses)
        place.uncertainty = uncertainty.state_dict()
        return float(np.mean(self.trainer.losses))

    def _batches(self, round_: int, epoch: int, start: int = 0) -> Batches:
        return batches_of(self.data, round_ * self.recipe.epochs + epoch, start)

    def _record(self) -> bool:
        """Measure the trained round, write it down, and keep its network; whether it is the last."""
        place = self.place
        # Whatever measuring comes to, the round is not trained again.
        self._save()
        if self.recipe.ema_decay is not None:
            self.model.load_state_dict(self.trainer.average())
        if place.round == 0 and self.recipe.pruning == "one-shot":
            self.rounds.keep_dense(self.folder)
        metrics = measure(self.evaluate, self.model)
        self._tick()
        names = {*prunable(self.model._network, self.recipe.preset), *self.competing}
        layers, alive, total = self.model._network.report(
            [name for name in self.model.shapes if name in names]
        )
        density = self.model.density(self.recipe.preset)
        record = {
            "round": place.round,
            "density": density.all,
            "density_prunable": density.prunable,
            "alive": alive,
            "total": total,
            "layers": {name: living / count for name, living, count in layers},
            "loss": place.losses,
            "metrics": metrics,
            "seconds": round(place.seconds, 3),
            "seed": {"model": self.model.seed, "data": self.description["data"].get("seed")},
            "versions": versions(),
        }
        place.records.append(record)
        if self.folder is not None:
            kept = "dead" not in self.recipe.excluded
            path = self.folder.ticket_of(place.round)
            self.model.save(path, self._provenance(), unused=kept)
            self.folder.write_record(place.records)
            self._save()
        answers = [logger.round_end(record) for logger in self.loggers]
        return any(answer is True for answer in answers)

    def _begin(self, round_: int) -> None:
        """Make the network of `round_`, and go to its first step."""
        epoch, step = divmod(self.recipe.first_step(round_), self.steps)
        self.rounds.begin(round_, self.trainer, lambda: self._batches(round_, epoch))
        self.trainer = self.recipe.trainer(self.model, self.recompute)
        self.place = Progress(
            round=round_,
            epoch=epoch,
            step=step,
            records=self.place.records,
            initial=self.place.initial,
        )

    def _save(self) -> None:
        if self.folder is not None:
            self._tick()
            self.trainer.save_checkpoint(self.folder.checkpoint, json.dumps(vars(self.place)))
            self.saved = time.monotonic()

    def _tick(self) -> None:
        now = time.monotonic()
        self.place.seconds += now - self.clock
        self.clock = now

    def _provenance(self) -> dict[str, str]:
        """What files of networks tell; the same, however many rounds are to come."""
        return {"run": json.dumps(without_rounds(self.description)), "round": str(self.place.round)}


def _steps(data: Any) -> int:
    check_pairs(data)
    try:
        steps = len(data)
    except TypeError:
        kind = type(data).__name__
        raise TypeError(
            f"data must have a length, the batches of an epoch; {kind} has none"
        ) from None
    if steps == 0:
        raise ValueError("data has no batch")
    return steps
