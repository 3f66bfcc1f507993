"""The published folder layout.

``<root>/<split>/<task>/<set>/``, where denoising sets hold clean images and the others pairs:
``target/NAME_gt.*`` and ``input/NAME_rainy.*`` or ``input/NAME_hazy.*``. Tasks of one's own hold
pairs of one name, ``target/NAME.*`` and ``input/NAME.*``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirl.data.degrade import TASKS, has_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

_SUFFIXES = {"derain": ("_gt", "_rainy"), "dehaze": ("_gt", "_hazy")}
_EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def existing(place: Path) -> Path:
    """`place`, or FileNotFoundError where there is no such folder."""
    if not place.is_dir():
        raise FileNotFoundError(f"{place}: no such folder")
    return place


def place_of(
    root: str | os.PathLike[str], split: str, task: str, synthesize: Sequence[str] = ()
) -> tuple[Path, bool]:
    """Where a task's data sets are, and whether they are pairs: others share the photos to denoise.

    ValueError where a folder has the name of a degradation: the task could be either.
    """
    paired = has_pairs(task, synthesize)
    own = Path(root, split, task)
    if not paired and task not in TASKS and own.is_dir():
        raise ValueError(
            f"{own} is named like a degradation, which would be of the photos to denoise: rename it"
        )
    return Path(root, split, task if paired else "denoise"), paired


def there_of(root: str | os.PathLike[str], split: str, tasks: Iterable[str]) -> list[str]:
    """Those of the tasks that have a folder."""
    return [task for task in tasks if place_of(root, split, task)[0].is_dir()]


def sets_of(place: Path) -> list[Path]:
    """The folders of data sets in a task's; ValueError where there is none."""
    sets = sorted(path for path in existing(place).iterdir() if path.is_dir())
    if not sets:
        raise ValueError(f"{place}: expected a folder for each data set, found none")
    return sets


def check_distinct(images: Iterable[Path]) -> None:
    """Raise ValueError for two images of one name, whatever their endings."""
    seen: dict[str, Path] = {}
    for path in images:
        if path.stem in seen:
            raise ValueError(f"{seen[path.stem]} and {path} have the same name")
        seen[path.stem] = path


def suffixes(task: str) -> tuple[str, str]:
    """What the names of a task's clean and degraded images end with."""
    return _SUFFIXES.get(task, ("", ""))


def files_of(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], what: str
) -> list[Path]:
    """The files of one name or of several; a folder stands for the images in it.

    OSError where one is neither, a pipe say: reading it might never end. TypeError for what is no
    name; `what` is what they are called in messages.
    """
    names: Iterable[Any] = [paths]
    if isinstance(paths, Iterable) and not isinstance(paths, str | os.PathLike):
        names = paths
    files: list[Path] = []
    for name in names:
        if not isinstance(name, str | os.PathLike):
            kind = type(name).__name__
            raise TypeError(f"{what} must be a file, a folder, or several of them, got {kind}")
        path = Path(name)
        if _is_other(path) and not path.is_dir():
            raise OSError(errno.EINVAL, "is not a file", str(path))
        files += images_of(path) if path.is_dir() else [path]
    return files


def images_of(folder: Path) -> list[Path]:
    """The images in a folder, by name; ValueError where there is none."""
    named = (path for path in folder.iterdir() if path.suffix.lower() in _EXTENSIONS)
    found = sorted(path for path in named if not _is_other(path))
    if not found:
        raise ValueError(f"{folder}: no image")
    return found


def _is_other(path: Path) -> bool:
    """Whether it is there and no file. A link to nowhere is none of them: reading it names it."""
    return path.exists() and not path.is_file()


def pairs_of(folder: Path, task: str) -> list[tuple[Path, Path]]:
    """The clean and the degraded image of every pair; ValueError names one without a partner."""
    clean_suffix, suffix = suffixes(task)
    clean = _by_name(existing(folder / "target"), clean_suffix)
    degraded = _by_name(existing(folder / "input"), suffix)
    for have, other, place, ending in (
        (clean, degraded, "input", suffix),
        (degraded, clean, "target", clean_suffix),
    ):
        for name, path in have.items():
            if name not in other:
                raise ValueError(f"{path}: no partner {folder / place / (name + ending)}.*")
    return [(path, degraded[name]) for name, path in clean.items()]


def _by_name(folder: Path, suffix: str) -> dict[str, Path]:
    images = images_of(folder)
    for path in images:
        if not path.stem.endswith(suffix):
            raise ValueError(f"{path}: expected a name that ends with {suffix}")
    check_distinct(images)
    return {path.stem.removesuffix(suffix): path for path in images}
