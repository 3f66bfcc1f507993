"""Learning-rate schedules."""

from __future__ import annotations

from mirl import _mirl
from mirl.checks import check_least


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
        No whole numbers from 0 on; `warmup` does not fit `total`.
    """
    check_least(0, t=t, total=total, warmup=warmup)
    return _mirl.linear_warmup_cosine(t, total, warmup, lr, min_lr)
