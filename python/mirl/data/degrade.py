"""Tasks, and the synthetic degradation of each."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl import _mirl
from mirl.arrays import check_unmasked
from mirl.checks import whole
from mirl.io import check_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TASKS = ("denoise", "derain", "dehaze")
SIGMAS = (15, 25, 50)
"""Standard deviations of the noise, in 8-bit units."""

_SYNTHETIC = {"derain": "rain", "dehaze": "haze"}


def degrade(
    image: NDArray[np.uint8], task: str, *, seed: int = 0, name: str = ""
) -> NDArray[np.uint8]:
    """Degrade an image, or several of one size.

    Steps follow each other, ``"blur:0.5-2 + noise:10 + jpeg:30-70"``: each a name and, after a
    colon, its strength or the range that it is drawn from. Values are rounded to 8 bits after each.

    ================  ==========================================================================
    ``noise:σ``       white Gaussian noise of standard deviation σ in 8-bit units, clipped and
                      truncated to 8 bits as published
    ``poisson:p``     photons: Poisson(p x)/p for x in [0, 1], p photons at white
    ``iso:λ``         a sensor at high ISO: variance λ_read + λ x of linear light x, ln λ_read =
                      2.18 ln λ + 1.2 (Brooks et al. 2019, section 3.1); cameras have λ of 1e-4 to 0.012
    ``rain``          bright streaks, added (Yang et al. 2017, eq. 1), about as many and as strong as
                      in Rain100L
    ``haze``          scattering, ``J t + A (1 - t)`` with ``t = exp(-β d)``, A in [0.7, 1] and β in
                      [0.6, 1.8] (RESIDE, Li et al. 2019, eqs. 1 and 2) over a smooth random depth d
                      in [0, 1]
    ``underwater``    the same with A and β for each colour, red attenuated most (Li, Anwar & Porikli
                      2020); ranges chosen by eye
    ``lowlight:γ``    ``β (α J)^γ``, α in [0.9, 1] and β in [0.5, 1] (Lv, Li & Lu 2021, arXiv
                      1908.00682, with γ from 1.5 to 5)
    ``blur:σ``        a Gaussian of standard deviation σ pixels
    ``motion:n``      the mean along a line of n pixels in a random direction
    ``sharpen:a``     unsharp mask, ``J + a (J - G*J)`` with a Gaussian of one pixel
    ``resize:s``      bicubic (Keys 1981), down to the share s of its sides and back
    ``jpeg:q``        JPEG of quality q, from 1 to 100
    ``halftone``      error diffusion to full ink or none, in each colour (Floyd & Steinberg 1976)
    ``social``        ``resize:0.4-0.9 + sharpen:0.3-1 + jpeg:50-85 + resize:0.6-1 + jpeg:50-85``: a
                      picture that was shared twice
    ================  ==========================================================================

    Parameters
    ----------
    image
        uint8, shape (H, W, 3) or (N, H, W, 3).
    task
        Steps; or a published task: ``"denoise_25"`` (any σ, or a range) is ``noise:25``,
        ``"derain"`` is ``rain`` and ``"dehaze"`` is ``haze``.
    seed, name
        What is drawn follows from both, and from the number of the image; that of the first is
        what one alone has. Photos that are degraded one by one get the same noise unless each has
        a `name` (or a `seed`) of its own.

    Returns
    -------
    numpy.ndarray
        uint8 of the same shape.

    Raises
    ------
    ValueError
        An unknown step, a strength out of range, or an array that is not an image.
    TypeError
        Another type than uint8, a masked array, a seed that is not a whole number, or a task or a
        name that is not a string.
    """
    whole("seed", seed)
    check_photo(image, batches=True)
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}")
    name = name.encode(errors="backslashreplace").decode()  # a file's may be no UTF-8
    degraded: NDArray[np.uint8] = _mirl.degrade(image, degradation(task), seed, name)
    return degraded


def check_photo(image: Any, what: str = "image", *, batches: bool = False) -> None:
    """Raise for what is no uint8 image (H, W, 3), or several of them, and tell how to get one.

    Raises
    ------
    TypeError
        Another type.
    ValueError
        Another shape.
    """
    check_array(image, what)
    check_unmasked(image, what)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise TypeError(f"{what}: expected a numpy array of uint8, got {kind}")
    shape, more = image.shape, ""
    if 0 not in shape and shape[-1:] == (3,) and (len(shape) == 3 or (batches and len(shape) == 4)):
        return
    if len(shape) == 3 and shape[2] == 4:
        more = "; image[:, :, :3] leaves alpha out"
    elif len(shape) == 3 and shape[2] in (1, 2):
        more = "; image[:, :, [0, 0, 0]] makes it RGB"
    elif len(shape) == 2:
        more = "; np.dstack([image] * 3) makes it RGB"
    wanted = "(H, W, 3) or (N, H, W, 3)" if batches else "(H, W, 3)"
    raise ValueError(f"{what}: expected shape {wanted}, got {shape}{more}")


def check_tasks(
    tasks: Sequence[str], sigmas: Sequence[float | str], synthesize: Sequence[str] = ()
) -> None:
    """Raise for tasks or sigmas that are no sequence or empty, and for what cannot be synthesised."""
    if isinstance(tasks, str) or not isinstance(tasks, Collection) or len(tasks) == 0:
        raise ValueError(f"tasks must be a sequence of {TASKS} and your own, got {tasks!r}")
    if isinstance(synthesize, str) or not isinstance(synthesize, Collection):
        raise TypeError(f"synthesize must be a sequence of tasks, got {synthesize!r}")
    for task in tasks:
        if not isinstance(task, str):
            raise TypeError(f"tasks must be strings, got {task!r}")
    if isinstance(sigmas, str) or not isinstance(sigmas, Collection) or len(sigmas) == 0:
        raise ValueError(f"sigmas must be a sequence of standard deviations, got {sigmas!r}")
    for task in synthesize:
        if task not in _SYNTHETIC:
            raise ValueError(f"synthesize must be some of {tuple(_SYNTHETIC)}, got {task!r}")


def has_pairs(task: str, synthesize: Sequence[str] = ()) -> bool:
    """Whether a task's data sets are pairs, rather than clean images to degrade.

    Raises
    ------
    ValueError
        What can only be a degradation is not a valid one.
    """
    if task in TASKS:
        return task != "denoise" and task not in synthesize
    if {":", "+"} & set(task) or re.match(r"denoise_-?[\d.]", task):
        degradation(task)
        return False
    try:
        degradation(task)
    except ValueError:
        return True
    return False


def degraded_tasks(task: str, sigmas: Sequence[float | str]) -> list[str]:
    """Give the degradations that a task without pairs stands for: denoising has one for each sigma.

    Raises
    ------
    ValueError
        Not a valid degradation.
    """
    tasks = [f"{task}_{sigma}" for sigma in sigmas] if task == "denoise" else [task]
    for one in tasks:
        degradation(one)
    return tasks


def degradation(task: str) -> str:
    """Give the core's name for a task's degradation.

    Raises
    ------
    ValueError
        Not a valid degradation.
    TypeError
        Not a string.
    """
    if not isinstance(task, str):
        kind = type(task).__name__
        raise TypeError(f'task must be a string, as "blur:1 + noise:25" or "derain", got {kind}')
    if task in _SYNTHETIC:
        return _SYNTHETIC[task]
    kind, _, sigma = task.partition("_")
    if kind != "denoise":
        _mirl.check_degradation(task)
        return task
    if not sigma:
        raise ValueError(f"{task!r} says no sigma: denoise_25, or a range, denoise_15-50")
    try:
        _mirl.check_degradation(f"noise:{sigma}")
    except ValueError as error:
        raise ValueError(f"{task}: sigma: {error}") from None
    return f"noise:{sigma}"
