"""Training patches."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from mirl import _mirl
from mirl.checks import check_choice, is_number, whole
from mirl.choices import Augment, OnError
from mirl.data.degrade import (
    SIGMAS,
    TASKS,
    check_photo,
    check_tasks,
    degradation,
    degraded_tasks,
)
from mirl.data.folder import images_of, pairs_of, place_of, sets_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

PAPER_CODE_REPEATS: Mapping[str, int] = {"denoise": 3, "derain": 120, "dehaze": 1}
"""How often the published code lists an image of a task in an epoch (denoising: for each sigma)."""

WHOLE = {"batch_size": 1, "patch_size": 1, "prefetch": 1, "seed": 0, "cache_mb": 0}
"""Whole numbers, and what they are at least."""

_Sample = tuple[int, int | None, str | None]


@dataclass(frozen=True)
class _Settings:
    """All that makes patches of images; see `Loader.from_folder`."""

    tasks: Sequence[str]
    sigmas: Sequence[float | str]
    repeats: Mapping[str, int] | None
    mix: Mapping[str, float] | None
    batch_size: int
    patch_size: int
    augment: Augment
    seed: int
    on_error: OnError
    prefetch: int
    synthesize: Sequence[str] = ()
    cache_mb: int = 0

    def __post_init__(self) -> None:
        """Raise where one is out of range."""
        check_tasks(self.tasks, self.sigmas, self.synthesize)
        for name, shares in {"repeats": self.repeats, "mix": self.mix}.items():
            if not (shares is None or isinstance(shares, Mapping)):
                raise TypeError(f"{name} must be numbers by task, got {shares!r}")
        repeats, mix = self.repeats or {}, self.mix
        for name, named in {"repeats": repeats, "synthesize": self.synthesize}.items():
            others = [task for task in named if task not in self.tasks]
            # The published numbers are of all tasks, whichever there are.
            if others and named != PAPER_CODE_REPEATS:
                raise ValueError(
                    f"{name} must be of the tasks {(*self.tasks,)}, got {', '.join(others)}"
                )
        for task, repeat in repeats.items():
            whole(f"repeats of {task}", repeat, 1)
        if mix is not None:
            if mix.keys() != set(self.tasks):
                raise ValueError(
                    f"mix must give a share to each of {(*self.tasks,)}, got {(*mix,)}"
                )
            if not all(is_number(each) and each > 0 and np.isfinite(each) for each in mix.values()):
                raise ValueError(f"shares of mix must be positive, got {dict(mix)}")
        for name, least in WHOLE.items():
            whole(name, getattr(self, name), least)
        check_choice("augment", self.augment, get_args(Augment))
        check_choice("on_error", self.on_error, get_args(OnError))


class Loader:
    """Batches of degraded and clean patches, made in Rust while the last ones are used.

    What is drawn for a patch (place, flip and rotation, noise) follows from the seed, the number of
    the epoch and the patch's place in it; threads and prefetching do not change a bit. Make one
    with `from_folder` or `from_images`. Iterating goes through one epoch after the other; what only
    looks at data, `mirl.evaluate` and `mirl.prune`, takes epoch 0 and moves nothing on. Copies and
    pickles give the same batches; of a folder they read the files anew.
    """

    _loader: _mirl.Loader
    _settings: _Settings
    _sources: list[Path | NDArray[np.uint8]]
    _samples: list[_Sample]
    _tasks: list[str]
    """Of each sample."""
    _description: dict[str, Any]
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
        augment: Augment = "all",
        seed: int = 0,
        on_error: OnError = "raise",
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
            1, "dehaze": 1}``. The epoch keeps the length that `repeats` gives it. Surplus samples of a
            task are left out and missing ones repeated; the seed decides which, the same in every
            epoch.
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
            Size of the cache of decoded images, in MB. The first images read are kept; none is
            evicted. 0 decodes every time.

        Returns
        -------
        Loader
            Its first iteration is epoch 0.

        Raises
        ------
        FileNotFoundError
            A folder that is not there.
        ValueError
            An empty folder, an image without a partner, a folder named like a degradation among
            `tasks`, a setting out of range.
        TypeError
            A number that is not whole, or a task that is not a string.
        mirl.errors.FormatError, OSError
            An image that cannot be read, with ``on_error="raise"``.
        """
        settings = _Settings(
            tasks=tasks,
            sigmas=sigmas,
            repeats=repeats,
            mix=mix,
            batch_size=batch_size,
            patch_size=patch_size,
            augment=augment,
            seed=seed,
            on_error=on_error,
            prefetch=prefetch,
            synthesize=synthesize,
            cache_mb=cache_mb,
        )
        photos: list[Path] = []
        pairs: dict[str, list[tuple[Path, Path]]] = {}
        for task in tasks:
            place, paired = place_of(root, split, task, synthesize)
            if paired:
                sets = _pair_sets(place, task)
                pairs[task] = [pair for folder in sets for pair in pairs_of(folder, task)]
            elif not photos:
                photos = [path for folder in sets_of(place) for path in images_of(folder)]
        return cls._make(photos, pairs, settings)

    @classmethod
    def from_images(
        cls,
        images: Iterable[NDArray[np.uint8]],
        *,
        tasks: Sequence[str] = TASKS,
        sigmas: Sequence[float | str] = SIGMAS,
        repeats: Mapping[str, int] | None = None,
        mix: Mapping[str, float] | None = None,
        batch_size: int = 8,
        patch_size: int = 128,
        augment: Augment = "all",
        seed: int = 0,
        on_error: OnError = "raise",
        prefetch: int = 2,
    ) -> Loader:
        """Patches of clean images in memory; every degradation is synthetic.

        Parameters
        ----------
        images
            uint8 arrays (H, W, 3). They are kept for copies and pickles of the loader, which are
            refused once an array has changed.
        tasks, sigmas, repeats, mix, batch_size, patch_size, augment, seed, on_error, prefetch
            See `from_folder`.

        Returns
        -------
        Loader
            Its first iteration is epoch 0.

        Raises
        ------
        ValueError
            No image, one of another shape or smaller than a patch, a setting out of range.
        TypeError
            Another array, a number that is not whole, or a task that is not a string.
        """
        settings = _Settings(
            tasks=tasks,
            sigmas=sigmas,
            repeats=repeats,
            mix=mix,
            batch_size=batch_size,
            patch_size=patch_size,
            augment=augment,
            seed=seed,
            on_error=on_error,
            prefetch=prefetch,
        )
        if isinstance(images, np.ndarray) and images.ndim == 3:
            raise ValueError(f"images must be several, got one of shape {images.shape}: [image]?")
        images = list(images)
        for index, image in enumerate(images):
            check_photo(image, f"image {index}")
        return cls._make(images, {}, settings)

    @classmethod
    def _make(
        cls,
        photos: Sequence[Path | NDArray[np.uint8]],
        pairs: Mapping[str, list[tuple[Path, Path]]],
        settings: _Settings,
    ) -> Loader:
        sources = list(photos)
        by_task: dict[str, list[_Sample]] = {}
        for task in settings.tasks:
            found: list[_Sample]
            if task in pairs:
                first = len(sources)
                sources += chain.from_iterable(pairs[task])
                found = [(i, i + 1, None) for i in range(first, len(sources), 2)]
            else:
                kinds = [degradation(kind) for kind in degraded_tasks(task, settings.sigmas)]
                found = [(i, None, kind) for kind in kinds for i in range(len(photos))]
            by_task[task] = (settings.repeats or {}).get(task, 1) * found
        if settings.mix is not None:
            by_task = _mixed(by_task, settings.mix, settings.seed)
        loader = cls.__new__(cls)
        loader._settings = settings
        loader._sources = sources
        loader._samples = list(chain.from_iterable(by_task.values()))
        loader._tasks = [task for task, found in by_task.items() for _ in found]
        loader._open()
        loader._description = {
            "tasks": {task: len(found) for task, found in by_task.items()},
            "sigmas": [
                sigma if isinstance(sigma, str) else float(sigma) for sigma in settings.sigmas
            ],
            "images": len(sources),
            "fingerprint": _fingerprint(sources),
            "batch_size": int(settings.batch_size),
            "patch_size": int(settings.patch_size),
            "augment": settings.augment,
            "seed": int(settings.seed),
            "on_error": settings.on_error,
        }
        if settings.mix is not None:
            mix = {task: float(share) for task, share in settings.mix.items()}
            loader._description["mix"] = mix
        loader._next_epoch = 0
        loader._orders = {}
        return loader

    def _open(self) -> None:
        settings = self._settings
        self._loader = _mirl.Loader(
            [os.fspath(one) if isinstance(one, Path) else one for one in self._sources],
            self._samples,
            settings.batch_size,
            settings.patch_size,
            settings.augment,
            settings.seed,
            settings.on_error,
            settings.prefetch,
            settings.cache_mb << 20,
        )
        self._warn()

    def __getstate__(self) -> dict[str, Any]:
        """All that a copy or a pickle needs; ValueError where an image in memory has changed since."""
        if _fingerprint(self._sources) != self._description["fingerprint"]:
            raise ValueError("images have changed since the loader was made of them: make another")
        return {name: held for name, held in vars(self).items() if name != "_loader"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become the loader that was copied or pickled."""
        vars(self).update(state)
        self._open()

    def __len__(self) -> int:
        """Batches of an epoch.

        Returns
        -------
        int
            One that is not full is left out, unless it is the only one.
        """
        return self._loader.batches

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Go through the next epoch.

        Returns
        -------
        Iterator
            What `epoch` yields.
        """
        epoch = self._next_epoch
        self._next_epoch += 1
        return self.epoch(epoch)

    def epoch(
        self, epoch: int, start: int = 0
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Go through one epoch.

        Parameters
        ----------
        epoch
            Its number, from 0.
        start
            Number of the batch to begin with.

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
        whole("epoch", epoch)
        whole("start", start)
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

        Returns
        -------
        list of str
            As many as the batch has patches: names of `tasks`, whatever σ.

        Raises
        ------
        ValueError
            No such batch.
        """
        whole("epoch", epoch)
        whole("batch", batch)
        if batch >= len(self):
            raise ValueError(f"batch must be less than {len(self)}, got {batch}")
        if epoch not in self._orders:
            self._orders = {epoch: self._loader.order(epoch)}
        size = self._settings.batch_size
        samples = self._orders[epoch][batch * size : (batch + 1) * size]
        return [self._tasks[sample] for sample in samples]

    def describe(self) -> dict[str, Any]:
        """Tell what determines the patches, for the record of a run.

        Returns
        -------
        dict
            Settings, samples of each task and a fingerprint of the images, as JSON holds them.
        """
        return dict(self._description)

    def __repr__(self) -> str:
        count, size = self._settings.batch_size, self._settings.patch_size
        tasks = ", ".join(f"{name}: {count}" for name, count in self._description["tasks"].items())
        return f"Loader({len(self)} batches of {count} patches {size}x{size}; {tasks})"

    def _warn(self) -> None:
        for message in self._loader.take_skipped():
            warnings.warn(f"skipped {message}", stacklevel=3)


def _pair_sets(place: Path, task: str) -> list[Path]:
    """The folders of a task's pairs; where there is none, the error says what would do without."""
    try:
        return sets_of(place)
    except FileNotFoundError as error:
        hint = f"tasks= can leave {task!r} out"
        if task in TASKS:
            hint += f", and synthesize=({task!r},) makes it of the photos to denoise"
        raise FileNotFoundError(f"{error}; {hint}") from None


def _fingerprint(sources: Iterable[Path | NDArray[np.uint8]]) -> str:
    """Eight hexadecimal digits that tell images apart: files by name, arrays by their pixels."""
    names = [
        one.name if isinstance(one, Path) else f"{zlib.crc32(np.ascontiguousarray(one).data):08x}"
        for one in sources
    ]
    # A name of a file may be no UTF-8.
    return f"{zlib.crc32('/'.join(names).encode(errors='backslashreplace')):08x}"


def _mixed(
    by_task: Mapping[str, list[_Sample]], mix: Mapping[str, float], seed: int
) -> dict[str, list[_Sample]]:
    """As many samples as before, of each task its share by largest remainders, and one at least."""
    total = sum(map(len, by_task.values()))
    shares = {task: total * mix[task] / sum(mix.values()) for task in by_task}
    counts = {task: max(1, int(share)) for task, share in shares.items()}
    missing = total - sum(counts.values())
    for task in sorted(shares, key=lambda task: counts[task] - shares[task])[: max(missing, 0)]:
        counts[task] += 1
    for _ in range(-missing):
        counts[max(counts, key=counts.__getitem__)] -= 1
    mixed = {}
    for task, found in by_task.items():
        order = np.random.default_rng([seed, zlib.crc32(task.encode())]).permutation(len(found))
        mixed[task] = [found[order[index % len(found)]] for index in range(counts[task])]
    return mixed
