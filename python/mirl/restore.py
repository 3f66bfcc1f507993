"""Restoring images of any size and kind: arrays, and files for the command line."""

from __future__ import annotations

import errno
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from mirl import _mirl
from mirl.arrays import SupportsDLPack, as_array
from mirl.checks import check_least, check_switches, whole
from mirl.data.folder import files_of
from mirl.errors import DivergenceError, FormatError
from mirl.io import Image, check_absent, check_array, check_readable, read_image, write_image
from mirl.machine import memory
from mirl.models import Network
from mirl.terminal import bar

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

Images: TypeAlias = NDArray[np.float32]
Restorer: TypeAlias = Callable[[Images], Images]
"""A `mirl.Network`, or any function of images (N, 3, H, W)."""

Pixels = TypeVar("Pixels", bound="NDArray[Any]")

BYTES_PER_PIXEL = 36
"""Memory that a restoration takes per pixel and channel at full resolution, at its peak. Measured:
growth of the resident set on a processor, 11 to 26 bytes of all networks for dim 16 and 48 at
256x256 to 1024x1024."""
MEMORY_SHARE = 0.5
"""Of the memory that this process may have (`mirl.machine.memory`), for one restoration. Not of what
is free at the moment: the same image shall give the same result tomorrow."""
MEMORY_UNKNOWN = 8 * 2**30
"""Bytes taken for the machine's memory where the system does not tell."""
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""What a disk says that takes no other image either."""
GPU_MAX_ELEMENTS = 2**31 - 2**10
"""Of an array: kernels of a GPU number them with 32 bits, some beyond the end included."""


@overload
def restore(
    model: Restorer,
    image: Pixels,
    tile: int | None = ...,
    overlap: int = ...,
    *,
    progress: bool = ...,
) -> Pixels: ...


@overload
def restore(
    model: Restorer,
    image: SupportsDLPack,
    tile: int | None = ...,
    overlap: int = ...,
    *,
    progress: bool = ...,
) -> NDArray[Any]: ...


def restore(
    model: Restorer,
    image: Any,
    tile: int | None = None,
    overlap: int = 32,
    *,
    progress: bool = False,
) -> Any:
    """Restore an image, or a batch of network input.

    The network looks at all pixels at once (attention between channels, prompts picked by the mean
    over the image), so that tiles do not give quite what the whole image would.

    Parameters
    ----------
    model
        The network, or any function of images (N, 3, H, W).
    image
        One image, shape (H, W) or (H, W, C) with 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB,
        alpha) channels: uint8, uint16, or float32 in [0, 1]. Or a batch, float32 (N, 3, H, W).
        Gray is restored as RGB and averaged; alpha is kept as it is. Whatever DLPack views, a torch
        tensor say, is viewed without a copy.
    tile
        Side of the square tiles in pixels. By default the whole image at once, unless it would need
        more than half of the memory (of the machine, its container or the GPU), estimated as
        36 bytes × pixels × channels, or a GPU could not number its values: from 2³¹ pixels × channels
        on. At full resolution networks have twice `dim` channels, a SymUNet `dim`.
        A network pads tiles to multiples of `Network.multiple`, so that those are the cheapest.
    overlap
        Pixels that neighbouring tiles share at least; they are blended by linear ramps.
    progress
        Whether to show a progress bar of the tiles, where there are several.

    Returns
    -------
    numpy.ndarray
        Same shape and element type, in the range of the type, floats clipped to [0, 1].

    Raises
    ------
    TypeError
        Another element type, neither a network nor a function, or a setting of another type.
    ValueError
        Another shape, NaN, or a tile that is not larger than its overlap; a model that returns another
        shape than it was given.
    mirl.errors.DivergenceError
        The network gives NaN or infinity.

    Notes
    -----
    Noise of a grey photo is the same in all three channels that the network sees, and one that was
    trained on noise of colours, as published, hardly removes it. Train on pairs of grey photos for it.
    """
    check_callable(model)
    _check_tiling(tile, overlap)
    check_switches(progress=progress)
    check_array(image, "image")
    array = as_array(image, "image")
    if not isinstance(array, np.ndarray) or array.dtype not in (np.uint8, np.uint16, np.float32):
        kind = getattr(array, "dtype", type(image).__name__)
        raise TypeError(f"image: expected an array of uint8, uint16 or float32, got {kind}")
    if not np.isfinite(array).all():
        raise ValueError("image holds NaN or infinite values")
    if array.ndim == 4:
        if array.dtype != np.float32 or array.shape[1] != 3 or 0 in array.shape:
            raise ValueError(
                f"a batch must be float32 of shape (N, 3, H, W), got {array.dtype} {array.shape}"
            )
        # A copy, since a function may work in place.
        return _restore_batch(model, array.copy(), tile, overlap, progress)
    return _to_image(_restore_batch(model, _to_rgb(array), tile, overlap, progress)[0], array)


def restore_files(
    model: Restorer,
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    tile: int | None = None,
    overlap: int = 32,
    force: bool = False,
    batch_size: int = 1,
    progress: bool = True,
) -> list[Path]:
    """Restore image files into a folder, under their own names.

    EXIF orientation is applied; bit depth, alpha, colour profile and the other EXIF data are kept, but
    for the tags of TIFF files. Of several pages the first is restored, with a warning.
    Every file appears whole or not at all.

    Parameters
    ----------
    model
        The network, or any function of images (N, 3, H, W).
    paths
        PNG, JPEG, BMP, TIFF or WebP files, or one; a folder stands for the images in it.
    out
        The folder, made when it is not there.
    tile, overlap
        See `restore`.
    force
        Whether files that are there may be replaced.
    batch_size
        Largest number of consecutive images of one size to restore at once.
    progress
        Whether to show a progress bar, and one of the tiles of a large image.

    Returns
    -------
    list of Path
        The files written, in order.

    Raises
    ------
    FileExistsError, FileNotFoundError, ValueError
        A result is already there, an input is not, a folder holds no image, or two inputs have one
        name. Nothing was done.
    TypeError
        Neither a network nor a function, no names of files, or a setting of another type.
    OSError
        An input that is neither a file nor a folder: nothing was done. A disk that is full or that
        cannot be written to, at the first image that it does not take.
    mirl.errors.FormatError
        Files that cannot be read, or written under their name, all named: JPEG holds no alpha, say.
        The others were restored.
    """
    check_callable(model)
    _check_tiling(tile, overlap)
    whole("batch_size", batch_size, 1)
    check_switches(force=force, progress=progress)
    sources = files_of(paths, "paths")
    folder = Path(out)
    _check_names(sources, folder, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    unreadable: list[str] = []
    unwritten: list[str] = []
    with bar(progress, total=len(sources), desc="restore", unit="image") as done:
        for batch in _batches(_readable(sources, unreadable), batch_size):
            rgb = np.concatenate([_to_rgb(image.pixels) for _, image in batch])
            restored = _restore_batch(model, rgb, tile, overlap, progress)
            for (source, (pixels, icc, exif)), colours in zip(batch, restored, strict=True):
                target = folder / source.name
                try:
                    write_image(target, _to_image(colours, pixels), force=force, icc=icc, exif=exif)
                except (OSError, FormatError) as error:
                    if isinstance(error, OSError) and error.errno in NO_ROOM:
                        raise
                    unwritten.append(str(error))
                else:
                    written.append(target)
            done.update(len(batch))
        done.update(len(unreadable))
    check_readable(unreadable + unwritten, len(sources), "restored")
    return written


def _check_names(sources: Sequence[Path], folder: Path, *, force: bool) -> None:
    missing = [str(source) for source in sources if not source.is_file()]
    if missing:
        raise FileNotFoundError(f"no such image file: {', '.join(missing)}")
    twice = [name for name, times in Counter(path.name for path in sources).items() if times > 1]
    if twice:
        raise ValueError(
            f"several images of one name would overwrite each other: {', '.join(twice)}"
        )
    if not force:
        check_absent(folder / path.name for path in sources)


def _readable(sources: Iterable[Path], unreadable: list[str]) -> Iterator[tuple[Path, Image]]:
    """Read the images one by one; what is wrong with the others goes to `unreadable`."""
    for source in sources:
        try:
            image = read_image(source)
        except (OSError, FormatError) as error:  # noqa: PERF203 (decoding takes far longer)
            unreadable.append(str(error))
        else:
            yield source, image


def _batches(images: Iterable[tuple[Path, Image]], size: int) -> Iterator[list[tuple[Path, Image]]]:
    """Group consecutive images of the same height and width, at most `size` together."""
    batch: list[tuple[Path, Image]] = []
    for source, image in images:
        if batch and (len(batch) == size or batch[0][1].pixels.shape[:2] != image.pixels.shape[:2]):
            yield batch
            batch = []
        batch.append((source, image))
    if batch:
        yield batch


def _to_rgb(image: NDArray[Any]) -> Images:
    """Return the colours of one image as network input, (1, 3, H, W) in [0, 1]."""
    pixels = image[:, :, np.newaxis] if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or 0 in pixels.shape:
        raise ValueError(f"image: expected shape (H, W) or (H, W, 1 to 4), got {image.shape}")
    colours = pixels[:, :, :3] if pixels.shape[2] > 2 else pixels[:, :, :1].repeat(3, axis=2)
    scaled = colours.astype(np.float32) / np.float32(_white(image))
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis])


def _to_image(restored: Images, like: NDArray[Any]) -> NDArray[Any]:
    """Restored (3, H, W) in the shape and type of the image it came from, with its alpha."""
    result = like.copy()
    pixels = result[:, :, np.newaxis] if result.ndim == 2 else result  # shares its memory
    colours = restored.transpose(1, 2, 0)
    if pixels.shape[2] < 3:
        colours = colours.mean(axis=2, keepdims=True)
    scaled = colours * np.float32(_white(like))
    pixels[:, :, : colours.shape[2]] = scaled if like.dtype == np.float32 else np.rint(scaled)
    return result


def _white(image: NDArray[Any]) -> int:
    return 1 if image.dtype == np.float32 else int(np.iinfo(image.dtype).max)


def _restore_batch(
    model: Restorer, images: Images, tile: int | None, overlap: int, progress: bool
) -> Images:
    """Restored images (N, 3, H, W), clipped to [0, 1]."""
    height, width = images.shape[2:]
    largest, multiple = _limits(model)

    def padded(height: int, width: int) -> int:
        """Pixels, as the network sees them."""
        return -(-height // multiple) * -(-width // multiple) * multiple**2

    if tile is None and padded(height, width) > largest:
        tile = max(int(largest**0.5) // multiple, 1) * multiple
        overlap = min(overlap, tile // 2)
    rows = _spans(height, tile, overlap)
    columns = _spans(width, tile, overlap)
    # Images that do not fit together go one after the other; the result is the same.
    area = padded(rows[0].stop - rows[0].start, columns[0].stop - columns[0].start)
    starts = range(0, len(images), max(largest // area, 1))
    with _counted(len(starts) * len(rows) * len(columns), progress) as done:
        parts = [
            _blend(model, images[start : start + starts.step], rows, columns, done)
            for start in starts
        ]
    restored = np.concatenate(parts, dtype=np.float32)
    check_restored(restored)
    return np.clip(restored, 0, 1, out=restored)


@contextmanager
def _counted(tiles: int, progress: bool) -> Iterator[Callable[[], Any]]:
    """What to call after each tile. A bar only where it shows: tqdm holds a thread even otherwise."""
    if not progress or tiles == 1:
        yield lambda: None
        return
    with bar(progress, total=tiles, desc="tiles", unit="tile", leave=False) as done:
        yield done.update


def check_callable(model: Any) -> None:
    """Raise a TypeError for what is neither a network nor a function."""
    if not callable(model):
        kind = type(model).__name__
        raise TypeError(f"model must be a network or a function of images, got {kind}")


def restored_by(model: Restorer, images: Images) -> Images:
    """What a model makes of images (N, 3, H, W); what numpy would broadcast is refused."""
    restored = as_array(model(images), "what the model returned")
    shape = getattr(restored, "shape", type(restored).__name__)
    if shape != images.shape:
        raise ValueError(f"the model returned {shape} for images of shape {images.shape}")
    return np.asarray(restored)


def check_restored(images: NDArray[Any], name: str = "") -> None:
    """Raise a DivergenceError for what a network gives where its weights have diverged."""
    if not np.isfinite(images).all():
        what = f"{name}: the network" if name else "the network"
        raise DivergenceError(f"{what} restores to NaN or infinity: its weights have diverged")


def _blend(
    model: Restorer,
    images: Images,
    rows: list[slice],
    columns: list[slice],
    done: Callable[[], Any],
) -> Images:
    """Tiles, each weighted by how far it reaches into its neighbours."""
    if len(rows) == len(columns) == 1:
        restored = restored_by(model, images)
        done()
        return restored
    # Doubles, since many tiles may meet at a pixel where the overlap is large.
    total = np.zeros(images.shape)
    weighted = (zip(spans, _ramps(spans), strict=True) for spans in (rows, columns))
    for (row, down), (column, across) in product(*weighted):
        restored = restored_by(model, np.ascontiguousarray(images[:, :, row, column]))
        total[:, :, row, column] += restored * (down[:, np.newaxis] * across)
        done()
    return total.astype(np.float32)


def _spans(length: int, tile: int | None, overlap: int) -> list[slice]:
    """Tiles of one size that cover `length`, as evenly as whole pixels allow."""
    if tile is None or length <= tile:
        return [slice(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = np.linspace(0, length - tile, count).round().astype(int)
    return [slice(start, start + tile) for start in starts.tolist()]


def _ramps(spans: list[slice]) -> list[NDArray[np.float64]]:
    """Weights of the tiles along one axis; over all tiles they sum to one at every pixel."""
    weights = [np.ones(span.stop - span.start) for span in spans]
    for (left, right), (first, second) in zip(pairwise(spans), pairwise(weights), strict=True):
        shared = left.stop - right.start
        if shared > 0:
            rising = np.arange(1, shared + 1) / (shared + 1)
            first[-shared:] *= 1 - rising
            second[:shared] *= rising
    total = np.zeros(spans[-1].stop)
    for span, weight in zip(spans, weights, strict=True):
        total[span] += weight
    return [weight / total[span] for span, weight in zip(spans, weights, strict=True)]


def _limits(model: Any) -> tuple[int, int]:
    """Pixels that may be restored at once, and what tiles without padding are multiples of.

    What a function takes is not known.
    """
    if not isinstance(model, Network):
        return sys.maxsize, 1
    channels = model._network.channels
    on_gpu = model.device == "cuda"
    available = _mirl.gpu_memory() if on_gpu else memory() or MEMORY_UNKNOWN
    fits = int(available * MEMORY_SHARE) // (BYTES_PER_PIXEL * channels)
    largest = min(fits, GPU_MAX_ELEMENTS // channels) if on_gpu else fits
    return largest, model.multiple


def _check_tiling(tile: int | None, overlap: int) -> None:
    whole("overlap", overlap)
    check_least(1, tile=tile)
    if tile is not None and tile <= overlap:
        raise ValueError(f"tile must be larger than the overlap of {overlap}, got {tile}")
