"""What determines a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from mirl.criteria import CRITERIA
from mirl.lottery.control import CONTROLS
from mirl.models import preset_choice
from mirl.optim import linear_warmup_cosine

WARMUP_SHARE = 15 / 120
"""Share of the epochs that warm up in the published run."""

CHOICES = {
    "scope": ("global", "layerwise", "uniform", "erk"),
    "pruning": ("iterative", "one-shot", "initial", "gradual"),
    "schedule": ("step", "epoch"),
    "rewind_biases": ("every", "first", "never"),
    "control": (None, *CONTROLS),
    "task_weighting": (None, "uncertainty"),
}


@dataclass(frozen=True)
class Recipe:
    """The settings of `mirl.find_ticket`; see there."""

    rounds: int
    amount: float
    scope: str
    pruning: str
    criterion: Any
    criterion_batches: int
    granularity: str
    include: tuple[str, ...]
    exclude: tuple[str, ...] | None
    min_density: float
    rewind: str | int
    rewind_biases: str
    rewind_prompts: bool
    rewind_temperatures: bool
    control: str | None
    epochs: int
    loss: Any
    task_weighting: str | None
    lr: float
    min_lr: float
    warmup_epochs: float
    schedule: str
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip_grad_norm: float | None
    micro_batch: int | None
    ema_decay: float | None
    precision: str
    preset: str
    seed: int

    def __post_init__(self) -> None:
        preset_choice(self.preset)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        for name, least in {"rounds": 0, "epochs": 1, "criterion_batches": 1, "seed": 0}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
        if not 0 < self.amount < 1:
            raise ValueError(f"amount must lie in (0, 1), got {self.amount}")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if not 0 <= self.min_lr <= self.lr:
            raise ValueError(f"min_lr must lie in [0, lr], got {self.min_lr}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(f"warmup_epochs must lie in [0, epochs), got {self.warmup_epochs}")
        self._check_criterion()
        self._check_rewind()

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
        if isinstance(rewind, str):
            if rewind not in ("initial", "learning-rate", "fine-tune"):
                raise ValueError(
                    "rewind must be 'initial', a number of steps, 'learning-rate' or 'fine-tune',"
                    f" got {rewind!r}"
                )
        elif not isinstance(rewind, int) or isinstance(rewind, bool) or rewind < 1:
            raise ValueError(f"rewind must be at least 1 step, got {rewind!r}")
        if rewind == "fine-tune" and not self.min_lr > 0:
            raise ValueError("fine-tuning goes on at min_lr, which must be positive then")
        if rewind != "initial" and self.pruning in ("initial", "gradual"):
            raise ValueError(
                f"with pruning {self.pruning!r} there is nothing to rewind to but initial"
            )

    @property
    def excluded(self) -> tuple[str, ...]:
        """What is excluded from pruning."""
        paper = self.preset == "paper-code"
        return (() if paper else ("dead",)) if self.exclude is None else self.exclude

    @property
    def rewinds(self) -> bool:
        """Whether survivors go back to earlier values."""
        return self.rewind not in ("learning-rate", "fine-tune")

    def first_step(self, round_: int) -> int:
        """The step of the schedule that a round begins with."""
        return self.rewind if round_ > 0 and isinstance(self.rewind, int) else 0

    def learning_rate(self, round_: int, epoch: int, step: int, steps: int) -> float:
        """Learning rate of `step` in `epoch` (both from 0) when an epoch has `steps`."""
        if self.rewind == "fine-tune" and round_ > 0:
            return self.min_lr
        unit = steps if self.schedule == "step" else 1
        t = epoch * unit + (step if self.schedule == "step" else 0)
        total = self.epochs * unit
        warmup = min(round(self.warmup_epochs * unit), total - 1)
        return linear_warmup_cosine(t, total, warmup=warmup, base=self.lr, minimum=self.min_lr)

    def rewinds_biases(self, round_: int) -> bool:
        """Whether the rewinding before `round_` (from 1) sets biases back."""
        return self.rewind_biases == "every" or (self.rewind_biases == "first" and round_ == 1)

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, as JSON holds them."""
        settings = asdict(self)
        if callable(self.criterion):
            function = self.criterion
            settings["criterion"] = f"{function.__module__}.{function.__qualname__}"
        return settings
