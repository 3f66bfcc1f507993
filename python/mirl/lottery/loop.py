"""Iterative magnitude pruning with rewinding, resumable to the bit."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.errors import FormatError
from mirl.lottery.folder import RunFolder
from mirl.lottery.recipe import WARMUP_SHARE, Recipe
from mirl.lottery.table import rounds_table
from mirl.machine import versions
from mirl.models import PromptIR, load_native
from mirl.prune import prune, rewind
from mirl.train import Trainer

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from mirl.loggers import Logger
    from mirl.models import Snapshot

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
    records: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Result:
    """What a run found."""

    model: PromptIR
    """The network after the last round: the ticket, trained."""
    rounds: list[dict[str, Any]]
    """One record a round, as in ``record.jsonl``."""

    def table(self) -> str:
        """Density and quality of every round, at most 80 columns wide."""
        return rounds_table(self.rounds)


def find_ticket(
    model: PromptIR,
    data: Any,
    *,
    rounds: int = 15,
    amount: float = 0.2,
    scope: str = "global",
    epochs: int = 1,
    lr: float = 2e-4,
    min_lr: float = 0.0,
    warmup_epochs: float | None = None,
    schedule: str | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    clip_grad_norm: float | None = None,
    preset: str = "default",
    rewind_biases: str | None = None,
    rewind_prompts: bool = False,
    rewind_temperatures: bool = False,
    recompute: str | None = None,
    precision: str = "float32",
    evaluate: Any = None,
    out: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
    loggers: Sequence[Logger] | None = None,
    progress: bool = True,
) -> Result:
    """Train, prune, rewind, train again (MIR-L, arXiv 2510.14463, algorithm 1).

    Round 0 trains the dense network. Each of the `rounds` after it removes `amount` of the surviving
    weights, rewinds the rest to their values before round 0, and trains anew with a fresh optimizer
    and schedule.

    Parameters
    ----------
    model
        The network, changed in place.
    data
        A `mirl.Loader`, or any sized iterable of ``(degraded, clean)`` batches, float32 (N, 3, H, W)
        in [0, 1], that may be iterated anew each epoch (a torch DataLoader, say). To resume to the
        bit, its order must depend on nothing but the number of the epoch.
    rounds
        How often to prune; 15 rounds of 20 % leave 3.5 % of the prunable weights.
    amount, scope
        See `mirl.prune`.
    epochs
        Epochs of each round (published: 120).
    lr, min_lr
        Learning rate after the warm-up and at the end of a round.
    warmup_epochs
        By default an eighth of the epochs, as published.
    schedule
        ``"step"`` (default) or ``"epoch"`` (paper-code): when the learning rate changes. By epoch,
        that of each round's first epoch is 0.
    betas, eps, weight_decay, clip_grad_norm
        See `mirl.Trainer`.
    preset
        ``"default"`` or ``"paper-code"``, for pruning, rewinding and the schedule.
    rewind_biases
        ``"every"`` round (default), at the ``"first"`` rewinding only, or ``"never"``. The published
        code (paper-code) does it once: from then on its training overwrites the values it saved.
    rewind_prompts, rewind_temperatures
        Whether they are rewound too.
    recompute
        ``"block"`` trains in less memory and more time, to the same bits; see `mirl.Trainer`.
    precision
        ``"float32"``, or on a GPU ``"bfloat16"``; see `mirl.Trainer`.
    evaluate
        What to measure after each round: whatever `mirl.evaluate` takes as data, or a function of
        the model that returns ``{task: {"psnr": …, "ssim": …}}``.
    out
        Folder of the run: recipe, record (a JSON line a round), checkpoint, and the packed network
        of each round. A run that was stopped, in whatever way, continues from its last checkpoint
        when it is called again with the same arguments, and ends with the same bits.
    checkpoint_seconds
        Least time between two checkpoints within a round.
    loggers
        What is told about the run; by default progress bars and, where it is installed, TensorBoard.
    progress
        Whether to show progress bars.

    Returns
    -------
    Result
        The trained ticket and the record of every round.

    Raises
    ------
    ValueError
        A setting out of range; `out` holds another run; data without a batch.
    mirl.errors.DivergenceError
        A loss is not finite: the last checkpoint is still there.
    """
    warmup = WARMUP_SHARE * epochs if warmup_epochs is None else warmup_epochs
    recipe = Recipe(
        rounds=rounds,
        amount=amount,
        scope=scope,
        epochs=epochs,
        lr=lr,
        min_lr=min_lr,
        warmup_epochs=warmup,
        schedule=schedule or ("epoch" if preset == "paper-code" else "step"),
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        clip_grad_norm=clip_grad_norm,
        precision=precision,
        preset=preset,
        rewind_biases=rewind_biases or ("first" if preset == "paper-code" else "every"),
        rewind_prompts=rewind_prompts,
        rewind_temperatures=rewind_temperatures,
    )
    folder = None if out is None else RunFolder(out)
    if loggers is None:
        from mirl.loggers import default_loggers

        loggers = default_loggers(None if folder is None else folder.path, progress=progress)
    try:
        run = _Run(model, data, recipe, folder, evaluate, loggers, checkpoint_seconds, recompute)
        return run.finish()
    finally:
        for logger in loggers:
            logger.close()
        if folder is not None:
            folder.release()


class _Run:
    """One run between its start, or its last checkpoint, and its end."""

    def __init__(
        self,
        model: PromptIR,
        data: Any,
        recipe: Recipe,
        folder: RunFolder | None,
        evaluate: Any,
        loggers: Sequence[Logger],
        checkpoint_seconds: float,
        recompute: str | None,
    ) -> None:
        self.model = model
        self.data = data
        self.recipe = recipe
        self.folder = folder
        self.evaluate = evaluate
        self.loggers = loggers
        self.checkpoint_seconds = checkpoint_seconds
        self.recompute = recompute
        self.steps = _steps(data)
        self.place = Progress()
        self.description = self._describe()
        self.trainer = self._new_trainer()
        self.initial = self._start()
        self.clock = self.saved = time.monotonic()

    def _describe(self) -> dict[str, Any]:
        describe = getattr(self.data, "describe", None)
        return {
            "recipe": self.recipe.to_dict(),
            "network": self.model.config,
            "data": describe() if describe else {"batches": self.steps},
        }

    def _new_trainer(self) -> Trainer:
        return Trainer(
            self.model,
            betas=self.recipe.betas,
            eps=self.recipe.eps,
            weight_decay=self.recipe.weight_decay,
            clip_grad_norm=self.recipe.clip_grad_norm,
            recompute=self.recompute,
            precision=self.recipe.precision,
        )

    def _start(self) -> Snapshot:
        """The initial weights; the place and state of the last checkpoint, when there is one."""
        initial = self.model.snapshot()
        if self.folder is None:
            return initial
        description = self.description | {"initial": fingerprint(initial)}
        if self.folder.claim(description):
            initial = load_native(self.folder.initial).snapshot()
            saved = self.trainer.load_checkpoint(self.folder.checkpoint)
            try:
                self.place = Progress(**json.loads(saved))
            except (TypeError, ValueError) as error:
                message = f"{self.folder.checkpoint}: no place of a run: {error}"
                raise FormatError(message) from error
        else:
            self.model.save(self.folder.initial)
            self._save()
        return initial

    def finish(self) -> Result:
        place, recipe = self.place, self.recipe
        while True:
            self._round_start()
            while place.epoch < recipe.epochs:
                self._epoch()
            if len(place.records) == place.round:
                self._record()
            if place.round == recipe.rounds:
                break
            self._next_round()
        if self.folder is not None:
            self.model.save(self.folder.ticket, self._provenance())
        return Result(self.model, place.records)

    def _round_start(self) -> None:
        density = self.model.density(self.recipe.preset).all
        place = self.place.round
        self._tell(lambda logger: logger.round_start(place, self.recipe.rounds, density))

    def _epoch(self) -> None:
        place = self.place
        self._tell(
            lambda logger: logger.epoch_start(
                place.epoch, self.recipe.epochs, self.steps, place.step
            )
        )
        index = place.round * self.recipe.epochs + place.epoch
        for degraded, clean in _batches(self.data, index, place.step):
            self.trainer.lr = self.recipe.learning_rate(place.epoch, place.step, self.steps)
            loss = self.trainer.step(_array(degraded), _array(clean))
            place.step += 1
            place.loss_sum += loss
            self._tell(lambda logger, loss=loss: logger.step(place.step, loss, self.trainer.lr))  # type: ignore[misc]
            if time.monotonic() - self.saved >= self.checkpoint_seconds:
                self._save()
            if place.step == self.steps:
                break
        if place.step != self.steps:
            raise ValueError(f"data ended after {place.step} of {self.steps} batches")
        loss = place.loss_sum / self.steps
        self._tell(lambda logger: logger.epoch_end(place.epoch, loss))
        place.losses.append(loss)
        place.epoch, place.step, place.loss_sum = place.epoch + 1, 0, 0.0

    def _record(self) -> None:
        """Measure the trained round, write it down, and keep its network."""
        place = self.place
        metrics = self._measure()
        self._tick()
        unused = self.recipe.preset == "paper-code"
        layers, alive, total = self.model._network.report(unused)
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
            self.model.save(self.folder.ticket_of(place.round), self._provenance())
            self.folder.write_record(place.records)
            self._save()
        self._tell(lambda logger: logger.round_end(record))

    def _measure(self) -> dict[str, dict[str, float]]:
        if self.evaluate is None:
            return {}
        if isinstance(self.evaluate, Callable):  # type: ignore[arg-type]
            metrics: dict[str, dict[str, float]] = self.evaluate(self.model)
            return metrics
        from mirl.evaluate import evaluate

        return evaluate(self.model, self.evaluate, progress=False).metrics

    def _next_round(self) -> None:
        recipe = self.recipe
        prune(self.model, recipe.amount, recipe.scope, preset=recipe.preset)
        rewind(
            self.model,
            self.initial,
            preset=recipe.preset,
            biases=recipe.rewinds_biases(self.place.round + 1),
            prompts=recipe.rewind_prompts,
            temperatures=recipe.rewind_temperatures,
        )
        self.trainer = self._new_trainer()
        place = self.place
        place.round += 1
        place.epoch, place.step, place.losses, place.loss_sum, place.seconds = 0, 0, [], 0.0, 0.0
        self._save()

    def _save(self) -> None:
        if self.folder is not None:
            self._tick()
            self.trainer.save_checkpoint(self.folder.checkpoint, json.dumps(vars(self.place)))
            self.saved = time.monotonic()

    def _tick(self) -> None:
        now = time.monotonic()
        self.place.seconds += now - getattr(self, "clock", now)
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
    if hasattr(data, "epoch"):
        yield from data.epoch(epoch, start)
        return
    for index, (degraded, clean) in enumerate(data):
        if index >= start:
            yield degraded, clean


def _array(images: Any) -> NDArray[np.float32]:
    """The images as an array: what numpy views without a copy, torch tensors included."""
    array: NDArray[np.float32] = np.asarray(images)
    return array
