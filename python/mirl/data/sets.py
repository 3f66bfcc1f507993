"""Test sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mirl import _mirl
from mirl.checks import check_least, whole
from mirl.data.degrade import (
    SIGMAS,
    TASKS,
    check_photo,
    check_tasks,
    degradation,
    degrade,
    degraded_tasks,
)
from mirl.data.folder import (
    check_distinct,
    existing,
    images_of,
    pairs_of,
    place_of,
    sets_of,
    there_of,
)
from mirl.io import shape_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

_CROP = 16
"""Test images are cropped to a multiple of this, as published."""


class Pair(NamedTuple):
    """A degraded image and the clean one, float32 (3, H, W) in [0, 1]."""

    name: str
    """Of the degraded image's file, without its ending."""
    degraded: NDArray[np.float32]
    """What a network gets."""
    clean: NDArray[np.float32]
    """What it is measured against."""

    def __repr__(self) -> str:
        degraded, clean = shape_of(self.degraded), shape_of(self.clean)
        return f"Pair({self.name!r}, degraded={degraded}, clean={clean})"


@dataclass(frozen=True, init=False, repr=False)
class TestSet:
    """Pairs to measure a network on, read one by one.

    Images are cropped around their centre to a multiple of 16, as published. Make one with
    `from_images` or `from_pairs`, and those of a folder with `mirl.test_sets`.
    """

    __test__ = False  # no class of tests, whatever pytest makes of its name

    name: str
    """Of the set: its folder's, or as it was made."""
    task: str
    """``"denoise_25"``, ``"derain"``, …"""
    seed: int
    """Of synthetic degradations; what is drawn also follows from task and image name."""
    _pairs: list[tuple[str, Any, Any]]
    """Of each image its name, the clean one and the degraded one: files, arrays, or None to make it."""
    crop: int | None = None
    """Height and width that larger images are cut down to."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError(
            "a TestSet is made by TestSet.from_images, TestSet.from_pairs or mirl.test_sets"
        )

    @classmethod
    def _of(
        cls,
        name: str,
        task: str,
        seed: int,
        pairs: list[tuple[str, Any, Any]],
        crop: int | None = None,
    ) -> TestSet:
        made = cls.__new__(cls)
        vars(made).update(name=name, task=task, seed=seed, _pairs=pairs, crop=crop)
        return made

    @classmethod
    def from_images(
        cls, images: Iterable[NDArray[np.uint8]], task: str, *, name: str = "images", seed: int = 0
    ) -> TestSet:
        """Make a set of clean images in memory, to be degraded synthetically.

        Parameters
        ----------
        images
            uint8 arrays (H, W, 3), of 16x16 pixels or more.
        task
            The degradation, as `mirl.degrade` has it.
        name
            Of the set.
        seed
            What is drawn follows from it, the task and the image's number.

        Returns
        -------
        TestSet
            Images are called ``"000"``, ``"001"``, ….

        Raises
        ------
        TypeError, ValueError
            A task that is not a degradation, another array, or one smaller than 16x16.
        """
        degradation(task)
        whole("seed", seed)
        images = list(images)
        for index, image in enumerate(images):
            _check_image(image, f"image {index}")
        pairs = [(f"{i:03}", image, None) for i, image in enumerate(images)]
        return cls._of(name, task, seed, pairs)

    @classmethod
    def from_pairs(
        cls,
        pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
        task: str,
        *,
        name: str = "pairs",
    ) -> TestSet:
        """Make a set of pairs in memory.

        Parameters
        ----------
        pairs
            Each ``(degraded, clean)``, two uint8 arrays (H, W, 3) of one shape, of 16x16 pixels or
            more.
        task
            What it is called, ``"night"`` say.
        name
            Of the set.

        Returns
        -------
        TestSet
            Images are called ``"000"``, ``"001"``, ….

        Raises
        ------
        TypeError, ValueError
            What is not two such arrays, by its number.
        """
        held: list[tuple[str, Any, Any]] = []
        for index, pair in enumerate(pairs):
            if not isinstance(pair, Sequence) or len(pair) != 2:
                kind = type(pair).__name__
                raise ValueError(f"pair {index}: expected (degraded, clean), got a {kind}")
            degraded, clean = pair
            _check_image(degraded, f"degraded image {index}")
            _check_image(clean, f"clean image {index}")
            if degraded.shape != clean.shape:
                raise ValueError(
                    f"pair {index} differs in shape: {degraded.shape} and {clean.shape}"
                )
            held.append((f"{index:03}", clean, degraded))
        return cls._of(name, task, 0, held)

    def __repr__(self) -> str:
        # Those of a folder are files.
        places = [clean.parent for _, clean, _ in self._pairs[:1] if isinstance(clean, Path)]
        origin = "".join(f", clean ones in {place}" for place in places)
        return f"TestSet({self.name!r}, {self.task!r}, {len(self)} images{origin})"

    def __len__(self) -> int:
        """The number of images."""
        return len(self._pairs)

    def __iter__(self) -> Iterator[Pair]:
        """Read the pairs one by one.

        Yields
        ------
        Pair
            Cropped to multiples of 16 around the centre.

        Raises
        ------
        ValueError
            Images of a pair that differ in size.
        mirl.errors.FormatError, OSError
            An image that cannot be read.
        """
        for name, clean, degraded in self._pairs:
            target = _crop(_read(clean), name, self.crop)
            if degraded is None:
                source = degrade(target, self.task, seed=self.seed, name=f"{self.task}/{name}")
            else:
                source = _crop(_read(degraded), name, self.crop)
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
    sigmas: Sequence[float | str] = SIGMAS,
    images: int | None = None,
    crop: int | None = None,
    seed: int = 0,
) -> list[TestSet]:
    """All test sets of a folder in the published layout.

    Parameters
    ----------
    root, split
        Sets are taken from ``<root>/<split>/<task>/*``.
    tasks
        Any of ``"denoise"``, ``"derain"`` and ``"dehaze"``, by default those that have a folder; any
        degradation of the images to denoise, as `mirl.degrade` has them, ``"denoise_25"`` too; and
        any other folder with pairs of one name.
    sigmas
        Standard deviations of the noise, in 8-bit units; of ``"1-50"`` each image has its own.
    images
        How many images of each set are measured, the first by name; by default all, as published.
    crop
        Height and width that larger images are cut down to, around their centre; a multiple of 16.
        By default whole images are measured, as published.
    seed
        Of the noise.

    Returns
    -------
    list of TestSet
        In the order of the tasks: one for each folder, of denoising for each folder and sigma.

    Raises
    ------
    FileNotFoundError
        A folder that is not there.
    ValueError
        An empty folder, an image without a partner, of another size than it, or smaller than 16x16;
        two images of one name; a folder named like a degradation among `tasks`; a crop that is not a
        multiple of 16; not a valid sigma.
    mirl.errors.FormatError, OSError
        An image that cannot be read.
    """
    whole("seed", seed)
    check_least(1, images=images)
    check_least(0, crop=crop)
    if crop is not None and (crop < _CROP or crop % _CROP):
        raise ValueError(f"crop must be a multiple of {_CROP}, got {crop}")
    if tasks is None:
        tasks = there_of(root, split, TASKS)
        if not tasks:
            place = existing(Path(root, split))
            raise ValueError(f"{place}: expected folders named {', '.join(TASKS)}")
    check_tasks(tasks, sigmas)
    sets = []
    for task in tasks:
        place, paired = place_of(root, split, task)
        for folder in sets_of(place):
            if not paired:
                kinds = degraded_tasks(task, sigmas)
                paths = images_of(folder)[:images]
                check_distinct(paths)
                clean = [(path.stem, path, None) for path in paths]
                _check_sizes(clean)
                sets += [TestSet._of(folder.name, kind, seed, list(clean), crop) for kind in kinds]
            else:
                pairs = [(bad.stem, good, bad) for good, bad in pairs_of(folder, task)][:images]
                _check_sizes(pairs)
                sets.append(TestSet._of(folder.name, task, seed, list(pairs), crop))
    return sets


test_sets.__test__ = False  # type: ignore[attr-defined]


def _check_sizes(pairs: Sequence[tuple[str, Path, Path | None]]) -> None:
    """Raise for images that cannot be measured, before days of training end with them."""
    for _, clean, degraded in pairs:
        size = _mirl.image_size(clean)
        _check_size(size, clean)
        # One of them may be turned by its orientation.
        if degraded is not None and sorted(_mirl.image_size(degraded)) != sorted(size):
            raise ValueError(
                f"{degraded} and {clean} differ in size: {_mirl.image_size(degraded)} and {size}"
            )


def check_files(sets: Iterable[TestSet]) -> None:
    """Read each image of test sets: what is damaged shows before days of training, not after them.

    Raises
    ------
    mirl.errors.FormatError, OSError
        An image that cannot be read.
    """
    pairs = (pair for one in sets for _, *pair in one._pairs)
    # The levels of noise share their files.
    for file in dict.fromkeys(each for pair in pairs for each in pair if isinstance(each, Path)):
        _read(file)


def _check_image(image: Any, what: str) -> None:
    check_photo(image, what)
    _check_size(image.shape[:2], what)


def _check_size(size: tuple[int, ...], what: str | Path) -> None:
    if min(size) < _CROP:
        raise ValueError(f"{what}: expected {_CROP}x{_CROP} pixels or more, got {size}")


def _read(source: Any) -> NDArray[np.uint8]:
    if isinstance(source, Path):
        source = _mirl.read_rgb8(os.fspath(source))
    image: NDArray[np.uint8] = source
    return image


def _crop(image: NDArray[np.uint8], name: str, most: int | None) -> NDArray[np.uint8]:
    _check_size(image.shape[:2], name)
    height, width = (min(length - length % _CROP, most or length) for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _planar(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    planes = image.transpose(2, 0, 1).astype(np.float32, order="C")
    return planes / np.float32(255)
