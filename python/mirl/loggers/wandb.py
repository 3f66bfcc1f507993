"""Scalars for Weights & Biases."""

from __future__ import annotations

from typing import Any


class WeightsAndBiases:
    """Loss and learning rate of every step; density, PSNR and SSIM of every round.

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
        try:
            import wandb
        except ImportError as error:
            message = 'Weights & Biases is not installed: pip install "mirl[wandb]"'
            raise ImportError(message) from error
        self.run = wandb.init(project=project, **({"resume": "allow"} | settings))
        for metric, counted in (("density", "round"), ("psnr/*", "round"), ("ssim/*", "round")):
            self.run.define_metric(metric, step_metric=counted)
        for metric in ("loss/*", "lr"):
            self.run.define_metric(metric, step_metric="step")
        self.round = self.first = 0
        self.failed = False

    def round_start(self, round_: int, rounds: int, density: float) -> None:
        """Send the density."""
        self.round = round_
        self.run.log({"round": round_, "density": density})

    def epoch_start(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Count the steps before this epoch."""
        self.first = (self.round * epochs + epoch) * steps

    def step(self, step: int, loss: float, lr: float) -> None:
        """Send loss and learning rate."""
        self.run.log({"step": self.first + step, "loss/step": loss, "lr": lr})

    def epoch_end(self, epoch: int, loss: float) -> None:
        """Send the mean loss."""
        self.run.log({"step": self.first, "loss/epoch": loss})

    def round_end(self, record: dict[str, Any]) -> None:
        """Send the quality on every task."""
        quality = {
            f"{name}/{task}": value
            for task, metrics in record["metrics"].items()
            for name, value in metrics.items()
        }
        self.run.log({"round": record["round"], **quality})

    def fail(self) -> None:
        """Remember that the run was stopped or has failed."""
        self.failed = True

    def close(self) -> None:
        """End the run, as finished or as failed."""
        self.run.finish(exit_code=int(self.failed))
