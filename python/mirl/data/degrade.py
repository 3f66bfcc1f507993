"""Tasks, and the synthetic degradation of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirl import _mirl

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

TASKS = ("denoise", "derain", "dehaze")
SIGMAS = (15, 25, 50)
"""Standard deviations of the noise, in 8-bit units."""

_SYNTHETIC = {"derain": "rain", "dehaze": "haze"}


def degrade(
    image: NDArray[np.uint8], task: str, *, seed: int = 0, name: str = ""
) -> NDArray[np.uint8]:
    """Degrade an image.

    Parameters
    ----------
    image
        uint8, shape (H, W, 3).
    task
        ``"denoise_25"``: Gaussian noise of standard deviation 25 (any number will do), clipped and
        truncated to 8 bits as published. ``"derain"``: bright streaks, added (Yang et al. 2017,
        eq. 1), about as many and as strong as in Rain100L. ``"dehaze"``: scattering,
        ``J t + A (1 - t)`` with ``t = exp(-β d)``, A in [0.7, 1] and β in [0.6, 1.8] (RESIDE, Li et
        al. 2019, eqs. 1 and 2) over a smooth random depth d in [0, 1].
    seed, name
        What is drawn follows from both.

    Returns
    -------
    numpy.ndarray
        uint8 of the same shape.

    Raises
    ------
    ValueError
        An unknown task or an array that is no image.
    TypeError
        Another type than uint8.
    """
    check_least(0, seed=seed)
    degraded: NDArray[np.uint8] = _mirl.degrade(image, degradation(task), seed, name)
    return degraded


def check_least(least: int, **settings: int) -> None:
    """Raise ValueError for a setting below `least`."""
    for name, value in settings.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def check_tasks(tasks: Sequence[str], synthesize: Sequence[str]) -> None:
    """Raise ValueError for a task that is unknown, or that cannot be synthesised."""
    if isinstance(tasks, str) or not tasks:
        raise ValueError(f"tasks must be some of {TASKS}, got {tasks!r}")
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"tasks must be some of {TASKS}, got {task!r}")
    for task in synthesize:
        if task not in _SYNTHETIC:
            raise ValueError(f"synthesize must be some of {tuple(_SYNTHETIC)}, got {task!r}")


def degradation(task: str) -> str:
    """Give the core's name for a task's degradation."""
    if task in _SYNTHETIC:
        return _SYNTHETIC[task]
    kind, _, sigma = task.partition("_")
    if kind != "denoise" or not sigma:
        raise ValueError(f"task must be 'denoise_SIGMA', 'derain' or 'dehaze', got {task!r}")
    return f"noise:{sigma}"
