"""Tasks, and what is measured on them, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TASK_NAMES = {"denoise": "noise σ {}", "derain": "rain", "dehaze": "haze"}
MEASURE_NAMES = {"psnr": "PSNR (dB)", "ssim": "SSIM"}


def task_name(task: str) -> str:
    """Name a task in words: ``"denoise_25"`` is noise σ 25, ``"derain"`` rain."""
    kind, _, sigma = task.partition("_")
    if task == "denoise":
        return "noise"
    return TASK_NAMES.get(kind, task).format(sigma)


def measure_name(measure: str) -> str:
    """Name a measure with its unit: ``"psnr"`` is PSNR (dB)."""
    return MEASURE_NAMES.get(measure, measure)


def measured(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the rounds of a run have measured, each measure once."""
    found = (metrics for record in records for metrics in record["metrics"].values())
    return list(dict.fromkeys(name for metrics in found for name in metrics))


def check_measured(records: Sequence[Mapping[str, Any]], measure: str, what: str) -> None:
    """Raise a ValueError where no round has a measure; `what` the rounds are of."""
    there = measured(records)
    if measure not in there:
        raise ValueError(
            f"{what}: no round has measured {measure!r}; "
            + (f"there are {', '.join(there)}" if there else "evaluate every round")
        )
