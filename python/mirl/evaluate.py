"""PSNR and SSIM of a network on test sets, beside those of the input left unchanged."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.data.batches import batches_of, has_epochs
from mirl.io import write_text
from mirl.restore import check_restored
from mirl.terminal import preformatted, shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mirl.data import TestSet
    from mirl.models import PromptIR

MEASURES = ("psnr", "ssim", "psnr_input", "ssim_input")


@dataclass(frozen=True)
class Row:
    """The means over the images of one test set."""

    set: str
    task: str
    images: int
    psnr: float
    """Of the restored images, dB."""
    ssim: float
    psnr_input: float
    """Of the degraded images as they are, dB."""
    ssim_input: float


@dataclass(frozen=True)
class Evaluation:
    """What a network is worth on test sets."""

    rows: list[Row]
    """One for each test set."""

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
        """One line for each test set, at most 80 columns wide."""
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
        """Write the rows to a file, which appears whole or not at all.

        JSON has no infinity, the PSNR of an image with itself: it is null there.

        Parameters
        ----------
        path
            A name that ends with ``.json`` or ``.csv``.

        Raises
        ------
        ValueError
            Another ending.
        OSError
            The file cannot be written.
        """
        path = Path(path)
        rows = [asdict(row) for row in self.rows]
        if path.suffix == ".json":
            tables = {
                "rows": [_finite(row) for row in rows],
                "metrics": {task: _finite(means) for task, means in self.metrics.items()},
            }
            text = json.dumps(tables, indent=2, allow_nan=False) + "\n"
        elif path.suffix == ".csv":
            lines = io.StringIO()
            writer = csv.DictWriter(lines, [field.name for field in fields(Row)])
            writer.writeheader()
            writer.writerows(rows)
            text = lines.getvalue()
        else:
            raise ValueError(f"{path}: an evaluation is saved as .json or .csv")
        write_text(path, text)


def evaluate(
    model: PromptIR | None,
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
        `mirl.test_sets`); or any iterable of ``(degraded, clean)``, float32 in [0, 1], images
        (3, H, W) or batches (N, 3, H, W). Of a `mirl.Loader` epoch 0 is taken.
    clip
        Whether restored images are clipped to [0, 1] before they are measured, as published.
    save_images
        Folder that gets the restored images as ``<task>/<set>/<name>.png``; files that are already
        there are replaced.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Evaluation
        PSNR in dB and SSIM (see `mirl.psnr` and `mirl.ssim`) of every test set.

    Raises
    ------
    ValueError
        Data without an image, or images that do not fit each other.
    OSError
        A folder or a file that cannot be read or written.
    mirl.errors.DivergenceError
        The network gives NaN or infinity.
    """
    sets = _test_sets(data)
    total = sum(len(test_set) for test_set in sets if hasattr(test_set, "__len__")) or None
    rows = []
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="evaluate", unit="image", disable=not progress) as bar:
        for test_set in sets:
            bar.set_postfix_str(f"{test_set.task} {test_set.name}")
            measured = []
            for name, degraded, clean in test_set:
                restored = degraded if model is None else model(degraded[np.newaxis])[0]
                check_restored(restored, name)
                if clip:
                    restored = np.clip(restored, 0, 1)
                measured.append(_measure(restored, degraded, clean))
                if save_images is not None:
                    place = Path(save_images, _folder(test_set.task), _folder(test_set.name))
                    _save_image(place / f"{name}.png", restored)
                bar.update()
            if not measured:
                raise ValueError(f"test set {test_set.name} ({test_set.task}) has no image")
            means = np.mean(measured, axis=0).tolist()
            rows.append(Row(test_set.name, test_set.task, len(measured), *means))
    return Evaluation(rows)


class _Pairs:
    """Any iterable of pairs, as a test set; batches are taken apart."""

    name = task = "data"

    def __init__(self, pairs: Iterable[Any]) -> None:
        self.pairs = pairs

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
        index = 0
        for degraded, clean in batches_of(self.pairs):
            if degraded.shape != clean.shape or degraded.ndim not in (3, 4):
                raise ValueError(
                    "a pair must be two images (3, H, W) or batches (N, 3, H, W) of one shape,"
                    f" got {degraded.shape} and {clean.shape}"
                )
            if degraded.ndim == 3:
                degraded, clean = degraded[np.newaxis], clean[np.newaxis]
            for images in zip(degraded, clean, strict=True):
                yield f"{index:05}", *images
                index += 1


def check_data(data: Any) -> None:
    """Raise what `evaluate` would of data that is none, before a network is there to be measured.

    Raises
    ------
    TypeError, ValueError, OSError
        No folder, test sets or pairs; test sets without an image.
    """
    if hasattr(data, "__len__") and len(data) == 0:
        raise ValueError("evaluate has no pair")
    for test_set in _test_sets(data):
        if hasattr(test_set, "__len__") and len(test_set) == 0:
            raise ValueError(f"test set {test_set.name} ({test_set.task}) has no image")


def _test_sets(data: Any) -> list[TestSet | _Pairs]:
    from mirl.data import TestSet, test_sets

    if isinstance(data, str | os.PathLike):
        return list(test_sets(data))
    if isinstance(data, TestSet):
        return [data]
    if isinstance(data, list | tuple) and data and all(isinstance(one, TestSet) for one in data):
        return list(data)
    if not isinstance(data, Iterable) and not has_epochs(data):
        raise TypeError(f"data must be a folder, test sets or pairs, got {type(data).__name__}")
    return [_Pairs(data)]


def _measure(
    restored: NDArray[np.float32], degraded: NDArray[np.float32], clean: NDArray[np.float32]
) -> tuple[float, ...]:
    from mirl.metrics import psnr, ssim

    return tuple(f(image, clean) for image in (restored, degraded) for f in (psnr, ssim))


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value == math.inf else value for name, value in row.items()}


def _folder(name: str) -> str:
    """A name of a task or a set without what file systems have other uses for."""
    return re.sub(r"[^\w.-]+|^\.+$", "_", name)


def _save_image(path: Path, image: NDArray[np.float32]) -> None:
    from mirl.io import write_image

    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    write_image(path, samples.transpose(1, 2, 0), force=True)
