"""Numbers that arguments must be, looked at before anything is done."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

MOST = 2**63 - 1
"""The largest whole number that files and the core take."""


def whole(name: str, value: Any, least: int = 0) -> int:
    """Give a whole number, of numpy or not, as an int.

    Raises
    ------
    TypeError
        Not a whole number.
    ValueError
        It is less than `least`, or more than 64 bits hold.
    """
    given: Any = None if isinstance(value, bool) else value  # which Python takes for 0 and 1
    try:
        number = operator.index(given)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    if number > MOST:
        raise ValueError(f"{name} must be less than 2**63, got {value}")
    return number


def wholes(name: str, values: Any, count: int) -> list[int]:
    """Give so many whole numbers from 0 on as a list; errors are those of `whole`."""
    try:
        each = list(values)
    except TypeError:
        raise TypeError(f"{name} must be {count} whole numbers, got {values!r}") from None
    if len(each) != count:
        raise ValueError(f"{name} must be {count} whole numbers, got {values!r}")
    return [whole(name, value) for value in each]


def check_least(least: int, **settings: Any) -> None:
    """Raise as `whole` for a setting that is not at least this; None, its default, passes."""
    for name, value in settings.items():
        if value is not None:
            whole(name, value, least)


def check_switches(**settings: Any) -> None:
    """Raise a TypeError for a setting that is neither True nor False, of numpy or not."""
    for name, value in settings.items():
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise a ValueError for a setting that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")


def finite(name: str, value: Any) -> float:
    """Give a number, of numpy or not, or a tensor of no dimension, as a float.

    Raises
    ------
    TypeError
        Not a number.
    ValueError
        It is infinite, or NaN.
    """
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def two_numbers(name: str, values: Any) -> tuple[float, float]:
    """Give a sequence of two numbers as a tuple; TypeError where it is not."""
    if not isinstance(values, Sequence) or len(values) != 2 or not all(map(is_number, values)):
        raise TypeError(f"{name} must be two numbers, got {values!r}")
    return float(values[0]), float(values[1])


def is_number(value: Any) -> bool:
    """Whether it is a real number, of numpy or not; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)
