"""Scalars for TensorBoard."""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mirl.extras import need
from mirl.loggers.base import Scalars

if TYPE_CHECKING:
    import os

NO_TENSORFLOW = "tensorboard.compat.notf"


class TensorBoard(Scalars):
    """Loss and learning rate of every step; density, PSNR and SSIM of every round.

    A run that is resumed tells the steps since its last checkpoint again.

    Parameters
    ----------
    folder
        Where the event files go.

    Raises
    ------
    ImportError
        The package tensorboard is not installed.
    ValueError
        The folder's name is no UTF-8, which TensorBoard wants.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        need("tensorboard", "tensorboard")
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{str(folder)!r} is no UTF-8, and TensorBoard cannot write there: choose another"
                " folder, or loggers without it"
            ) from None
        # TensorBoard imports TensorFlow where it is installed, which takes seconds and prints. With a
        # module of this name it writes the same files by itself.
        sys.modules.setdefault(NO_TENSORFLOW, ModuleType(NO_TENSORFLOW))
        from tensorboard.summary import Writer

        self._open = partial(Writer, str(folder))
        self.writer: Any = None

    def write(self, values: dict[str, float], unit: str, place: int) -> None:
        """Write scalars; open the file at the first."""
        if self.writer is None:
            # Not before: the folder may prove to be another run's.
            self.writer = self._open()
        for name, value in values.items():
            self.writer.add_scalar(name, value, place)
        if "loss/step" not in values:
            self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
