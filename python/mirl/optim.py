"""Learning-rate schedules."""

from __future__ import annotations

import math

from mirl import _mirl
from mirl.checks import is_number, whole


def linear_warmup_cosine(
    t: int, total: int, *, warmup: int = 0, lr: float = 2e-4, min_lr: float = 0.0
) -> float:
    """Learning rate at `t` of `total` steps or epochs (MIR-L, arXiv 2510.14463, algorithm 1).

    ``lr * t / (warmup - 1)`` during the warm-up, so 0 at first, then half a cosine down to
    `min_lr` (Loshchilov & Hutter 2017, eq. 5).

    Parameters
    ----------
    t
        Step or epoch, from 0.
    total
        Number of steps or epochs, more than `warmup`.
    warmup
        Number of them that warm up.
    lr
        Learning rate after the warm-up.
    min_lr
        Learning rate at the end.

    Returns
    -------
    float
        The learning rate.

    Raises
    ------
    TypeError, ValueError
        No whole numbers from 0 on; `warmup` does not fit `total`; not 0 <= `min_lr` <= `lr`.
    """
    for name, count in (("t", t), ("total", total), ("warmup", warmup)):
        whole(name, count)
    for name, rate in (("lr", lr), ("min_lr", min_lr)):
        if not is_number(rate):
            raise TypeError(f"{name} must be a number, got {rate!r}")
    if not 0 <= min_lr <= lr < math.inf:
        raise ValueError(f"min_lr must lie in [0, lr], and lr be finite, got {min_lr} and {lr}")
    return _mirl.linear_warmup_cosine(t, total, warmup, lr, min_lr)
