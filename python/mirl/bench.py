"""How long a network takes on this machine, and how much memory."""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from mirl import _mirl
from mirl.checks import check_least
from mirl.train import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirl.models import Network


@dataclass(frozen=True)
class Timing:
    """What one kind of work costs."""

    what: str
    shape: tuple[int, int, int, int]
    """Of the images, (N, 3, H, W)."""
    seconds: float
    """Median of the repeats."""
    memory: int | None
    """Most that the process, or the network on its GPU, has held so far, bytes; None where the system
    does not tell."""


def bench(
    model: Network,
    *,
    size: int = 256,
    patch_size: int = 128,
    batch_size: int = 1,
    repeats: int = 5,
) -> list[Timing]:
    """Time restoring and a training step, each after one unmeasured call.

    Parameters
    ----------
    model
        The network, which restores in its precision; the training steps are taken on a copy, in the
        same.
    size
        Height and width of the images to restore.
    patch_size
        Height and width of the images to train on.
    batch_size
        Images at once, in both.
    repeats
        Calls to take the median of.

    Returns
    -------
    list of Timing
        Restoring, then training: memory is the process's high-water mark, which only rises.

    Raises
    ------
    TypeError, ValueError
        A size or count that is not a whole number, or less than 1.
    """
    check_least(1, size=size, patch_size=patch_size, batch_size=batch_size, repeats=repeats)
    images = _images(batch_size, size)
    restoring = _timing("restore", images, lambda: model(images), repeats, model.device)
    # Made only now, or what they hold would count as restoring's.
    patches = _images(batch_size, patch_size)
    trainer = Trainer(copy.deepcopy(model), precision=model.precision)
    training = _timing(
        "training step", patches, lambda: trainer.step(patches, patches), repeats, model.device
    )
    return [restoring, training]


def table(timings: list[Timing]) -> str:
    """Format timings, at most 80 columns wide."""
    lines = [f"{'':<15} {'images':<16} {'median ms':>10} {'peak memory':>12}"]
    for timing in timings:
        memory = "-" if timing.memory is None else f"{timing.memory / 2**20:,.0f} MiB"
        shape = "x".join(map(str, timing.shape))
        lines.append(f"{timing.what:<15} {shape:<16} {timing.seconds * 1e3:>10,.1f} {memory:>12}")
    return "\n".join(lines)


def _images(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, size, size), dtype=np.float32)


def _timing(
    what: str, images: np.ndarray, call: Callable[[], object], repeats: int, device: str
) -> Timing:
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    memory = _mirl.gpu_peak() if device == "cuda" else _peak_memory()
    return Timing(what, images.shape, median(seconds), memory)


def _peak_memory() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): KiB but on macOS
