"""The events of a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED = ("round_start", "epoch_start", "step", "epoch_end", "round_end", "close")
"""Methods without which nothing is a logger."""


class Logger:
    """What is told about a run; a subclass has the methods that it needs.

    Rounds and epochs count from 0, steps done from 1. Another class will do, too, where it has all of
    these methods but `fail`.
    """

    def round_start(self, round_: int, rounds: int, density: float) -> None:
        """Tell that a round begins, or is resumed: its network is pruned and rewound.

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
        """Tell that an epoch begins, or is resumed.

        Parameters
        ----------
        epoch, epochs
            Its number, and how many a round has.
        steps, done
            How many an epoch has, and after how many of them this one is resumed.
        """

    def step(self, step: int, loss: float, lr: float) -> None:
        """Tell that a step is done.

        Parameters
        ----------
        step
            How many of the epoch are done.
        loss, lr
            Of this one: the loss before it, and its learning rate.
        """

    def epoch_end(self, epoch: int, loss: float) -> None:
        """Tell that an epoch is done.

        Parameters
        ----------
        epoch
            Its number.
        loss
            The mean over its steps.
        """

    def round_end(self, record: dict[str, Any]) -> bool | None:
        """Tell that a round is done, measured and kept.

        Parameters
        ----------
        record
            Its line of ``record.jsonl``.

        Returns
        -------
        bool or None
            True where the run is to end with this round.
        """

    def fail(self) -> None:
        """Tell, before `close`, that the run did not come to its end."""

    def close(self) -> None:
        """Tell that the run is done, or was stopped."""


class Scalars(Logger):
    """What writes numbers: of every step, by how many of the run are done, and of every round."""

    round = first = steps = 0

    def write(self, values: dict[str, float], unit: str, place: int) -> None:
        """Write numbers by name, of that ``"step"`` of the run or that ``"round"``."""
        raise NotImplementedError

    def round_start(self, round_: int, rounds: int, density: float) -> None:
        """Write the density."""
        self.round = round_
        self.write({"density": density}, "round", round_)

    def epoch_start(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Count the steps before this epoch, and its own."""
        self.first = (self.round * epochs + epoch) * steps
        self.steps = steps

    def step(self, step: int, loss: float, lr: float) -> None:
        """Write loss and learning rate."""
        self.write({"loss/step": loss, "lr": lr}, "step", self.first + step)

    def epoch_end(self, epoch: int, loss: float) -> None:
        """Write the mean loss."""
        self.write({"loss/epoch": loss}, "step", self.first + self.steps)

    def round_end(self, record: dict[str, Any]) -> None:
        """Write the quality on every task."""
        quality = {
            f"{name}/{task}": value
            for task, metrics in record["metrics"].items()
            for name, value in metrics.items()
        }
        self.write(quality, "round", record["round"])


def close(loggers: Sequence[Logger], *, failed: bool = False) -> None:
    """Close them all, even where one raises."""
    with ExitStack() as stack:
        for logger in reversed(loggers):
            stack.callback(logger.close)
            if failed and hasattr(logger, "fail"):
                stack.callback(logger.fail)


@contextmanager
def closed_on_failure(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close loggers where what is within raises.

    Raises
    ------
    TypeError
        No list of loggers: before anything is done within.
    """
    if not isinstance(loggers, Sequence):
        kind = type(loggers).__name__
        raise TypeError(f"loggers must be a list of loggers, got {kind}")
    for logger in loggers:
        missing = [name for name in NEEDED if not callable(getattr(logger, name, None))]
        if missing:
            kind = type(logger).__name__
            raise TypeError(
                f"{kind} is no logger, it has no {', '.join(missing)}: make it a subclass of"
                " mirl.loggers.Logger"
            )
    try:
        yield
    except BaseException:
        close(loggers, failed=True)
        raise
