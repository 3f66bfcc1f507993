"""Tasks, and what is measured on them, in words."""

from __future__ import annotations

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
