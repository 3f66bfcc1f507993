"""The published folder layout.

``<root>/<split>/<task>/<set>/``, where denoising sets hold clean images and the others pairs:
``target/NAME_gt.*`` and ``input/NAME_rainy.*`` or ``input/NAME_hazy.*``. Tasks of one's own hold
pairs of one name, ``target/NAME.*`` and ``input/NAME.*``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

_SUFFIXES = {"derain": ("_gt", "_rainy"), "dehaze": ("_gt", "_hazy")}
_EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def existing(place: Path) -> Path:
    """`place`, or FileNotFoundError where there is no such folder."""
    if not place.is_dir():
        raise FileNotFoundError(f"{place}: no such folder")
    return place


def sets_of(root: str | os.PathLike[str], split: str, task: str) -> list[Path]:
    """The folders of a task's data sets; ValueError where there is none."""
    place = existing(Path(root, split, task))
    sets = sorted(path for path in place.iterdir() if path.is_dir())
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


def images_of(folder: Path) -> list[Path]:
    """The images in a folder, by name; ValueError where there is none."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _EXTENSIONS)
    if not found:
        raise ValueError(f"{folder}: no image")
    return found


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
    found: dict[str, Path] = {}
    for path in images_of(folder):
        if not path.stem.endswith(suffix):
            raise ValueError(f"{path}: expected a name that ends with {suffix}")
        name = path.stem.removesuffix(suffix)
        if name in found:
            raise ValueError(f"{path} and {found[name]} have the same name")
        found[name] = path
    return found
