"""The course of a run as a file that needs nothing to be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mirl.io import write_text
from mirl.loggers.base import Logger

if TYPE_CHECKING:
    import os


class JsonLines(Logger):
    """One JSON line a step: round, epoch, step, loss, learning rate.

    A resumed run goes on where its checkpoint stands; lines of steps after it are taken back. In a
    loop of your own, `step` alone will do: round and epoch are 0 then.

    Parameters
    ----------
    path
        The file, usually ``steps.jsonl``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.file: TextIO | None = None
        self.round = self.epoch = 0

    def __repr__(self) -> str:
        return f"JsonLines({str(self.path)!r})"

    def round_start(self, round_: int, rounds: int, density: float) -> None:
        """Remember which round it is."""
        self.round = round_

    def epoch_start(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Remember which epoch it is."""
        self.epoch = epoch

    def step(self, step: int, loss: float, lr: float) -> None:
        """Write a line; open the file at the first."""
        line = {"round": self.round, "epoch": self.epoch, "step": step, "loss": loss, "lr": lr}
        if self.file is None:
            self._keep_before((self.round, self.epoch, step))
            # By lines: a killed run must not lose what its checkpoint knows.
            self.file = self.path.open("a", buffering=1, encoding="utf-8")
        self.file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def _keep_before(self, place: tuple[int, int, int]) -> None:
        if not self.path.exists():
            return
        lines = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                held = json.loads(line)
                before = (held["round"], held["epoch"], held["step"]) < place
            except (LookupError, TypeError, ValueError):
                continue  # half a line, as of a run that was killed, or a damaged one
            if before:
                lines.append(line + "\n")
        write_text(self.path, "".join(lines))
