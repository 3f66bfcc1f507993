"""What determines a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from mirl.checks import check_choice, check_switches, is_number, two_numbers, whole
from mirl.choices import (
    Control,
    Granularity,
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
from mirl.criteria import CRITERIA
from mirl.groups import excluded
from mirl.lottery.naming import function_name
from mirl.models import Network, preset_choice
from mirl.optim import linear_warmup_cosine
from mirl.prune import granularity_of
from mirl.train import Trainer, loss_weights

WARMUP_SHARE = 15 / 120
"""Share of the epochs that warm up in the published run."""

CHOICES = {
    "scope": get_args(Scope),
    "pruning": get_args(Pruning),
    "precision": get_args(Precision),
    "schedule": get_args(Schedule),
    "rewind_biases": get_args(RewindBiases),
    "control": (None, *get_args(Control)),
    "task_weighting": (None, *get_args(TaskWeighting)),
}
NUMBERS = ("amount", "min_density", "lr", "min_lr", "warmup_epochs", "eps", "weight_decay")
WHOLE = {"rounds": 0, "epochs": 1, "criterion_batches": 1, "seed": 0}
"""Whole numbers, and what they are at least."""
SWITCHES = ("rewind_prompts", "rewind_temperatures")


@dataclass(frozen=True)
class Recipe:
    """The settings of `mirl.find_ticket`, by the names of its arguments; see there."""

    rounds: int
    amount: float
    scope: Scope
    pruning: Pruning
    criterion: Any
    criterion_batches: int
    granularity: Granularity
    include: tuple[str, ...]
    exclude: tuple[str, ...] | None
    min_density: float
    rewind: Rewind | int
    rewind_biases: RewindBiases
    rewind_prompts: bool
    rewind_temperatures: bool
    control: Control | None
    epochs: int
    loss: Any
    task_weighting: TaskWeighting | None
    lr: float
    min_lr: float
    warmup_epochs: float
    schedule: Schedule
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip_grad_norm: float | None
    micro_batch: int | None
    ema_decay: float | None
    precision: Precision
    preset: Preset
    seed: int

    @classmethod
    def of(cls, **settings: Any) -> Recipe:
        """The recipe of arguments of `mirl.find_ticket`.

        Parameters
        ----------
        **settings
            All fields, by name. None stands for what follows from others, as it does there.

        Returns
        -------
        Recipe
            With what follows from others in its place.

        Raises
        ------
        TypeError, ValueError
            A setting of another type or out of range, or two that contradict each other, by name.
        """
        paper = settings["preset"] == "paper-code"
        for name, value in settings.items():
            if isinstance(value, np.generic):  # which JSON does not know
                settings[name] = value.item()
        for name, needed in {"include": True, "exclude": False}.items():
            names = settings[name]
            if names is None and not needed:
                continue
            if isinstance(names, str) or not isinstance(names, Iterable):
                raise TypeError(f"{name} must be a sequence of names, got {names!r}")
            settings[name] = tuple(names)
        if settings["warmup_epochs"] is None:
            # What is wrong with the epochs is said below.
            epochs = settings["epochs"]
            settings["warmup_epochs"] = WARMUP_SHARE * epochs if isinstance(epochs, int) else 0
        loss = settings["loss"]
        settings |= {
            "rewind_biases": settings["rewind_biases"] or ("first" if paper else "every"),
            "schedule": settings["schedule"] or ("epoch" if paper else "step"),
            "loss": loss_weights(loss) if isinstance(loss, Mapping) else loss,
            "betas": two_numbers("betas", settings["betas"]),
        }
        return cls(**settings)

    def __post_init__(self) -> None:
        preset_choice(self.preset)
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name, least in WHOLE.items():
            whole(name, getattr(self, name), least)
        self._check_types()
        if not 0 < self.amount < 1:
            raise ValueError(f"amount must lie in (0, 1), got {self.amount}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        if not 0 <= self.min_lr <= self.lr:
            raise ValueError(f"min_lr must lie in [0, lr], got {self.min_lr}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(f"warmup_epochs must lie in [0, epochs), got {self.warmup_epochs}")
        if not 0 <= self.min_density < 1:
            raise ValueError(f"min_density must lie in [0, 1), got {self.min_density}")
        granularity_of(self.granularity)
        self._check_criterion()
        self._check_rewind()

    def _check_types(self) -> None:
        for name in NUMBERS:
            if not is_number(getattr(self, name)):
                raise TypeError(f"{name} must be a number, got {getattr(self, name)!r}")
        for name in ("clip_grad_norm", "micro_batch", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not is_number(value):
                raise TypeError(f"{name} must be a number or None, got {value!r}")
        check_switches(**{name: getattr(self, name) for name in SWITCHES})

    def _check_criterion(self) -> None:
        names = (*CRITERIA, "movement")
        if isinstance(self.criterion, str) and self.criterion not in names:
            raise ValueError(f"criterion must be one of {names}, got {self.criterion!r}")
        if not isinstance(self.criterion, str | Callable):
            kind = type(self.criterion).__name__
            raise TypeError(f"criterion must be a name or a function, got {kind}")
        if self.criterion == "movement" and self.pruning not in ("iterative", "gradual"):
            raise ValueError(f"movement is of training: pruning cannot be {self.pruning!r}")

    def _check_rewind(self) -> None:
        rewind = self.rewind
        if not isinstance(rewind, str | bool):
            whole("rewind", rewind, 1)
        elif rewind not in get_args(Rewind):
            raise ValueError(
                "rewind must be 'initial', a number of steps, 'learning-rate' or 'fine-tune',"
                f" got {rewind!r}"
            )
        if rewind == "fine-tune" and not self.min_lr > 0:
            raise ValueError("fine-tuning goes on at min_lr, which must be positive then")
        if not self.rewinds:
            if self.control == "reinit":
                raise ValueError(
                    f"control 'reinit' draws what weights are rewound to: rewind cannot be {rewind!r}"
                )
            for name in SWITCHES:
                if getattr(self, name):
                    raise ValueError(f"{name} is of rewinding: rewind cannot be {rewind!r}")
        if rewind != "initial" and self.pruning in ("initial", "gradual"):
            raise ValueError(
                f"with pruning {self.pruning!r} there is nothing to rewind to but initial"
            )

    @property
    def excluded(self) -> tuple[str, ...]:
        """What is excluded from pruning."""
        return excluded(self.preset) if self.exclude is None else self.exclude

    @property
    def rewinds(self) -> bool:
        """Whether survivors go back to earlier values."""
        return self.rewind not in ("learning-rate", "fine-tune")

    def trainer(self, model: Network, recompute: Recompute | None) -> Trainer:
        """Make what trains a network in a round.

        Parameters
        ----------
        model
            The network.
        recompute
            As `mirl.Trainer` takes it: no setting of a recipe, since it changes no bit.

        Returns
        -------
        mirl.Trainer
            A fresh one.

        Raises
        ------
        TypeError, ValueError
            A setting of another type or out of range.
        """
        return Trainer(
            model,
            loss=self.loss,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            clip_grad_norm=self.clip_grad_norm,
            recompute=recompute,
            precision=self.precision,
            micro_batch=self.micro_batch,
            ema_decay=self.ema_decay,
            movement=self.criterion == "movement",
        )

    def first_step(self, round_: int) -> int:
        """The step of the schedule that a round begins with: with late rewinding not the first.

        Parameters
        ----------
        round_
            0 trains the dense network.

        Returns
        -------
        int
            From 0.
        """
        return self.rewind if round_ > 0 and isinstance(self.rewind, int) else 0

    def learning_rate(self, round_: int, epoch: int, step: int, steps: int) -> float:
        """The learning rate of a step.

        Parameters
        ----------
        round_, epoch, step
            Which one: the round, its epoch, and the step of that, all from 0.
        steps
            How many an epoch has.

        Returns
        -------
        float
            In [0, lr].
        """
        if self.rewind == "fine-tune" and round_ > 0:
            return self.min_lr
        unit = steps if self.schedule == "step" else 1
        t = epoch * unit + (step if self.schedule == "step" else 0)
        total = self.epochs * unit
        warmup = min(round(self.warmup_epochs * unit), total - 1)
        return linear_warmup_cosine(t, total, warmup=warmup, lr=self.lr, min_lr=self.min_lr)

    def rewinds_biases(self, round_: int) -> bool:
        """Whether rewinding sets biases back.

        Parameters
        ----------
        round_
            The one that the rewinding comes before, from 1.

        Returns
        -------
        bool
            As `rewind_biases` says it.
        """
        return self.rewind_biases == "every" or (self.rewind_biases == "first" and round_ == 1)

    def to_dict(self) -> dict[str, Any]:
        """All settings.

        Returns
        -------
        dict
            By name, as JSON holds them; functions are their names.
        """
        # Not asdict: functions need not be copied, and some cannot be.
        settings = dict(vars(self))
        for name in ("criterion", "loss"):
            if callable(settings[name]):
                settings[name] = function_name(settings[name])
        return settings
