"""Scalars for TensorBoard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os


class TensorBoard:
    """Loss and learning rate of every step; density, PSNR and SSIM of every round.

    Parameters
    ----------
    folder
        Where the event files go.

    Raises
    ------
    ImportError
        The package tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            message = 'TensorBoard is not installed: pip install "mirl[tensorboard]"'
            raise ImportError(message) from error
        self._open = partial(Writer, str(folder))
        self.writer: Any = None
        self.round = self.first = 0

    def round_start(self, round_: int, rounds: int, density: float) -> None:
        """Write the density; open the file at the first."""
        if self.writer is None:
            # Not before: the folder may prove to be another run's.
            self.writer = self._open()
        self.round = round_
        self.writer.add_scalar("density", density, round_)

    def epoch_start(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Count the steps before this epoch."""
        self.first = (self.round * epochs + epoch) * steps

    def step(self, step: int, loss: float, lr: float) -> None:
        """Write loss and learning rate."""
        self.writer.add_scalar("loss/step", loss, self.first + step)
        self.writer.add_scalar("lr", lr, self.first + step)

    def epoch_end(self, epoch: int, loss: float) -> None:
        """Write the mean loss, and everything to the disk."""
        self.writer.add_scalar("loss/epoch", loss, self.first)
        self.writer.flush()

    def round_end(self, record: dict[str, Any]) -> None:
        """Write the quality on every task."""
        for task, metrics in record["metrics"].items():
            for name, value in metrics.items():
                self.writer.add_scalar(f"{name}/{task}", value, record["round"])
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
