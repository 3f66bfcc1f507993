"""Scalars for Weights & Biases."""

from __future__ import annotations

from typing import Any

from mirl.extras import need
from mirl.loggers.base import Scalars


class WeightsAndBiases(Scalars):
    """Loss and learning rate of every step; density and all that is measured of every round.

    Parameters
    ----------
    project
        Where the run is listed.
    **settings
        What else ``wandb.init`` takes: ``name``, ``group``, ``mode="offline"``. With an ``id`` a
        run that is resumed goes on there, too.

    Raises
    ------
    ImportError
        The package wandb is not installed.
    """

    def __init__(self, project: str, **settings: Any) -> None:
        need("wandb", "wandb")
        import wandb

        self.run = wandb.init(project=project, **({"resume": "allow"} | settings))
        self.known: set[str] = set()
        self.failed = False

    def write(self, values: dict[str, float], unit: str, place: int) -> None:
        """Send numbers, each counted by its unit."""
        for name in values.keys() - self.known:
            self.run.define_metric(name, step_metric=unit)
        self.known |= values.keys()
        self.run.log({unit: place, **values})

    def fail(self) -> None:
        """Remember that the run was stopped or has failed."""
        self.failed = True

    def close(self) -> None:
        """End the run, as finished or as failed."""
        self.run.finish(exit_code=int(self.failed))
