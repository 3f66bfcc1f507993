"""Batches of images, whoever makes them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.arrays import as_array
from mirl.checks import check_least

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
    for batch in data.epoch(epoch, start) if has_epochs(data) else islice(data, start, None):
        # Two keys are no pair.
        pair: Any = () if isinstance(batch, Mapping) else batch
        try:
            degraded, clean = pair
        except (TypeError, ValueError):
            kind = type(batch).__name__
            count = f" of {len(batch)}" if hasattr(batch, "__len__") else ""
            raise ValueError(
                f"a batch must be a pair (degraded, clean), got a {kind}{count}"
            ) from None
        yield np.asarray(as_array(degraded, "degraded")), np.asarray(as_array(clean, "clean"))


def first_batches(data: Any, batches: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """So many of the first batches of `batches_of`; raises ValueError where there is none."""
    check_least(1, batches=batches)
    found = list(islice(batches_of(data), batches))
    if not found:
        raise ValueError("data has no batch")
    return found


def has_epochs(data: Any) -> bool:
    """Whether data gives each epoch by its number, as `mirl.Loader` does."""
    return callable(getattr(data, "epoch", None))
