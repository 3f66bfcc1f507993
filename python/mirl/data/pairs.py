"""Paired data sets made of photos."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from mirl import _mirl
from mirl.checks import check_switches, whole
from mirl.data.degrade import degradation as degradation_of
from mirl.data.degrade import degrade, has_pairs
from mirl.data.folder import check_distinct, files_of, suffixes
from mirl.errors import FormatError
from mirl.io import check_absent, check_readable, write_image
from mirl.terminal import bar

if TYPE_CHECKING:
    from collections.abc import Iterable


def write_pairs(
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    root: str | os.PathLike[str],
    task: str,
    *,
    degradation: str | None = None,
    split: str = "train",
    name: str = "synthetic",
    seed: int = 0,
    force: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Degrade photos and write the pairs in the published layout, for `mirl.Loader` and others.

    ``<root>/<split>/<task>/<name>/`` gets a folder ``target`` of clean images and ``input`` of
    degraded ones, as PNG. They are named as published, ``NAME_gt`` with ``NAME_rainy`` or
    ``NAME_hazy``; of other tasks both are just ``NAME``.

    Parameters
    ----------
    images
        Image files, or one; a folder stands for the images in it. Alpha is dropped, 16 bits are
        rounded to 8.
    root, split, task, name
        Make up the folder: `task` is ``"derain"``, ``"dehaze"`` or a name of your own, which must not
        be that of a degradation; `name` is that of the set.
    degradation
        As `mirl.degrade` has them; by default that of the task.
    seed
        What is drawn follows from it, `split`, `task`, `name` and the name of the file.
    force
        Whether files that are there may be replaced.
    progress
        Whether to show a progress bar.

    Returns
    -------
    list of Path
        The degraded images, in order.

    Raises
    ------
    ValueError
        An unknown degradation, no image, two of one name, or a task that cannot have pairs. Nothing
        was written.
    FileExistsError
        A file is there, and `force` is not set. Nothing was written.
    TypeError
        No names of files, or a setting of another type. Nothing was written.
    mirl.errors.FormatError
        Images that cannot be read, all named. Pairs of the others were written.
    OSError
        A file cannot be written; an image that is neither a file nor a folder.
    """
    sources = files_of(images, "images")
    for what, part in {"split": split, "task": task, "name": name}.items():
        if part in ("", ".", "..") or Path(part).name != part:
            raise ValueError(f"{what} must be the name of a folder, got {part!r}")
    if not has_pairs(task):
        raise ValueError(
            f"task {task!r} has no pairs: it stands for degraded photos of the denoising sets."
            " Name the folder otherwise, and say the degradation beside it"
        )
    steps = degradation_of(task if degradation is None else degradation)
    whole("seed", seed)
    check_switches(force=force, progress=progress)
    folder = Path(root, split, task, name)
    clean_suffix, suffix = suffixes(task)
    if not sources:
        raise ValueError("there is no image to degrade")
    check_distinct(sources)
    places = {
        source: (
            folder / "target" / f"{source.stem}{clean_suffix}.png",
            folder / "input" / f"{source.stem}{suffix}.png",
        )
        for source in sources
    }
    if not force:
        check_absent(chain.from_iterable(places.values()))
    written: list[Path] = []
    unreadable: list[str] = []
    for source, (target, degraded) in bar(
        progress, iterable=places.items(), desc="degrade", unit="image"
    ):
        try:
            clean = _mirl.read_rgb8(str(source))
        except (OSError, FormatError) as error:
            unreadable.append(str(error))
            continue
        # Of no other set: a network is not to meet the noise that it was trained on.
        place = "/".join((split, task, name, source.stem))
        changed = degrade(clean, steps, seed=seed, name=place)
        for path in (target, degraded):
            path.parent.mkdir(parents=True, exist_ok=True)
        # What is there stays until both are written: a partner that is another's trains wrongly.
        before = target.with_name(f".mirl-{os.getpid()}.tmp")
        was_there = force and target.exists()
        if was_there:
            target.replace(before)
        try:
            write_image(target, clean, force=force)
            try:
                write_image(degraded, changed, force=force)
            except BaseException:
                target.unlink()
                raise
        except BaseException:
            if was_there:
                before.replace(target)
            raise
        if was_there:
            before.unlink()
        written.append(degraded)
    check_readable(unreadable, len(sources))
    return written
