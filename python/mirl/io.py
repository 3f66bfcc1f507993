"""Image files: PNG, JPEG, BMP, TIFF and WebP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mirl import _mirl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Image(NamedTuple):
    """An image as its file holds it."""

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    """Shape (H, W, C): grey, grey and alpha, RGB, or RGBA. EXIF's orientation has been applied."""
    icc: bytes | None
    """Colour profile."""
    exif: bytes | None
    """EXIF, its orientation reset."""


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read an image file.

    Raises
    ------
    OSError
        The file cannot be read.
    mirl.errors.FormatError
        It is damaged or of another format.
    """
    return Image(*_mirl.read_image(os.fspath(path)))


def write_image(
    path: str | os.PathLike[str],
    pixels: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    force: bool = False,
    icc: bytes | None = None,
    exif: bytes | None = None,
) -> None:
    """Write an image file, whole or not at all.

    Parameters
    ----------
    path
        The extension tells the format: .png, .jpg (quality 95), .bmp, .tiff or .webp (lossless).
    pixels
        uint8 or uint16, shape (H, W, C) with 1 to 4 channels.
    force
        Whether a file that is already there may be replaced.
    icc, exif
        Colour profile and EXIF, for formats that have a place for them.

    Raises
    ------
    FileExistsError
        The file is already there.
    TypeError, ValueError
        Pixels that are no image.
    mirl.errors.FormatError
        A format that is unknown or cannot hold such pixels.
    """
    _mirl.write_image(os.fspath(path), pixels, force, icc, exif)
