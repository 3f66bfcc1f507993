"""Batches of images, whoever makes them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.arrays import as_array
from mirl.checks import whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def batches_of(
    data: Any, epoch: int = 0, start: int = 0
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The batches of an iterable as arrays, degraded and clean.

    Of a `mirl.Loader` and its like they are those of an epoch, by default the first: always the
    same, and whoever iterates over it does not miss an epoch.

    Parameters
    ----------
    data
        Whatever gives pairs, each time that it is iterated over.
    epoch
        Which one, where data gives each by its number.
    start
        How many batches are left out.

    Raises
    ------
    TypeError, ValueError
        What is not two arrays.
    """
    check_pairs(data)
    for batch in data.epoch(epoch, start) if has_epochs(data) else islice(data, start, None):
        # Neither two keys nor an array of two images are a pair.
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            kind = type(batch).__name__
            count = f" of {len(batch)}" if hasattr(batch, "__len__") else ""
            raise ValueError(f"a batch must be a pair (degraded, clean), got a {kind}{count}")
        degraded, clean = batch
        yield np.asarray(as_array(degraded, "degraded")), np.asarray(as_array(clean, "clean"))


def first_batches(data: Any, batches: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """So many of the first batches of `batches_of`; raises ValueError where there is none."""
    whole("batches", batches, 1)
    found = list(islice(batches_of(data), batches))
    if not found:
        raise ValueError("data has no batch")
    return found


def check_pairs(data: Any, what: str = "data") -> None:
    """Raise a ValueError for one pair of arrays where several pairs are wanted."""
    if (
        isinstance(data, tuple | list)
        and len(data) == 2
        and all(hasattr(each, "__dlpack__") for each in data)
    ):
        raise ValueError(f"{what} is one pair (degraded, clean); give a list of pairs")


def has_epochs(data: Any) -> bool:
    """Whether data gives each epoch by its number, as `mirl.Loader` does."""
    return callable(getattr(data, "epoch", None))
