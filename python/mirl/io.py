"""Files: images (PNG, JPEG, BMP, TIFF and WebP), and whatever appears whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from mirl import _mirl
from mirl.checks import check_switches
from mirl.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


MAX_SUFFIX = 32
"""Characters of an ending that temporary files have too: what writes them looks at it."""


class Image(NamedTuple):
    """An image as its file holds it."""

    pixels: NDArray[Any]
    """uint8 or uint16, shape (H, W, C): grey, grey and alpha, RGB, or RGBA. EXIF's orientation has been
    applied."""
    icc: bytes | None
    """Colour profile."""
    exif: bytes | None
    """EXIF, its orientation reset; of TIFF files None."""

    def __repr__(self) -> str:
        icc, exif = (each and f"{len(each):,} bytes" for each in (self.icc, self.exif))
        return f"Image(pixels={shape_of(self.pixels)}, icc={icc}, exif={exif})"


def shape_of(array: NDArray[Any]) -> str:
    """Name an array by its type and shape, for what would print all of it: ``"uint8 (8, 8, 3)"``."""
    return f"{array.dtype} {array.shape}"


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read an image file; of a file of several pages the first, with a warning.

    Parameters
    ----------
    path
        A PNG, JPEG, BMP, TIFF or WebP file.

    Returns
    -------
    Image
        Its pixels, uint8 or uint16 of shape (H, W, 1 to 4), with its colour profile and EXIF data.

    Raises
    ------
    OSError
        The file cannot be read.
    mirl.errors.FormatError
        It is damaged or of another format.
    """
    pixels, icc, exif, more = _mirl.read_image(os.fspath(path))
    if more:
        warnings.warn(f"{os.fspath(path)}: the first of several pages is read", stacklevel=2)
    return Image(pixels, icc, exif)


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
        uint8 or uint16, shape (H, W), or (H, W, C) with 1 to 4 channels.
    force
        Whether a file that is already there may be replaced.
    icc, exif
        Colour profile and EXIF, for formats that have a place for them.

    Raises
    ------
    FileExistsError
        The file is already there.
    TypeError, ValueError
        Pixels that are not an image, or a setting of another type.
    OSError
        The file cannot be written.
    mirl.errors.FormatError
        A format that is unknown or cannot hold such pixels.
    """
    check_switches(force=force)
    if getattr(pixels, "ndim", None) == 2:
        pixels = pixels[..., None]
    _mirl.write_image(os.fspath(path), pixels, force, icc, exif)


def check_array(image: object, what: str) -> None:
    """Raise a TypeError for what `read_image` gives where an array is wanted, and tell where it is."""
    if isinstance(image, Image):
        raise TypeError(f"{what}: expected an array, got what read_image gives: take its .pixels")


def check_absent(paths: Iterable[Path]) -> None:
    """Raise a FileExistsError that names all files that are already there, as `write_image` would."""
    there = [str(path) for path in paths if path.exists()]
    if there:
        raise FileExistsError(f"{', '.join(there)}: is already there (force overwrites)")


def check_readable(failed: Sequence[str], images: int, done: str = "read") -> None:
    """Raise a FormatError that names all that could not be read of so many images, if there are any."""
    if failed:
        names = "\n".join(failed)
        raise FormatError(f"{len(failed)} of {images} images cannot be {done}:\n{names}")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary file's name beside `path`, of the same ending, that becomes `path` at the end.

    Where the block fails, what was at `path` is still there, and the temporary file is not. Who may
    read it stays. A link stays, and what it leads to is replaced; what is no file, like a pipe or a
    device, is refused.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "is not a file", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
    if path.is_symlink():
        path = path.resolve()
    temporary = _temporary(path)
    try:
        if path.exists():
            shutil.copymode(path, temporary)
        yield temporary
        with temporary.open("rb+") as file:  # Windows syncs only what is open to be written
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)
        temporary.unlink(missing_ok=True)
        raise


def _temporary(path: Path) -> Path:
    """A new file beside `path`."""
    number = threading.get_ident()
    while True:
        # Not of the file's own name, which may be as long as names can be.
        name = f".mirl-{os.getpid()}-{number}.tmp{path.suffix[:MAX_SUFFIX]}"
        temporary = path.with_name(name)
        # A process of another container may have this one's number, and the same folder.
        with suppress(FileExistsError):
            temporary.touch(exist_ok=False)
            return temporary
        number += 1


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
