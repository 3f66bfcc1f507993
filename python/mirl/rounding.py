"""What rounding a network's values costs, on an image that needs no file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mirl.metrics import psnr

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIZE = 64
SIGMA = 25 / 255
"""Of the noise, the middle one of the published test."""


def cost_of_rounding(
    exact: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    rounded: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> dict[str, float | None]:
    """Compare two networks on a noisy image of smooth colours, stripes and a disc.

    Returns
    -------
    dict
        In dB: ``psnr_float32`` and ``psnr`` of the exact and of the rounded network's image beside the
        clean one, ``cost``, the first less the second, and ``between``, that of the two images; None
        where they are the same.
    """
    clean = _image()
    noise = np.random.default_rng(0).normal(0, SIGMA, clean.shape)
    noisy = np.clip(clean + noise, 0, 1).astype(np.float32)
    images = [np.clip(network(noisy), 0, 1) for network in (exact, rounded)]
    before, after = (psnr(image, clean) for image in images)
    between = psnr(images[1], images[0])
    return {
        "psnr_float32": before,
        "psnr": after,
        "cost": before - after,
        "between": between if math.isfinite(between) else None,
    }


def _image() -> NDArray[np.float32]:
    y, x = np.mgrid[:SIZE, :SIZE] / np.float32(SIZE)
    smooth = [0.5 + 0.3 * np.sin(2 * np.pi * (a * x + b * y)) for a, b in ((1, 0), (0, 1), (1, 1))]
    image = np.stack(smooth)
    image[:, SIZE // 2 :, : SIZE // 2] = 0.2 + 0.6 * (np.arange(SIZE // 2) // 3 % 2)
    image[:, np.hypot(x - 0.7, y - 0.3) < 0.2] = [[0.9], [0.6], [0.1]]
    return image[np.newaxis].astype(np.float32)
