"""Iterative magnitude pruning with rewinding, resumable to the bit."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from mirl.checks import check_switches, is_number
from mirl.loggers import default_loggers
from mirl.loggers.base import close, closed_on_failure
from mirl.lottery.folder import RunFolder
from mirl.lottery.recipe import Recipe
from mirl.lottery.run import Run
from mirl.lottery.table import rounds_table
from mirl.models import check_model
from mirl.terminal import preformatted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirl.choices import (
        Control,
        CriterionName,
        Granularity,
        LossName,
        Precision,
        Preset,
        Pruning,
        Recompute,
        Rewind,
        RewindBiases,
        Schedule,
        Scope,
        TaskWeighting,
    )
    from mirl.criteria import Score
    from mirl.loggers import Logger
    from mirl.models import Network
    from mirl.train import LossFunction


MASKED = (
    "the network has masks already: {:.1%} of its prunable weights are alive before round 0. Where that"
    " is not meant, as in a cell of a notebook that ran twice, make it anew"
)


@dataclass(repr=False)
class Result:
    """What a run found."""

    model: Network
    """The network after the last round: the ticket, trained."""
    rounds: list[dict[str, Any]]
    """One record a round, as in ``record.jsonl``."""

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Result:
        """Read what a run has come to: one that has ended, was stopped, or is under way.

        Parameters
        ----------
        folder
            That of the run, `out` of `mirl.find_ticket`.

        Returns
        -------
        Result
            The rounds that are done, and the network of the last one as its file has it.

        Raises
        ------
        FileNotFoundError
            There is no run in the folder.
        ValueError
            No round is done.
        mirl.errors.FormatError
            A file is damaged.
        """
        run = RunFolder.existing(folder)
        records = run.records()
        if not records:
            raise ValueError(f"{run.path}: no round is done so far")
        return cls(run.network(records[-1]["round"]), records)

    def table(self, measure: str | None = None) -> str:
        """Density and quality of every round.

        Parameters
        ----------
        measure
            Which of the ``metrics``; by default PSNR and SSIM, or where PSNR was not measured, the
            first measure that was. Tasks of which no round has it are left out.

        Returns
        -------
        str
            At most 80 columns wide: a line for the input unchanged, then one for each round. Of what
            was not measured, the last loss of each round.

        Raises
        ------
        ValueError
            No round has the measure.
        """
        return rounds_table(self.rounds, measure)

    def __repr__(self) -> str:
        last = self.rounds[-1]
        return f"Result(round {last['round']}, {last['density']:.2%} of all parameters alive)"

    def _repr_html_(self) -> str:
        return preformatted(self.table())


def find_ticket(
    model: Network,
    data: Any,
    *,
    rounds: int = 15,
    amount: float = 0.2,
    scope: Scope = "global",
    pruning: Pruning = "iterative",
    criterion: CriterionName | Literal["movement"] | Score = "magnitude",
    criterion_batches: int = 8,
    granularity: Granularity = "weights",
    include: Sequence[str] = ("weights",),
    exclude: Sequence[str] | None = None,
    min_density: float = 0.0,
    rewind: Rewind | int = "initial",
    rewind_biases: RewindBiases | None = None,
    rewind_prompts: bool = False,
    rewind_temperatures: bool = False,
    masks_of: str | os.PathLike[str] | None = None,
    control: Control | None = None,
    epochs: int = 1,
    loss: LossName | Mapping[LossName, float] | LossFunction = "l1",
    task_weighting: TaskWeighting | None = None,
    lr: float = 2e-4,
    min_lr: float = 0.0,
    warmup_epochs: float | None = None,
    schedule: Schedule | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    clip_grad_norm: float | None = None,
    micro_batch: int | None = None,
    ema_decay: float | None = None,
    preset: Preset = "default",
    recompute: Recompute | None = None,
    precision: Precision = "float32",
    seed: int = 0,
    evaluate: Any = None,
    out: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
    loggers: Sequence[Logger] | None = None,
    progress: bool = True,
) -> Result:
    """Train, prune, rewind, train again (MIR-L, arXiv 2510.14463, algorithm 1), and its controls.

    Round 0 trains the dense network. Each of the `rounds` after it removes `amount` of the surviving
    weights, rewinds the rest to their values before round 0, and trains anew with a fresh optimizer
    and schedule. All else is one argument away.

    Parameters
    ----------
    model
        The network, changed in place.
    data
        A `mirl.Loader`, or any sized iterable of batches ``(degraded, clean)``, tuples or lists of
        float32 arrays (N, 3, H, W) in [0, 1] as `mirl.Trainer.step` takes them, that may be iterated
        anew each epoch (a torch DataLoader, say). To resume to the bit, its order must depend on
        nothing but the number of the epoch.
    rounds
        How often to prune, from 0; 15 rounds of 20 % leave 3.5 % of the prunable weights.
    amount, scope, granularity, include, exclude, min_density
        See `mirl.prune`. Of single weights round k has a share of (1 - amount)^k left, however they are
        pruned; ``"channels"`` go whole, patterns like ``"2:4"`` have a density of their own, and
        `min_density` may keep more.
    pruning
        ``"iterative"``: each round prunes what the last one trained. ``"one-shot"``: each prunes the
        trained dense network, at once. ``"initial"``: each prunes the initial weights before any
        training, at once. ``"gradual"``: each starts from the whole initial network and is pruned
        while it trains, by a cubic schedule (Zhu & Gupta 2018, eq. 1).
    criterion, criterion_batches
        What weights are ranked by, as in `mirl.prune`; or ``"movement"``, -Σ g w over the steps of
        the round (Sanh et al. 2020, eq. 2). Gradients are those of the first batches of the round
        to come.
    rewind
        Where survivors start from. ``"initial"``: their values before round 0. A number of steps:
        their values after as many of round 0, with the schedule and the data from there on (late
        rewinding, Frankle et al. 2020). ``"learning-rate"``: as they were trained; only the schedule
        starts anew; ``"fine-tune"``: that at a constant `min_lr`, which is positive then (both Renda
        et al. 2020).
    rewind_biases
        ``"every"`` round (default), at the ``"first"`` rewinding only, or ``"never"``. The published
        code (paper-code) does it once: from then on its training overwrites the values it saved.
    rewind_prompts, rewind_temperatures
        Whether they are rewound too.
    masks_of
        The folder of another run of a network of these sizes: instead of pruning, every round takes
        the network as it began that round there, masks and all (of a gradual run those that the round
        ended with). With other `data` this transfers a ticket; with a `control` it is what a ticket
        has to beat. Round 0 is the other run's. `include`, `exclude` and `preset` must be those of
        that run, which must have pruned by itself; how else this run would prune (`amount`, `pruning`,
        `criterion` and so on) has no effect.
    control
        With `masks_of`: ``"reinit"``: survivors start from values drawn anew. ``"shuffle"``: the
        masks of each tensor are shuffled. ``"random"``: as many survivors, drawn from all. They need
        a `rewind` that gives what they bring back its values.
    epochs
        Epochs of each round, from 1 (published: 120).
    loss
        See `mirl.Trainer`.
    task_weighting
        ``"uncertainty"``: the tasks of a batch are weighted by `mirl.TaskUncertainty`, anew each
        round; the losses that are told are without weights. `data` must tell its tasks, as
        `mirl.Loader` does.
    lr, min_lr
        Learning rate after the warm-up, positive, and at the end of a round, in [0, lr].
    warmup_epochs
        In [0, epochs); by default an eighth of the epochs, as published.
    schedule
        ``"step"`` (default) or ``"epoch"`` (paper-code): when the learning rate changes. By epoch,
        that of each round's first epoch is 0 where there is a warm-up: by default from five epochs on.
    betas, eps, weight_decay, clip_grad_norm, micro_batch
        See `mirl.Trainer`.
    ema_decay
        Keeps an exponential moving average of the weights, as in `mirl.Trainer`. At the end of a
        round it takes their place: it is what is measured, kept, and pruned.
    preset
        ``"default"`` or ``"paper-code"``, for pruning, rewinding and the schedule.
    recompute
        ``"block"`` trains in less memory and more time, to the same bits; see `mirl.Trainer`.
    precision
        ``"float32"`` or ``"bfloat16"``, what training rounds products to; see `mirl.Trainer`.
    seed
        Of what the criterion ``"random"`` and the controls draw; where nothing is drawn, as by
        default, it changes nothing. A replicate takes another seed of the network and of the data,
        too.
    evaluate
        What to measure after each round: whatever `mirl.evaluate` takes as data, or a function of
        the model that returns a `mirl.Evaluation`, or ``{task: {"psnr": …, "ssim": …}}`` with these
        or other numbers; NaN counts as not measured.
    out
        Folder of the run: recipe, record (a JSON line a round), checkpoint, and the packed network
        of each round. A run that was stopped, in whatever way, continues from its last checkpoint
        when it is called again with the same arguments, and ends with the same bits; with more
        `rounds` than before, one that has ended goes on, too.
    checkpoint_seconds
        Least time between two checkpoints within a round, at least 0.
    loggers
        What is told about the run, and may end it after a round; see `mirl.loggers.Logger`. By
        default `mirl.loggers.default_loggers`: progress bars, and with `out` ``steps.jsonl`` and,
        where it is installed, TensorBoard.
    progress
        Whether to show progress bars; where stderr is a file, a line for each epoch.

    Returns
    -------
    Result
        The trained ticket and the record of every round.

    Raises
    ------
    TypeError
        A setting of another type; `data` is a folder, has no length, or does not tell its tasks
        where they are weighted; `evaluate` cannot be measured each round, or does not return such
        numbers; not a logger.
    ValueError
        A setting out of range, or two that contradict each other; `out` holds another run; data
        without a batch; `masks_of` has fewer rounds, or was made by other settings; a network with
        masks where `pruning` begins with the whole one.
    FileNotFoundError
        `masks_of` holds no run; or a file is missing that a run is resumed from, or has come to.
    BlockingIOError
        Another process is at the run in `out`.
    OSError
        `out` cannot be written; the last checkpoint is still there.
    mirl.errors.FormatError
        Such a file is damaged, or another run's.
    mirl.errors.DivergenceError
        A loss is not finite: the last checkpoint is still there.

    Warns
    -----
    UserWarning
        The network has masks before round 0.
    """
    given = locals()
    with closed_on_failure(loggers or ()):
        check_model(model)
        check_switches(progress=progress)
        if isinstance(data, str | os.PathLike):
            raise TypeError(f"data must be batches, as of mirl.Loader.from_folder({data!r})")
        if not is_number(checkpoint_seconds):
            raise TypeError(f"checkpoint_seconds must be a number, got {checkpoint_seconds!r}")
        if not checkpoint_seconds >= 0:
            raise ValueError(f"checkpoint_seconds must be at least 0, got {checkpoint_seconds}")
        if control is not None and masks_of is None:
            raise ValueError(f"control {control!r} is one of a run: masks_of must name its folder")
        recipe = Recipe.of(**{each.name: given[each.name] for each in fields(Recipe)})
        parent = None if masks_of is None else RunFolder.existing(masks_of)
        folder = None if out is None else RunFolder(out)
    if loggers is None:
        loggers = default_loggers(None if folder is None else folder.path, progress=progress)
    try:
        with closed_on_failure(loggers):
            run = Run(
                model,
                data,
                recipe,
                parent,
                folder,
                evaluate,
                loggers,
                checkpoint_seconds,
                recompute,
            )
            alive = model.density(preset).prunable
            if alive < 1 and parent is None and not (folder and folder.checkpoint.exists()):
                warnings.warn(MASKED.format(alive), stacklevel=2)
            run.start()
            records = run.finish()
        close(loggers)
    finally:
        if folder is not None:
            folder.release()
    return Result(model, records)
