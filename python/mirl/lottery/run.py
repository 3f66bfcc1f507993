"""A run of rounds between its start, or its last checkpoint, and its end."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.arrays import as_array
from mirl.checks import is_number
from mirl.data.batches import has_epochs
from mirl.errors import FormatError
from mirl.groups import prunable, select
from mirl.lottery.folder import differences
from mirl.lottery.rounds import Rounds
from mirl.machine import versions
from mirl.train import Trainer
from mirl.uncertainty import TaskUncertainty

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mirl.loggers import Logger
    from mirl.lottery.folder import RunFolder
    from mirl.lottery.recipe import Recipe
    from mirl.models import PromptIR, Snapshot

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


class Run:
    """One run; its arguments are those of `mirl.find_ticket`, which makes it."""

    def __init__(
        self,
        model: PromptIR,
        data: Any,
        recipe: Recipe,
        parent: RunFolder | None,
        folder: RunFolder | None,
        evaluate: Any,
        loggers: Sequence[Logger],
        checkpoint_seconds: float,
        recompute: str | None,
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
        self.place = Progress()
        self.description = self._describe()
        self._check()
        self.trainer = self._new_trainer()
        self.clock = self.saved = time.monotonic()
        self.rounds = self._start()

    def _describe(self) -> dict[str, Any]:
        describe = getattr(self.data, "describe", None)
        description = {
            "recipe": self.recipe.to_dict(),
            "network": self.model.config,
            "data": describe() if describe else {"batches": self.steps},
        }
        if self.parent is not None:
            description["masks_of"] = self.parent.description()
        return description

    def _check(self) -> None:
        """Raise where the recipe does not fit network, data and parent."""
        if self.recipe.task_weighting and not hasattr(self.data, "tasks"):
            raise TypeError("task_weighting needs data that tells its tasks, as mirl.Loader.tasks")
        last, rewind = self.recipe.epochs * self.steps, self.recipe.rewind
        if isinstance(rewind, int) and rewind >= last:
            raise ValueError(f"rewind must be less than the {last} steps of a round, got {rewind}")
        select(self.model._network, self.recipe.include, self.recipe.excluded)
        self._check_evaluate()
        if self.parent is None:
            return
        if self.recipe.rounds == 0:
            raise ValueError("rounds must be at least 1 with masks_of: round 0 is the other run's")
        theirs = self.parent.description()
        if isinstance(rewind, int) and rewind != theirs["recipe"]["rewind"]:
            there = theirs["recipe"]["rewind"]
            raise ValueError(f"{self.parent.path}: its rewind is {there!r}, not {rewind}")
        sizes = differences("", theirs["network"], self.description["network"])
        if sizes:
            raise ValueError(f"{self.parent.path}: its network is another: {'; '.join(sizes)}")
        self._check_rounds(self.parent)

    def _check_rounds(self, parent: RunFolder) -> None:
        """Raise where the run whose masks are taken lacks a round, before any is trained."""
        wanted = range(self.recipe.rounds + 1)
        missing = [round_ for round_ in wanted if not parent.ticket_of(round_).exists()]
        if 0 in missing:
            raise ValueError(f"{parent.path} has no round 0, whose network masks_of starts from")
        if missing:
            raise ValueError(
                f"{parent.path} has masks of {missing[0] - 1} rounds so far, fewer than the"
                f" {self.recipe.rounds} that are wanted of it"
            )

    def _check_evaluate(self) -> None:
        """Raise where what is to be measured after each round cannot be, before anything is trained."""
        if self.evaluate is None or isinstance(self.evaluate, Callable):  # type: ignore[arg-type]
            return
        from mirl.evaluate import check_data

        check_data(self.evaluate)
        if isinstance(self.evaluate, Iterator):
            kind = type(self.evaluate).__name__
            raise TypeError(f"evaluate must be iterable anew after each round; {kind} is but once")

    def _new_trainer(self) -> Trainer:
        return Trainer(
            self.model,
            loss=self.recipe.loss,
            betas=self.recipe.betas,
            eps=self.recipe.eps,
            weight_decay=self.recipe.weight_decay,
            clip_grad_norm=self.recipe.clip_grad_norm,
            recompute=self.recompute,
            precision=self.recipe.precision,
            micro_batch=self.recipe.micro_batch,
            ema_decay=self.recipe.ema_decay,
            movement=self.recipe.criterion == "movement",
        )

    def _start(self) -> Rounds:
        """What rounds start from; the place and state of the last checkpoint, when there is one."""
        rounds = Rounds(self.model, self.recipe, self.model.snapshot(), self.parent)
        if self.parent is not None:
            rounds.resume(self.parent)
        if self.folder is not None:
            description = self.description | {"initial": fingerprint(rounds.initial)}
            if self.folder.claim(description):
                rounds.resume(self.folder)
                if fingerprint(rounds.initial) != description["initial"]:
                    raise FormatError(
                        f"{self.folder.initial}: not the values that this run began with"
                    )
                self._resume(self.folder)
                return rounds
            if self.parent is None:
                self.model.save(self.folder.initial)
            else:
                self.folder.inherit(self.parent)
        self.rounds = rounds
        if self.parent is not None:
            self._begin(1)
        self._save()
        return rounds

    def _resume(self, folder: RunFolder) -> None:
        saved = self.trainer.load_checkpoint(folder.checkpoint)
        try:
            self.place = Progress(**json.loads(saved))
        except (TypeError, ValueError) as error:
            raise FormatError(f"{folder.checkpoint}: no place of a run: {error}") from error

    def finish(self) -> list[dict[str, Any]]:
        """Go through all rounds that are left; the records of all."""
        while True:
            records = self.place.records
            if not records or records[-1]["round"] < self.place.round:
                self._round_start()
                while self.place.epoch < self.recipe.epochs:
                    self._epoch()
                self._record()
            if self.place.round == self.recipe.rounds:
                break
            self._begin(self.place.round + 1)
            self._save()
        if self.folder is not None:
            self.model.save(self.folder.ticket, self._provenance())
        return records

    def _round_start(self) -> None:
        density = self.model.density(self.recipe.preset).all
        place = self.place.round
        self._tell(lambda logger: logger.round_start(place, self.recipe.rounds, density))

    def _epoch(self) -> None:
        place, recipe, steps = self.place, self.recipe, self.steps
        first = recipe.first_step(place.round)
        # A late start may lie within the epoch.
        skipped = max(0, first - place.epoch * steps)
        self._tell(lambda logger: logger.epoch_start(place.epoch, recipe.epochs, steps, place.step))
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
            loss = self._step(_array(degraded, "degraded"), _array(clean, "clean"))
            place.step += 1
            place.loss_sum += loss
            if place.round == 0 and done + 1 == recipe.rewind:
                self.rounds.keep_late(self.folder)
            self._tell(lambda logger, loss=loss: logger.step(place.step, loss, self.trainer.lr))  # type: ignore[misc]
            if time.monotonic() - self.saved >= self.checkpoint_seconds:
                self._save()
            if place.step == steps:
                break
        if place.step != steps:
            raise ValueError(f"data ended after {place.step} of {steps} batches")
        loss = place.loss_sum / (steps - skipped)
        self._tell(lambda logger: logger.epoch_end(place.epoch, loss))
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
        return _batches(self.data, round_ * self.recipe.epochs + epoch, start)

    def _record(self) -> None:
        """Measure the trained round, write it down, and keep its network."""
        place = self.place
        # Whatever measuring comes to, the round is not trained again.
        self._save()
        if self.recipe.ema_decay is not None:
            self.model.load_state_dict(self.trainer.average())
        if place.round == 0 and self.recipe.pruning == "one-shot":
            self.rounds.keep_dense(self.folder)
        metrics = self._measure()
        self._tick()
        names = prunable(self.model._network, self.recipe.preset)
        layers, alive, total = self.model._network.report(names)
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
        self._tell(lambda logger: logger.round_end(record))

    def _measure(self) -> dict[str, dict[str, float]]:
        if self.evaluate is None:
            return {}
        if isinstance(self.evaluate, Callable):  # type: ignore[arg-type]
            return _metrics(self.evaluate(self.model))
        from mirl.evaluate import evaluate

        return evaluate(self.model, self.evaluate, progress=False).metrics

    def _begin(self, round_: int) -> None:
        """Make the network of `round_`, and go to its first step."""
        epoch, step = divmod(self.recipe.first_step(round_), self.steps)
        self.rounds.begin(round_, self.trainer, lambda: self._batches(round_, epoch))
        self.trainer = self._new_trainer()
        records = self.place.records
        self.place = Progress(round=round_, epoch=epoch, step=step, records=records)

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
        return {"run": json.dumps(self.description), "round": str(self.place.round)}

    def _tell(self, event: Callable[[Logger], None]) -> None:
        for logger in self.loggers:
            event(logger)


def fingerprint(snapshot: Snapshot) -> str:
    """A checksum of all values, to tell two initialisations apart."""
    checksum = 0
    for name, values in snapshot.state_dict().items():
        checksum = zlib.crc32(values.tobytes(), zlib.crc32(name.encode(), checksum))
    return f"{checksum:08x}"


def _metrics(found: Any) -> dict[str, dict[str, float]]:
    """What a function has measured, as JSON holds it."""
    from mirl.evaluate import Evaluation

    if isinstance(found, Evaluation):
        return found.metrics
    wanted = 'evaluate must return a mirl.Evaluation or {task: {"psnr": …, "ssim": …}}'
    if not isinstance(found, Mapping):
        raise TypeError(f"{wanted}, got {type(found).__name__}")
    metrics: dict[str, dict[str, float]] = {}
    for task, measured in found.items():
        if not isinstance(task, str) or not isinstance(measured, Mapping):
            raise TypeError(f"{wanted}, got {type(measured).__name__} for {task!r}")
        for name, value in measured.items():
            if not isinstance(name, str) or not is_number(value):
                raise TypeError(f"{wanted}, got {value!r} for {name!r} of {task!r}")
        metrics[task] = {name: float(value) for name, value in measured.items()}
    return metrics


def _steps(data: Any) -> int:
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


def _batches(data: Any, epoch: int, start: int) -> Batches:
    """The batches of an epoch from the one numbered `start` on."""
    if has_epochs(data):
        yield from data.epoch(epoch, start)
        return
    for index, (degraded, clean) in enumerate(data):
        if index >= start:
            yield degraded, clean


def _array(images: Any, what: str) -> NDArray[np.float32]:
    """The images as an array: what numpy views without a copy, torch tensors included."""
    array: NDArray[np.float32] = np.asarray(as_array(images, what))
    return array
