"""Words that settings may be, each list but once: as a type, of which `get_args` makes a tuple."""

from __future__ import annotations

from typing import Literal, TypeAlias

Device: TypeAlias = Literal["cpu", "cuda"]
"""See `mirl.devices`."""
LayerNorm: TypeAlias = Literal["WithBias", "BiasFree"]
"""See `mirl.Restormer`."""
MatmulPrecision: TypeAlias = Literal["highest", "high"]
"""See `mirl.set_float32_matmul_precision`."""
Precision: TypeAlias = Literal["float32", "bfloat16"]
"""See `mirl.Trainer`."""
Preset: TypeAlias = Literal["default", "paper-code"]
"""See `mirl.prune`."""

Augment: TypeAlias = Literal["all", "paper-code", "none"]
"""See `mirl.Loader.from_folder`."""
OnError: TypeAlias = Literal["raise", "skip"]
"""See `mirl.Loader.from_folder`."""

LossName: TypeAlias = Literal["l1", "l2", "charbonnier", "ssim", "fft-l1"]
"""See `mirl.Trainer`."""
Recompute: TypeAlias = Literal["block"]
"""See `mirl.Trainer`."""

Scope: TypeAlias = Literal["global", "layerwise", "uniform", "erk"]
"""See `mirl.prune`."""
CriterionName: TypeAlias = Literal["magnitude", "random", "snip", "taylor", "grasp", "synflow"]
"""See `mirl.criteria`."""
Granularity: TypeAlias = Literal["weights", "channels"] | str
"""Or a pattern, ``"2:4"``; see `mirl.prune`."""
Threshold: TypeAlias = Literal["exact", "percentile"]
"""See `mirl.prune`."""
Alive: TypeAlias = Literal["mask", "nonzero"]
"""See `mirl.prune`."""
Of: TypeAlias = Literal["alive", "all"]
"""See `mirl.prune`."""

Pruning: TypeAlias = Literal["iterative", "one-shot", "initial", "gradual"]
"""See `mirl.find_ticket`."""
Rewind: TypeAlias = Literal["initial", "learning-rate", "fine-tune"]
"""See `mirl.find_ticket`."""
RewindBiases: TypeAlias = Literal["every", "first", "never"]
"""See `mirl.find_ticket`."""
Schedule: TypeAlias = Literal["step", "epoch"]
"""See `mirl.find_ticket`."""
Control: TypeAlias = Literal["reinit", "shuffle", "random"]
"""See `mirl.find_ticket`."""
TaskWeighting: TypeAlias = Literal["uncertainty"]
"""See `mirl.find_ticket`."""
