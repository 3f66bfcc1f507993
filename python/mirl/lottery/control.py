"""Controls: what a ticket has to beat to be one (Frankle & Carbin 2019, section 2)."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from mirl.prune import prune

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mirl.choices import Control
    from mirl.models import Network, Snapshot


def controlled_masks(
    control: Control | None,
    masks: Mapping[str, NDArray[np.bool_]],
    names: Sequence[str],
    model: Network,
    seed: Sequence[int],
) -> dict[str, NDArray[np.bool_]]:
    """Masks of a ticket as a control has them.

    Parameters
    ----------
    control
        ``"shuffle"``: those of each tensor in random order, so that every layer keeps its density.
        ``"random"``: as many survivors, drawn from all of `names`. Otherwise the masks themselves.
    masks
        Of the ticket, by parameter name.
    names
        What was pruned.
    model
        Of the same sizes; not changed.
    seed
        What is drawn follows from it.
    """
    if control == "shuffle":
        shuffled = {}
        for name, mask in masks.items():
            generator = np.random.default_rng([*seed, zlib.crc32(name.encode())])
            shuffled[name] = generator.permutation(mask.ravel()).reshape(mask.shape)
        return shuffled
    if control == "random":
        shapes = model.shapes
        total = sum(int(np.prod(shapes[name])) for name in names)
        gone = sum(int((~masks[name]).sum()) for name in names if name in masks)
        drawn = type(model)(**model.config, seed=0)
        if gone:
            prune(drawn, gone / total, criterion="random", include=names, exclude=(), seed=seed)
        return drawn.mask
    return dict(masks)


def reinitialised(model: Network, seed: Sequence[int]) -> Snapshot:
    """Initial values of a network of the same sizes, drawn anew."""
    (drawn,) = np.random.SeedSequence(list(seed)).generate_state(1)
    return type(model)(**model.config, seed=int(drawn)).snapshot()
