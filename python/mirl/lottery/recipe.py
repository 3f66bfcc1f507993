"""What determines a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mirl.models import preset_choice
from mirl.optim import linear_warmup_cosine

WARMUP_SHARE = 15 / 120
"""Share of the epochs that warm up in the published run."""


@dataclass(frozen=True)
class Recipe:
    """The settings of `mirl.find_ticket`; see there."""

    rounds: int
    amount: float
    scope: str
    epochs: int
    lr: float
    min_lr: float
    warmup_epochs: float
    schedule: str
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip_grad_norm: float | None
    precision: str
    preset: str
    rewind_biases: str
    rewind_prompts: bool
    rewind_temperatures: bool

    def __post_init__(self) -> None:
        preset_choice(self.preset)
        for name in ("rounds", "epochs"):
            value = getattr(self, name)
            least = 0 if name == "rounds" else 1
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
        if not 0 < self.amount < 1:
            raise ValueError(f"amount must lie in (0, 1), got {self.amount}")
        if self.scope not in ("global", "layerwise"):
            raise ValueError(f"scope must be 'global' or 'layerwise', got {self.scope!r}")
        if self.schedule not in ("step", "epoch"):
            raise ValueError(f"schedule must be 'step' or 'epoch', got {self.schedule!r}")
        if self.rewind_biases not in ("every", "first", "never"):
            raise ValueError(
                f"rewind_biases must be 'every', 'first' or 'never', got {self.rewind_biases!r}"
            )
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if not 0 <= self.min_lr <= self.lr:
            raise ValueError(f"min_lr must lie in [0, lr], got {self.min_lr}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(f"warmup_epochs must lie in [0, epochs), got {self.warmup_epochs}")

    def learning_rate(self, epoch: int, step: int, steps: int) -> float:
        """Learning rate of `step` in `epoch` (both from 0) when an epoch has `steps`."""
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
        settings["betas"] = list(self.betas)
        return settings
