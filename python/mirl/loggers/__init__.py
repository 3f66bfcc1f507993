"""What is told about a run while it runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mirl.loggers.base import Logger
from mirl.loggers.jsonl import JsonLines
from mirl.loggers.progress import ProgressBars
from mirl.loggers.tensorboard import TensorBoard
from mirl.loggers.wandb import WeightsAndBiases

if TYPE_CHECKING:
    import os

__all__ = [
    "JsonLines",
    "Logger",
    "ProgressBars",
    "TensorBoard",
    "WeightsAndBiases",
    "default_loggers",
]


def default_loggers(
    folder: str | os.PathLike[str] | None, *, progress: bool = True
) -> list[Logger]:
    """Make the loggers of a run that is given none.

    Parameters
    ----------
    folder
        Of the run: with one, its steps are written there, as ``steps.jsonl`` and, where TensorBoard
        is installed, to ``tensorboard/``.
    progress
        Whether to show progress bars.

    Returns
    -------
    list of Logger
        For ``loggers`` of `mirl.find_ticket`, alone or with others.
    """
    loggers: list[Logger] = [ProgressBars(progress)]
    if folder is not None:
        loggers.append(JsonLines(Path(folder, "steps.jsonl")))
        if find_spec("tensorboard") is not None:
            loggers.append(TensorBoard(Path(folder, "tensorboard")))
    return loggers
