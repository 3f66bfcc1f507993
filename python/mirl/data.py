"""Training patches and test sets, from folders in the published layout or from arrays.

The layout is ``<root>/<split>/<task>/<set>/``, where denoising sets hold clean images and the
others pairs: ``target/NAME_gt.*`` and ``input/NAME_rainy.*`` or ``input/NAME_hazy.*``.
"""
# ruff: noqa: PT028 -- test_sets is no test

from __future__ import annotations

import os
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mirl import _mirl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

TASKS = ("denoise", "derain", "dehaze")
SIGMAS = (15, 25, 50)
"""Standard deviations of the noise, in 8-bit units."""
PAPER_CODE_REPEATS: Mapping[str, int] = {"denoise": 3, "derain": 120, "dehaze": 1}
"""How often the published code lists an image of a task in an epoch (denoising: for each sigma)."""

_SUFFIX = {"derain": "_rainy", "dehaze": "_hazy"}
_SYNTHETIC = {"derain": "rain", "dehaze": "haze"}
_EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
_CROP = 16
"""Test images are cropped to a multiple of this, as published."""


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
    _check_least(0, seed=seed)
    degraded: NDArray[np.uint8] = _mirl.degrade(image, _degradation(task), seed, name)
    return degraded


class Loader:
    """Batches of degraded and clean patches, made in Rust while the last ones are used.

    What is drawn for a patch (place, flip and rotation, noise) follows from the seed, the number of
    the epoch and the patch's place in it; threads and prefetching do not change a bit. Make one
    with `from_folder` or `from_images`; iterating goes through one epoch after the other.
    """

    _loader: _mirl.Loader
    _description: dict[str, Any]
    _next_epoch: int

    @classmethod
    def from_folder(
        cls,
        root: str | os.PathLike[str],
        *,
        split: str = "train",
        tasks: Sequence[str] = TASKS,
        sigmas: Sequence[float] = SIGMAS,
        synthesize: Sequence[str] = (),
        repeats: Mapping[str, int] | None = None,
        batch_size: int = 8,
        patch_size: int = 128,
        augment: str = "all",
        seed: int = 0,
        on_error: str = "raise",
        prefetch: int = 2,
        cache_mb: int = 1024,
    ) -> Loader:
        """Patches of a folder in the published layout.

        Parameters
        ----------
        root, split
            Images are taken from ``<root>/<split>/<task>/*``.
        tasks
            Any of ``"denoise"``, ``"derain"`` and ``"dehaze"``.
        sigmas
            Standard deviations of the noise, in 8-bit units; each is a task of its own.
        synthesize
            Which of ``"derain"`` and ``"dehaze"`` are made from the denoising images instead of
            pairs.
        repeats
            How often an epoch shows each image of a task; once by default. `PAPER_CODE_REPEATS`
            holds the published numbers.
        batch_size, patch_size
            Patches of a batch, and their height and width.
        augment
            ``"all"``: one of the eight flips and rotations; ``"paper-code"``: never the identity;
            ``"none"``.
        seed
            Of the order and of all that is drawn.
        on_error
            ``"raise"`` names an image that is unreadable or smaller than a patch; ``"skip"`` leaves
            it out with a warning. One that turns out to be damaged only when its pixels are read is
            replaced by the next sample of the epoch, so that batches stay as many and as large.
        prefetch
            Batches made ahead.
        cache_mb
            Megabytes of decoded images that are kept.

        Raises
        ------
        FileNotFoundError
            A folder that is not there.
        ValueError
            An empty folder, an image without a partner, a setting out of range.
        mirl.errors.FormatError, OSError
            An image that cannot be read, with ``on_error="raise"``.
        """
        _check_tasks(tasks, synthesize)
        photos: list[_Image] = []
        if any(task == "denoise" or task in synthesize for task in tasks):
            for folder in _sets(root, split, "denoise"):
                photos += [(path.name, path) for path in _images(folder)]
        pairs = {
            task: [
                (clean.name, clean, degraded)
                for folder in _sets(root, split, task)
                for clean, degraded in _pairs(folder, task)
            ]
            for task in tasks
            if task != "denoise" and task not in synthesize
        }
        return cls._make(
            photos,
            pairs,
            tasks,
            sigmas,
            repeats,
            batch_size,
            patch_size,
            augment,
            seed,
            on_error,
            prefetch,
            cache_mb,
        )

    @classmethod
    def from_images(
        cls,
        images: Sequence[NDArray[np.uint8]],
        *,
        tasks: Sequence[str] = TASKS,
        sigmas: Sequence[float] = SIGMAS,
        repeats: Mapping[str, int] | None = None,
        batch_size: int = 8,
        patch_size: int = 128,
        augment: str = "all",
        seed: int = 0,
        on_error: str = "raise",
        prefetch: int = 2,
    ) -> Loader:
        """Patches of clean images in memory; every degradation is synthetic.

        Parameters
        ----------
        images
            uint8 arrays (H, W, 3).
        tasks, sigmas, repeats, batch_size, patch_size, augment, seed, on_error, prefetch
            See `from_folder`.
        """
        _check_tasks(tasks, ())
        photos: list[_Image] = [
            (f"{zlib.crc32(np.asarray(image).tobytes()):08x}", image) for image in images
        ]
        return cls._make(
            photos,
            {},
            tasks,
            sigmas,
            repeats,
            batch_size,
            patch_size,
            augment,
            seed,
            on_error,
            prefetch,
            0,
        )

    @classmethod
    def _make(
        cls,
        photos: list[_Image],
        pairs: Mapping[str, list[tuple[str, Path, Path]]],
        tasks: Sequence[str],
        sigmas: Sequence[float],
        repeats: Mapping[str, int] | None,
        batch_size: int,
        patch_size: int,
        augment: str,
        seed: int,
        on_error: str,
        prefetch: int,
        cache_mb: int,
    ) -> Loader:
        repeats = dict(repeats or {})
        unknown = sorted(repeats.keys() - set(TASKS))
        if unknown:
            raise ValueError(f"repeats names unknown tasks: {', '.join(unknown)}")
        _check_least(1, batch_size=batch_size, patch_size=patch_size, prefetch=prefetch)
        _check_least(0, seed=seed, cache_mb=cache_mb)
        sources: list[Any] = [source for _, source in photos]
        samples: list[tuple[int, int | None, str | None]] = []
        counts: dict[str, int] = {}
        for task in tasks:
            found: list[tuple[int, int | None, str | None]]
            if task in pairs:
                first = len(sources)
                for _, clean, degraded in pairs[task]:
                    sources += [clean, degraded]
                found = [(i, i + 1, None) for i in range(first, len(sources), 2)]
            else:
                kinds = [f"{task}_{sigma}" for sigma in sigmas] if task == "denoise" else [task]
                kinds = [_degradation(kind) for kind in kinds]
                found = [(i, None, kind) for kind in kinds for i in range(len(photos))]
            repeat = repeats.get(task, 1)
            if repeat < 1:
                raise ValueError(f"repeats of {task} must be at least 1, got {repeat}")
            counts[task] = repeat * len(found)
            samples += repeat * found
        loader = cls.__new__(cls)
        loader._loader = _mirl.Loader(
            [os.fspath(source) if isinstance(source, Path) else source for source in sources],
            samples,
            batch_size,
            patch_size,
            augment,
            seed,
            on_error,
            prefetch,
            cache_mb << 20,
        )
        loader._warn()
        names = [name for name, _ in photos]
        names += [path.name for listed in pairs.values() for _, *both in listed for path in both]
        loader._description = {
            "tasks": counts,
            "sigmas": [float(sigma) for sigma in sigmas],
            "images": len(sources),
            "fingerprint": f"{zlib.crc32('/'.join(names).encode()):08x}",
            "batch_size": batch_size,
            "patch_size": patch_size,
            "augment": augment,
            "seed": seed,
            "on_error": on_error,
        }
        loader._next_epoch = 0
        return loader

    def __len__(self) -> int:
        """Batches of an epoch; the last one is left out where it is not full."""
        return self._loader.batches

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Go through the next epoch."""
        epoch = self._next_epoch
        self._next_epoch += 1
        return self.epoch(epoch)

    def epoch(
        self, epoch: int, start: int = 0
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Go through one epoch from its batch `start` on.

        Yields
        ------
        degraded, clean : numpy.ndarray
            float32, shape (N, 3, patch_size, patch_size), RGB in [0, 1].

        Raises
        ------
        ValueError
            No such batch; images of a pair that differ in size.
        mirl.errors.FormatError, OSError
            An image that cannot be read, with ``on_error="raise"``.
        """
        _check_least(0, epoch=epoch, start=start)
        for batch in self._loader.epoch(epoch, start):
            self._warn()
            yield batch

    def describe(self) -> dict[str, Any]:
        """Tell what determines the patches, for the record of a run."""
        return dict(self._description)

    def _warn(self) -> None:
        for message in self._loader.take_skipped():
            warnings.warn(f"skipped {message}", stacklevel=3)


class Pair(NamedTuple):
    """A degraded image and the clean one, float32 (3, H, W) in [0, 1]."""

    name: str
    degraded: NDArray[np.float32]
    clean: NDArray[np.float32]


@dataclass(frozen=True)
class TestSet:
    """Pairs to measure a network on, read one by one.

    Images are cropped around their centre to a multiple of 16, as published.
    """

    __test__ = False  # no class of tests, whatever pytest makes of its name

    name: str
    task: str
    """``"denoise_25"``, ``"derain"``, …"""
    seed: int
    """Of synthetic degradations; what is drawn also follows from task and image name."""
    _pairs: list[tuple[str, Any, Path | None]] = field(repr=False)

    @classmethod
    def from_images(
        cls, images: Sequence[NDArray[np.uint8]], task: str, *, name: str = "images", seed: int = 0
    ) -> TestSet:
        """Make a set of clean images in memory, uint8 (H, W, 3), to be degraded synthetically."""
        _degradation(task)
        return cls(name, task, seed, [(f"{i:03}", image, None) for i, image in enumerate(images)])

    def __len__(self) -> int:
        """Count the images."""
        return len(self._pairs)

    def __iter__(self) -> Iterator[Pair]:
        """Read the pairs one by one."""
        for name, clean, degraded in self._pairs:
            target = _crop(_read(clean), name)
            if degraded is None:
                source = degrade(target, self.task, seed=self.seed, name=f"{self.task}/{name}")
            else:
                source = _crop(_read(degraded), name)
                if source.shape != target.shape:
                    raise ValueError(
                        f"{degraded} and {clean} differ in size: {source.shape} and {target.shape}"
                    )
            yield Pair(name, _planar(source), _planar(target))


def test_sets(
    root: str | os.PathLike[str],
    *,
    split: str = "test",
    tasks: Sequence[str] | None = None,
    sigmas: Sequence[float] = SIGMAS,
    seed: int = 0,
) -> list[TestSet]:
    """All test sets of a folder in the published layout.

    Parameters
    ----------
    root, split
        Sets are taken from ``<root>/<split>/<task>/*``.
    tasks
        Any of ``"denoise"``, ``"derain"`` and ``"dehaze"``; by default those that have a folder.
    sigmas
        Standard deviations of the noise, in 8-bit units.
    seed
        Of the noise.

    Raises
    ------
    FileNotFoundError
        A folder that is not there.
    ValueError
        An empty folder, or an image without a partner.
    """
    place = Path(root, split)
    if tasks is None:
        tasks = [task for task in TASKS if (place / task).is_dir()]
        if not tasks:
            _folder(place)
            raise ValueError(f"{place}: expected folders named {', '.join(TASKS)}")
    _check_tasks(tasks, ())
    sets = []
    for task in tasks:
        for folder in _sets(root, split, task):
            if task == "denoise":
                clean = [(path.stem, path, None) for path in _images(folder)]
                sets += [TestSet(folder.name, f"denoise_{s}", seed, list(clean)) for s in sigmas]
            else:
                pairs = [(good.stem, good, bad) for good, bad in _pairs(folder, task)]
                sets.append(TestSet(folder.name, task, seed, list(pairs)))
    return sets


test_sets.__test__ = False  # type: ignore[attr-defined]

_Image = tuple[str, Any]


def _check_tasks(tasks: Sequence[str], synthesize: Sequence[str]) -> None:
    if isinstance(tasks, str) or not tasks:
        raise ValueError(f"tasks must be some of {TASKS}, got {tasks!r}")
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"tasks must be some of {TASKS}, got {task!r}")
    for task in synthesize:
        if task not in _SYNTHETIC:
            raise ValueError(f"synthesize must be some of {tuple(_SYNTHETIC)}, got {task!r}")


def _check_least(least: int, **settings: int) -> None:
    for name, value in settings.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def _degradation(task: str) -> str:
    """Give the core's name for a task's degradation."""
    if task in _SYNTHETIC:
        return _SYNTHETIC[task]
    kind, _, sigma = task.partition("_")
    if kind != "denoise" or not sigma:
        raise ValueError(f"task must be 'denoise_SIGMA', 'derain' or 'dehaze', got {task!r}")
    return f"noise:{sigma}"


def _folder(place: Path) -> Path:
    if not place.is_dir():
        raise FileNotFoundError(f"{place}: no such folder")
    return place


def _sets(root: str | os.PathLike[str], split: str, task: str) -> list[Path]:
    place = _folder(Path(root, split, task))
    sets = sorted(path for path in place.iterdir() if path.is_dir())
    if not sets:
        raise ValueError(f"{place}: expected a folder for each data set, found none")
    return sets


def _images(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _EXTENSIONS)
    if not found:
        raise ValueError(f"{folder}: no image")
    return found


def _pairs(folder: Path, task: str) -> list[tuple[Path, Path]]:
    suffix = _SUFFIX[task]
    clean = _by_name(_folder(folder / "target"), "_gt")
    degraded = _by_name(_folder(folder / "input"), suffix)
    for have, other, place, ending in (
        (clean, degraded, "input", suffix),
        (degraded, clean, "target", "_gt"),
    ):
        for name, path in have.items():
            if name not in other:
                raise ValueError(f"{path}: no partner {folder / place / (name + ending)}.*")
    return [(path, degraded[name]) for name, path in clean.items()]


def _by_name(folder: Path, suffix: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _images(folder):
        if not path.stem.endswith(suffix):
            raise ValueError(f"{path}: expected a name that ends with {suffix}")
        name = path.stem.removesuffix(suffix)
        if name in found:
            raise ValueError(f"{path} and {found[name]} have the same name")
        found[name] = path
    return found


def _read(source: Any) -> NDArray[np.uint8]:
    if isinstance(source, Path):
        source = _mirl.read_rgb8(os.fspath(source))
    image: NDArray[np.uint8] = source
    return image


def _crop(image: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    height, width = (length - length % _CROP for length in image.shape[:2])
    if not height or not width:
        raise ValueError(f"{name}: expected {_CROP}x{_CROP} pixels or more, got {image.shape[:2]}")
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _planar(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    planes = image.transpose(2, 0, 1).astype(np.float32)
    return planes / np.float32(255)
