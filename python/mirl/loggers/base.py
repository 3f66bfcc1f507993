"""The events of a run."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence


class Logger(Protocol):
    """Whatever wants to be told about a run; rounds and epochs count from 0, steps done from 1.

    One that has a method ``fail``, too, is told by it before `close` that the run did not come to its
    end.
    """

    def round_start(self, round_: int, rounds: int, density: float) -> None:
        """Tell that a round begins, or is resumed.

        Parameters
        ----------
        round_
            0 trains the dense network.
        rounds
            The last round.
        density
            Share of all parameters that is alive, in [0, 1].
        """

    def epoch_start(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Tell that an epoch begins, or is resumed after `done` of its `steps`."""

    def step(self, step: int, loss: float, lr: float) -> None:
        """Tell that `step` of the epoch's steps are done, the last one at learning rate `lr`."""

    def epoch_end(self, epoch: int, loss: float) -> None:
        """Tell that an epoch is done; `loss` is its mean."""

    def round_end(self, record: dict[str, Any]) -> None:
        """Tell that a round is done; `record` is its line of ``record.jsonl``."""

    def close(self) -> None:
        """Tell that the run is done, or was stopped."""


def default_loggers(
    folder: str | os.PathLike[str] | None, *, progress: bool = True
) -> list[Logger]:
    """Make progress bars; with a folder also a file of losses and, if installed, TensorBoard's."""
    from importlib.util import find_spec

    from mirl.loggers.jsonl import JsonLines
    from mirl.loggers.progress import ProgressBars
    from mirl.loggers.tensorboard import TensorBoard

    loggers: list[Logger] = [ProgressBars(progress)]
    if folder is not None:
        folder = Path(folder)
        loggers.append(JsonLines(folder / "steps.jsonl"))
        if find_spec("tensorboard") is not None:
            loggers.append(TensorBoard(folder / "tensorboard"))
    return loggers


def close(loggers: Sequence[Logger], *, failed: bool = False) -> None:
    """Close them all, even where one raises."""
    with ExitStack() as stack:
        for logger in reversed(loggers):
            stack.callback(logger.close)
            if failed and hasattr(logger, "fail"):
                stack.callback(logger.fail)


@contextmanager
def closed_on_failure(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close them where what is within raises."""
    try:
        yield
    except BaseException:
        close(loggers, failed=True)
        raise
