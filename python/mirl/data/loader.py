"""Training patches."""

from __future__ import annotations

import os
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl import _mirl
from mirl.checks import check_least
from mirl.data.degrade import (
    SIGMAS,
    TASKS,
    check_photo,
    check_tasks,
    degradation,
    degraded_tasks,
    has_pairs,
)
from mirl.data.folder import images_of, pairs_of, sets_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

PAPER_CODE_REPEATS: Mapping[str, int] = {"denoise": 3, "derain": 120, "dehaze": 1}
"""How often the published code lists an image of a task in an epoch (denoising: for each sigma)."""

_Image = tuple[str, Any]
_Sample = tuple[int, int | None, str | None]


class Loader:
    """Batches of degraded and clean patches, made in Rust while the last ones are used.

    What is drawn for a patch (place, flip and rotation, noise) follows from the seed, the number of
    the epoch and the patch's place in it; threads and prefetching do not change a bit. Make one
    with `from_folder` or `from_images`. Iterating goes through one epoch after the other; what only
    looks at data, `mirl.evaluate` and `mirl.prune`, takes epoch 0 and moves nothing on.
    """

    _loader: _mirl.Loader
    _description: dict[str, Any]
    _tasks: list[str]
    _batch_size: int
    _next_epoch: int
    _orders: dict[int, list[int]]

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError("a Loader is made by Loader.from_folder or Loader.from_images")

    @classmethod
    def from_folder(
        cls,
        root: str | os.PathLike[str],
        *,
        split: str = "train",
        tasks: Sequence[str] = TASKS,
        sigmas: Sequence[float | str] = SIGMAS,
        synthesize: Sequence[str] = (),
        repeats: Mapping[str, int] | None = None,
        mix: Mapping[str, float] | None = None,
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
            Any of ``"denoise"``, ``"derain"`` and ``"dehaze"``; any degradation of the denoising
            images, as `mirl.degrade` has them: ``"blur:1-3 + jpeg:50"`` or ``"denoise_25"``; and any
            other folder with pairs of one name, ``<set>/target/NAME.*`` and ``<set>/input/NAME.*``.
        sigmas
            Standard deviations of the noise, in 8-bit units; each is a task of its own. ``"1-50"`` is
            drawn anew for each patch.
        synthesize
            Which of ``"derain"`` and ``"dehaze"`` are made from the denoising images instead of
            pairs.
        repeats
            How often an epoch shows each image of a task; once by default. `PAPER_CODE_REPEATS`
            holds the published numbers.
        mix
            The shares of the tasks in an epoch, as numbers of any size: ``{"denoise": 3, "derain":
            1, "dehaze": 1}``. The epoch stays as long as it is by `repeats`; what a task has too
            many is left out, and what is missing repeats, always the same ones, drawn by the seed.
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
            Megabytes of decoded images that are kept, the first that are read: none makes room for
            another. 0 decodes every time.

        Raises
        ------
        FileNotFoundError
            A folder that is not there.
        ValueError
            An empty folder, an image without a partner, a setting out of range.
        mirl.errors.FormatError, OSError
            An image that cannot be read, with ``on_error="raise"``.
        """
        check_tasks(tasks, synthesize)
        photos: list[_Image] = []
        if not all(has_pairs(task, synthesize) for task in tasks):
            for folder in sets_of(root, split, "denoise"):
                photos += [(path.name, path) for path in images_of(folder)]
        pairs = {
            task: [
                (clean.name, clean, degraded)
                for folder in _pair_sets(root, split, task)
                for clean, degraded in pairs_of(folder, task)
            ]
            for task in tasks
            if has_pairs(task, synthesize)
        }
        return cls._make(
            photos,
            pairs,
            tasks,
            sigmas,
            repeats,
            mix,
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
        sigmas: Sequence[float | str] = SIGMAS,
        repeats: Mapping[str, int] | None = None,
        mix: Mapping[str, float] | None = None,
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
        tasks, sigmas, repeats, mix, batch_size, patch_size, augment, seed, on_error, prefetch
            See `from_folder`.
        """
        check_tasks(tasks, ())
        for index, image in enumerate(images):
            check_photo(image, f"image {index}")
        photos: list[_Image] = [
            (f"{zlib.crc32(np.asarray(image).tobytes()):08x}", image) for image in images
        ]
        return cls._make(
            photos,
            {},
            tasks,
            sigmas,
            repeats,
            mix,
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
        sigmas: Sequence[float | str],
        repeats: Mapping[str, int] | None,
        mix: Mapping[str, float] | None,
        batch_size: int,
        patch_size: int,
        augment: str,
        seed: int,
        on_error: str,
        prefetch: int,
        cache_mb: int,
    ) -> Loader:
        repeats = dict(repeats or {})
        unknown = sorted(repeats.keys() - {*TASKS, *tasks})
        if unknown:
            raise ValueError(f"repeats names unknown tasks: {', '.join(unknown)}")
        check_least(1, batch_size=batch_size, patch_size=patch_size, prefetch=prefetch)
        check_least(0, seed=seed, cache_mb=cache_mb)
        sources: list[Any] = [source for _, source in photos]
        by_task: dict[str, list[_Sample]] = {}
        for task in tasks:
            found: list[_Sample]
            if task in pairs:
                first = len(sources)
                for _, clean, degraded in pairs[task]:
                    sources += [clean, degraded]
                found = [(i, i + 1, None) for i in range(first, len(sources), 2)]
            else:
                kinds = [degradation(kind) for kind in degraded_tasks(task, sigmas)]
                found = [(i, None, kind) for kind in kinds for i in range(len(photos))]
            repeat = repeats.get(task, 1)
            if repeat < 1:
                raise ValueError(f"repeats of {task} must be at least 1, got {repeat}")
            by_task[task] = repeat * found
        if mix is not None:
            by_task = _mixed(by_task, mix, seed)
        samples = [sample for found in by_task.values() for sample in found]
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
            "tasks": {task: len(found) for task, found in by_task.items()},
            "sigmas": [sigma if isinstance(sigma, str) else float(sigma) for sigma in sigmas],
            "images": len(sources),
            "fingerprint": f"{zlib.crc32('/'.join(names).encode()):08x}",
            "batch_size": batch_size,
            "patch_size": patch_size,
            "augment": augment,
            "seed": seed,
            "on_error": on_error,
        }
        if mix is not None:
            loader._description["mix"] = dict(mix)
        loader._tasks = [task for task, found in by_task.items() for _ in found]
        loader._batch_size = batch_size
        loader._next_epoch = 0
        loader._orders = {}
        return loader

    def __len__(self) -> int:
        """Batches of an epoch; one that is not full is left out, unless it is the only one."""
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
        check_least(0, epoch=epoch, start=start)
        for batch in self._loader.epoch(epoch, start):
            self._warn()
            yield batch

    def tasks(self, epoch: int, batch: int) -> list[str]:
        """The task of each patch of a batch.

        Parameters
        ----------
        epoch, batch
            Numbers from 0. Where images turn out to be damaged and are skipped, another task's may
            stand in.

        Raises
        ------
        ValueError
            No such batch.
        """
        check_least(0, epoch=epoch, batch=batch)
        if batch >= len(self):
            raise ValueError(f"batch must be less than {len(self)}, got {batch}")
        if epoch not in self._orders:
            self._orders = {epoch: self._loader.order(epoch)}
        first = batch * self._batch_size
        samples = self._orders[epoch][first : first + self._batch_size]
        return [self._tasks[sample] for sample in samples]

    def describe(self) -> dict[str, Any]:
        """Tell what determines the patches, for the record of a run."""
        return dict(self._description)

    def __repr__(self) -> str:
        size = self._description["patch_size"]
        tasks = ", ".join(f"{name}: {count}" for name, count in self._description["tasks"].items())
        return f"Loader({len(self)} batches of {self._batch_size} patches {size}x{size}; {tasks})"

    def _warn(self) -> None:
        for message in self._loader.take_skipped():
            warnings.warn(f"skipped {message}", stacklevel=3)


def _pair_sets(root: str | os.PathLike[str], split: str, task: str) -> list[Path]:
    """The folders of a task's pairs; where there is none, the error says what would do without."""
    try:
        return sets_of(root, split, task)
    except FileNotFoundError as error:
        hint = f"tasks= can leave {task!r} out"
        if task in TASKS:
            hint += f", and synthesize=({task!r},) makes it of the photos to denoise"
        raise FileNotFoundError(f"{error}; {hint}") from None


def _mixed(
    by_task: Mapping[str, list[_Sample]], mix: Mapping[str, float], seed: int
) -> dict[str, list[_Sample]]:
    """As many samples as before, of each task its share."""
    if mix.keys() != by_task.keys():
        raise ValueError(f"mix must give a share to each of {tuple(by_task)}, got {tuple(mix)}")
    if not all(share > 0 and np.isfinite(share) for share in mix.values()):
        raise ValueError(f"shares of mix must be positive, got {dict(mix)}")
    total = sum(map(len, by_task.values()))
    mixed = {}
    for task, found in by_task.items():
        wanted = max(1, round(total * mix[task] / sum(mix.values())))
        order = np.random.default_rng([seed, zlib.crc32(task.encode())]).permutation(len(found))
        mixed[task] = [found[order[index % len(found)]] for index in range(wanted)]
    return mixed
