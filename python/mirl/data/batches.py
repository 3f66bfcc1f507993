"""Batches of images, whoever makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.arrays import as_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def batches_of(data: Any) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The batches of an iterable as arrays, degraded and clean.

    Of a `mirl.Loader` and its like they are those of epoch 0: always the same, and whoever iterates
    over it does not miss an epoch.

    Raises
    ------
    TypeError, ValueError
        What is not two arrays.
    """
    for batch in data.epoch(0) if has_epochs(data) else data:
        try:
            degraded, clean = batch
        except (TypeError, ValueError):
            kind = type(batch).__name__
            count = f" of {len(batch)}" if hasattr(batch, "__len__") else ""
            raise ValueError(
                f"a batch must be a pair (degraded, clean), got a {kind}{count}"
            ) from None
        yield np.asarray(as_array(degraded, "degraded")), np.asarray(as_array(clean, "clean"))


def has_epochs(data: Any) -> bool:
    """Whether data gives each epoch by its number, as `mirl.Loader` does."""
    return callable(getattr(data, "epoch", None))
