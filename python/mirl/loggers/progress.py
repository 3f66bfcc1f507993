"""Progress bars in a terminal and in Jupyter."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from mirl.checks import check_switches
from mirl.loggers.base import Logger
from mirl.terminal import bar, redraws, say


class ProgressBars(Logger):
    """Three nested bars: rounds, epochs of the round, steps of the epoch.

    Where stderr is neither a terminal nor a notebook's, a line for each epoch instead.

    Parameters
    ----------
    progress
        Whether to show them.

    Raises
    ------
    TypeError
        `progress` is neither True nor False.
    """

    def __init__(self, progress: bool = True) -> None:
        check_switches(progress=progress)
        self._bars = progress and redraws()
        self._lines = progress and not self._bars
        self._round = self._epoch = ""

    def __repr__(self) -> str:
        return f"ProgressBars({self._bars or self._lines})"

    # Each is made when it is first told of: a run that is refused draws none.

    @cached_property
    def rounds(self) -> Any:
        """The bar of the rounds."""
        return self._bar("round", 0)

    @cached_property
    def epochs(self) -> Any:
        """The bar of the epochs of a round."""
        return self._bar("epoch", 1)

    @cached_property
    def steps(self) -> Any:
        """The bar of the steps of an epoch."""
        return self._bar("step", 2)

    def _bar(self, unit: str, position: int) -> Any:
        return bar(
            self._bars,
            desc=f"{unit:<5}",
            unit=unit,
            position=position,
            leave=position == 0,
            dynamic_ncols=True,
            delay=1e-9,  # no empty bar before its total is known
        )

    def round_start(self, round_: int, rounds: int, density: float) -> None:
        """Show which round it is and how much of the network is alive."""
        self._round = f"round {round_} of {rounds}, density {density:.1%}"
        if self.rounds.total is None:
            # Rounds before a resumed one took no time now.
            self.rounds.initial = round_
            self.rounds.reset(rounds + 1)
        _move(self.rounds, round_)
        self.rounds.set_postfix_str(f"density {density:.1%}")

    def epoch_start(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Start the bar of the epoch's steps, and at the first epoch of a round that of the epochs."""
        self._epoch = f"epoch {epoch + 1} of {epochs}"
        if epoch != self.epochs.n or self.epochs.total is None:
            self.epochs.initial = epoch
            self.epochs.reset(epochs)
            _move(self.epochs, epoch)
        self.steps.initial = done
        self.steps.reset(steps)
        _move(self.steps, done)

    def step(self, step: int, loss: float, lr: float) -> None:
        """Advance by a step."""
        self.steps.set_postfix_str(f"loss {loss:.4f}, lr {lr:.1e}", refresh=False)
        self.steps.update()

    def epoch_end(self, epoch: int, loss: float) -> None:
        """Advance by an epoch."""
        self.epochs.update()
        self.epochs.set_postfix_str(f"loss {loss:.4f}")
        self.rounds.refresh()
        if self._lines:
            say(f"{self._round}, {self._epoch}, loss {loss:.4f}")

    def round_end(self, record: dict[str, Any]) -> None:
        """Advance by a round."""
        self.rounds.update()

    def close(self) -> None:
        """Take the bars away; that of the rounds stays."""
        for name in ("steps", "epochs", "rounds"):
            if name in vars(self):
                getattr(self, name).close()


def _move(bar: Any, place: int) -> None:
    bar.n = place
    bar.refresh()
