"""What is measured after each round, by whatever `mirl.find_ticket` takes as `evaluate`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from mirl.checks import is_number
from mirl.evaluate import Evaluation, check_data
from mirl.evaluate import evaluate as by_data

if TYPE_CHECKING:
    from mirl.models import Network

Metrics = dict[str, dict[str, float]]
"""Numbers by their names, by task."""

WANTED = 'evaluate must return a mirl.Evaluation or {task: {"psnr": …, "ssim": …}}'


def check_evaluate(evaluate: Any) -> None:
    """Raise where nothing can be measured by it, or but once, as far as that shows without a network.

    Raises
    ------
    TypeError, ValueError, OSError
        What `mirl.evaluate` would raise of such data; an iterator; a function that takes something
        else than a network.
    """
    if evaluate is None:
        return
    if callable(evaluate):
        try:
            signature(evaluate).bind(None)
        except TypeError:
            raise TypeError(
                "evaluate must be a function of the network alone, or data: it cannot be called"
                " with one argument"
            ) from None
        except ValueError:  # one of C tells nothing
            return
        return
    check_data(evaluate, what="evaluate")
    for data in evaluate.values() if isinstance(evaluate, Mapping) else [evaluate]:
        if isinstance(data, Iterator):
            kind = type(data).__name__
            raise TypeError(f"evaluate must be iterable anew after each round; {kind} is but once")


def measure(evaluate: Any, model: Network) -> Metrics:
    """What a network comes to, as JSON holds it.

    Raises
    ------
    TypeError
        A function has returned something else than numbers by task.
    """
    if evaluate is None:
        return {}
    found = evaluate(model) if callable(evaluate) else by_data(model, evaluate, progress=False)
    return _checked(found.metrics if isinstance(found, Evaluation) else found)


def _checked(found: Any) -> Metrics:
    if not isinstance(found, Mapping):
        raise TypeError(f"{WANTED}, got {type(found).__name__}")
    metrics: Metrics = {}
    for task, measured in found.items():
        if not isinstance(task, str) or not isinstance(measured, Mapping):
            raise TypeError(f"{WANTED}, got {type(measured).__name__} for {task!r}")
        metrics[task] = {}
        for name, value in measured.items():
            number = _number(value)
            if not isinstance(name, str) or not is_number(number):
                raise TypeError(f"{WANTED}, got {value!r} for {name!r} of {task!r}")
            # NaN is no measure; null of record.jsonl is infinity.
            if number > -math.inf:
                metrics[task][name] = float(number)
    return metrics


def _number(value: Any) -> Any:
    """The one number that a tensor holds, wherever it lies; all else is given back as it is."""
    try:
        return value.item()
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return value
