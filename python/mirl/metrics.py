"""Image quality, equal to scikit-image's with ``data_range=1``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mirl import _mirl
from mirl.arrays import SupportsDLPack, as_array

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FLOATS = (np.float32, np.float64)


def psnr(
    a: NDArray[np.floating[Any]] | SupportsDLPack, b: NDArray[np.floating[Any]] | SupportsDLPack
) -> float:
    """Peak signal-to-noise ratio: ``-10 log10`` of the mean squared error, for a peak of 1.

    Parameters
    ----------
    a, b
        float32 or float64 images of one shape, (H, W), (C, H, W) or (N, C, H, W), in [0, 1]. Channels
        are RGB as they are; nothing is clipped or cropped.

    Returns
    -------
    float
        In dB, infinite for equal images; of a batch, the mean over its images.

    Raises
    ------
    TypeError
        Images that are not floating point.
    ValueError
        Shapes that differ or are not an image's, or values that are not finite.
    """
    return _mean(_mirl.psnr, a, b)


def ssim(
    a: NDArray[np.floating[Any]] | SupportsDLPack, b: NDArray[np.floating[Any]] | SupportsDLPack
) -> float:
    """Structural similarity (Wang et al. 2004, eq. 13), the mean over windows and channels.

    Uniform 7×7 windows, sample covariance, K1 = 0.01, K2 = 0.03, a range of 1: the defaults of
    scikit-image's ``structural_similarity``.

    Parameters
    ----------
    a, b
        float32 or float64 images of one shape, (H, W), (C, H, W) or (N, C, H, W), in [0, 1], H and W
        at least 7. Photos as `mirl.restore` returns them become such by
        ``photo.transpose(2, 0, 1) / 255``.

    Returns
    -------
    float
        At most 1; of a batch, the mean over its images.

    Raises
    ------
    TypeError
        Images that are not floating point.
    ValueError
        Shapes that differ or are not an image's, or values that are not finite.
    """
    return _mean(_mirl.ssim, a, b)


def _mean(
    metric: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    a: NDArray[Any] | SupportsDLPack,
    b: NDArray[Any] | SupportsDLPack,
) -> float:
    images: list[NDArray[Any]] = [np.asarray(as_array(*each)) for each in ((a, "a"), (b, "b"))]
    batches = [_batch(image, name) for image, name in zip(images, "ab", strict=True)]
    if batches[0].shape != batches[1].shape:
        raise ValueError(f"a and b differ in shape: {images[0].shape} and {images[1].shape}")
    return float(np.mean([metric(*pair) for pair in zip(*batches, strict=True)]))


def _batch(image: NDArray[Any], name: str) -> NDArray[np.float64]:
    if image.dtype not in FLOATS:
        hint = " (divide 8-bit images by 255)" if image.dtype == np.uint8 else ""
        raise TypeError(f"{name}: expected float32 or float64 in [0, 1], got {image.dtype}{hint}")
    if image.ndim not in (2, 3, 4) or image.size == 0:
        raise ValueError(
            f"{name}: expected shape (H, W), (C, H, W) or (N, C, H, W), got {image.shape}"
        )
    batch: NDArray[np.float64] = image.astype(np.float64, copy=False)
    while batch.ndim < 4:
        batch = batch[np.newaxis]
    return batch
