"""PSNR and SSIM of a network on test sets, beside those of the input left unchanged."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mirl.checks import check_switches
from mirl.data.batches import batches_of, check_pairs, has_epochs
from mirl.data.folder import existing
from mirl.data.sets import Pair, TestSet, check_files, test_sets
from mirl.io import write_image, write_text
from mirl.metrics import psnr, ssim
from mirl.restore import check_callable, check_restored, restored_by
from mirl.terminal import bar, preformatted, shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mirl.restore import Restorer

MEASURES = ("psnr", "ssim", "psnr_input", "ssim_input")
CLEAN = (-0.5, 1.5)
"""What clean images may hold: what resampling leaves of [0, 1] is in it, what is of [-1, 1] is not."""


@dataclass(frozen=True)
class Measurement:
    """What one image is worth."""

    set: str
    """The test set that it is of."""
    task: str
    """What it was degraded by."""
    name: str
    """Its own in the set; of pairs its number."""
    psnr: float
    """Of the restored image, dB."""
    ssim: float
    """Of the restored image."""
    psnr_input: float
    """Of the degraded image as it is, dB."""
    ssim_input: float
    """Of the degraded image as it is."""


@dataclass(frozen=True)
class Row:
    """The means over the images that one test set has of a task."""

    set: str
    """Its name; ``"data"`` of pairs."""
    task: str
    """What its images were degraded by; ``"data"`` of pairs that do not tell."""
    images: int
    """How many there are."""
    psnr: float
    """Of the restored images, dB."""
    ssim: float
    """Of the restored images."""
    psnr_input: float
    """Of the degraded images as they are, dB."""
    ssim_input: float
    """Of the degraded images as they are."""

    @classmethod
    def of(cls, images: Sequence[Measurement]) -> Row:
        """The row of images of one set and task."""
        means = [float(np.mean([getattr(image, name) for image in images])) for name in MEASURES]
        return cls(images[0].set, images[0].task, len(images), *means)


@dataclass(frozen=True)
class Evaluation:
    """What a network is worth on test sets."""

    rows: list[Row]
    """One for each test set, and where it has several tasks for each of them."""
    images: list[Measurement] = field(default_factory=list, repr=False)
    """One for each image, in the order of the rows."""

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Means over the images of each task: ``{"derain": {"psnr": …, "psnr_input": …, …}}``."""
        by_task: dict[str, list[Row]] = {}
        for row in self.rows:
            by_task.setdefault(row.task, []).append(row)
        return {
            task: {
                name: float(
                    np.average(
                        [getattr(row, name) for row in rows], weights=[row.images for row in rows]
                    )
                )
                for name in MEASURES
            }
            for task, rows in by_task.items()
        }

    def table(self) -> str:
        """Lay the rows out.

        Returns
        -------
        str
            A line for each, at most 80 columns wide.
        """
        # Names share 27 columns: a chain of degradations takes what the sets leave.
        sets = min(16, max((len(row.set) for row in self.rows), default=0))
        task = min(27 - sets, max([11, *(len(row.task) for row in self.rows)]))
        name = 27 - task
        lines = [
            f"{'':<{task}} {'':<{name}} {'':>6}   {'PSNR in dB':^19}   {'SSIM':^17}".rstrip(),
            f"{'task':<{task}} {'set':<{name}} {'images':>6}   {'input':>8}   {'restored':>8}"
            f"   {'input':>7}   {'restored':>8}",
        ]
        lines += [
            f"{shortened(row.task, task):<{task}} {shortened(row.set, name):<{name}}"
            f" {row.images:>6}   {row.psnr_input:>8.2f}   {row.psnr:>8.2f}"
            f"   {row.ssim_input:>7.4f}   {row.ssim:>8.4f}"
            for row in self.rows
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return preformatted(self.table())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, which appears whole or not at all.

        Parameters
        ----------
        path
            A name that ends with ``.json``, which holds ``rows``, ``metrics`` and ``images``, or with
            ``.csv``, which holds the rows. JSON has no infinity, the PSNR of an image with itself: it
            is null there.

        Raises
        ------
        ValueError
            Another ending.
        OSError
            The file cannot be written.
        """
        path = check_place(path)
        if path.suffix == ".json":
            tables = {
                "rows": [_finite(asdict(row)) for row in self.rows],
                "metrics": {task: _finite(means) for task, means in self.metrics.items()},
                "images": [_finite(asdict(image)) for image in self.images],
            }
            text = json.dumps(tables, indent=2, allow_nan=False) + "\n"
        else:
            lines = io.StringIO()
            writer = csv.DictWriter(lines, [each.name for each in fields(Row)])
            writer.writeheader()
            writer.writerows(map(asdict, self.rows))
            text = lines.getvalue()
        write_text(path, text)


def check_place(path: str | os.PathLike[str]) -> Path:
    """Give the path to save an evaluation to, or raise before hours of measuring come to nothing.

    Raises
    ------
    ValueError
        It ends like another file.
    OSError
        There is no such folder, or nothing can be written to it; or a folder has the name.
    """
    path = Path(path)
    if path.suffix not in (".json", ".csv"):
        raise ValueError(f"{path}: an evaluation is saved as .json or .csv")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    existing(path.parent)
    # A link stays: what it leads to is written.
    if not os.access(path.resolve().parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return path


def places_of(sets: Iterable[TestSet], folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Where `evaluate` saves the images of test sets."""
    for one in sets:
        for name, *_ in one._pairs:
            yield _place(folder, one.task, one.name, name)


def evaluate(
    model: Restorer | None,
    data: Any,
    *,
    clip: bool = True,
    save_images: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Measure a network as published: PSNR and SSIM in RGB, image by image, then the mean.

    Parameters
    ----------
    model
        The network, or any function of images; None stands for the one that returns its input.
    data
        A folder in the published layout, of which the split ``test`` is taken; test sets (see
        `mirl.test_sets`); any iterable of ``(degraded, clean)``, tuples or lists of float32 images
        (3, H, W) or batches (N, 3, H, W) in [0, 1] (degraded ones may come to [-1, 2], clean ones to
        [-0.5, 1.5]); or several such iterables by task, ``{"night": pairs}``. Of a `mirl.Loader`
        epoch 0 is taken, and each task has a row.
    clip
        Whether restored images are clipped to [0, 1] before they are measured, as published.
    save_images
        Folder that gets the restored images as ``<task>/<set>/<name>.png``; files that are already
        there are replaced. Test sets of one task need names of their own for it.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Evaluation
        PSNR in dB and SSIM (see `mirl.psnr` and `mirl.ssim`) of every test set and image.

    Raises
    ------
    ValueError
        Data without an image; images that do not fit each other, or clean ones out of range; a model
        that returns another shape than it was given; several test sets whose images would be saved to
        one folder.
    TypeError
        Not a model, not such data, images that are not arrays of floating point, or a switch that is
        neither True nor False.
    OSError
        A folder or a file that cannot be read or written.
    mirl.errors.DivergenceError
        The network gives NaN or infinity.
    """
    check_switches(clip=clip, progress=progress)
    if model is not None:
        check_callable(model)
    sets = _test_sets(data, "data")
    if save_images is not None:
        _check_folders(sets)
    # 0 where one does not tell.
    lengths = [length_hint(one if isinstance(one, TestSet) else one.pairs) for one in sets]
    total = sum(lengths) if all(lengths) else None
    rows: list[Row] = []
    images: list[Measurement] = []
    with bar(progress, total=total, desc="evaluate", unit="pair") as done:
        for test_set in sets:
            done.set_postfix_str(f"{test_set.task} {test_set.name}")
            by_task: dict[str, list[Measurement]] = {}
            for task, (name, degraded, clean) in _by_task(test_set, done.update):
                restored = degraded
                if model is not None:
                    # A copy, since a function may work in place.
                    restored = restored_by(model, degraded[np.newaxis].copy())[0]
                check_restored(restored, name)
                if clip:
                    restored = np.clip(restored, 0, 1)
                by_task.setdefault(task, []).append(
                    Measurement(test_set.name, task, name, *_measure(restored, degraded, clean))
                )
                if save_images is not None:
                    _save_image(_place(save_images, task, test_set.name, name), restored)
            if not by_task:
                raise ValueError(f"test set {test_set.name} ({test_set.task}) has no image")
            for found in by_task.values():
                rows.append(Row.of(found))
                images += found
    return Evaluation(rows, images)


class _Pairs(NamedTuple):
    """Any iterable of pairs, as a test set."""

    pairs: Any
    task: str = "data"
    name: str = "data"


def _by_task(test_set: TestSet | _Pairs, done: Callable[[], Any]) -> Iterator[tuple[str, Pair]]:
    """The pairs of a test set, each with its task; batches are taken apart, and done as a whole."""
    if isinstance(test_set, TestSet):
        for pair in test_set:
            yield test_set.task, pair
            done()
        return
    data = test_set.pairs
    tells = has_epochs(data) and hasattr(data, "tasks")
    count = 0
    for batch, (degraded, clean) in enumerate(batches_of(data)):
        if degraded.shape != clean.shape or degraded.ndim not in (3, 4):
            raise ValueError(
                "a pair must be two images (3, H, W) or batches (N, 3, H, W) of one shape,"
                f" got {degraded.shape} and {clean.shape}"
            )
        _check_clean(clean)
        if degraded.ndim == 3:
            degraded, clean = degraded[np.newaxis], clean[np.newaxis]
        tasks = data.tasks(0, batch) if tells else len(clean) * [test_set.task]
        if len(tasks) != len(clean):
            raise ValueError(f"data tells {len(tasks)} tasks of a batch of {len(clean)} images")
        for task, *images in zip(tasks, degraded, clean, strict=True):
            yield task, Pair(f"{count:05}", *images)
            count += 1
        done()


def check_data(data: Any, what: str = "data") -> None:
    """Raise what `evaluate` would of data that it cannot take, before there is a network to measure.

    Parameters
    ----------
    data
        As `evaluate` takes it.
    what
        What it is called in messages.

    Raises
    ------
    TypeError, ValueError, OSError
        No folder, test sets or pairs; data without an image; a file of a test set that is damaged.
    """
    check_files(one for one in _test_sets(data, what) if isinstance(one, TestSet))


def _test_sets(data: Any, what: str) -> list[TestSet | _Pairs]:
    if isinstance(data, str | os.PathLike):
        return list(test_sets(data))
    if isinstance(data, TestSet):
        data = [data]
    if isinstance(data, Mapping) and data:
        return [
            _Pairs(_pairs(pairs, f"{what}[{task!r}]"), str(task)) for task, pairs in data.items()
        ]
    if isinstance(data, list | tuple) and data and all(isinstance(one, TestSet) for one in data):
        for test_set in data:
            if len(test_set) == 0:
                raise ValueError(f"test set {test_set.name} ({test_set.task}) has no image")
        return list(data)
    return [_Pairs(_pairs(data, what))]


def _pairs(data: Any, what: str) -> Any:
    """What gives pairs, as far as that shows without going through it."""
    if not isinstance(data, Iterable) and not has_epochs(data):
        raise TypeError(f"{what} must be a folder, test sets or pairs, got {type(data).__name__}")
    check_pairs(data, what)
    # Of some a length is asked for in vain: PyTorch's loader of what has none.
    if hasattr(data, "__len__") and length_hint(data, -1) == 0:
        raise ValueError(f"{what} has no pair")
    return data


def _check_clean(clean: NDArray[Any]) -> None:
    """Raise a ValueError for clean images far out of [0, 1]; what is no number is for `psnr` to say."""
    if clean.dtype.kind != "f":
        return
    outside = clean[(clean < CLEAN[0]) | (clean > CLEAN[1])]
    if outside.size:
        raise ValueError(
            f"clean: expected values in [0, 1], got {outside[0]}"
            " (divide 8-bit images by 255; of [-1, 1], take (x + 1) / 2)"
        )


def _measure(
    restored: NDArray[np.float32], degraded: NDArray[np.float32], clean: NDArray[np.float32]
) -> tuple[float, ...]:
    return tuple(f(image, clean) for image in (restored, degraded) for f in (psnr, ssim))


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value == math.inf else value for name, value in row.items()}


def _check_folders(sets: Iterable[TestSet | _Pairs]) -> None:
    """Raise where images of one test set would replace those of another."""
    seen: set[str] = set()
    for one in sets:
        folder = _folder(one.task, one.name)
        if folder in seen:
            raise ValueError(
                f"save_images: several test sets would save to {folder}: give them other names"
            )
        seen.add(folder)


def _folder(task: str, name: str) -> str:
    """That of a set's images, its names without what file systems have other uses for."""
    return "/".join(re.sub(r"[^\w.-]+|^\.+$", "_", part) for part in (task, name))


def _place(folder: str | os.PathLike[str], task: str, set_name: str, name: str) -> Path:
    return Path(folder, _folder(task, set_name), f"{name}.png")


def _save_image(path: Path, image: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    write_image(path, samples.transpose(1, 2, 0), force=True)
