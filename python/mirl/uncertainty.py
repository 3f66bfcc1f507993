"""Weights of tasks that are trained together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PENALTY = 2.0
"""What ln σ counts in the loss, as in the published code of TUR."""
BETAS = (0.9, 0.999)
EPS = 1e-8


class TaskUncertainty:
    """Uncertainties of tasks, learned from their losses, that say what each task counts.

    What is minimised is the mean over the tasks t of a batch of ``L_t / σ_t + 2 ln σ_t`` (TUR, Wu et
    al., AAAI 2025), so that σ_t follows half the task's mean loss, and a task that is hard does not
    drown the others. Here ln σ_t is a number for each task (Kendall, Gal & Cipolla 2018, section
    3.2), learned by Adam; TUR predicts it from the image by a head that the network gets for it.

    Parameters
    ----------
    lr
        Learning rate of ln σ.

    Raises
    ------
    ValueError
        `lr` is not positive and finite.

    Examples
    --------
    >>> import mirl, numpy as np
    >>> loader = mirl.Loader.from_images(
    ...     [np.full((32, 32, 3), 99, np.uint8)], batch_size=4, patch_size=16
    ... )
    >>> model = mirl.PromptIR(
    ...     dim=8, num_blocks=(1, 1, 1, 1), prompt_dims=(8, 16, 40), prompt_sizes=(8, 4, 2)
    ... )
    >>> trainer, uncertainty = mirl.Trainer(model), mirl.TaskUncertainty()
    >>> for batch, (degraded, clean) in enumerate(loader.epoch(0)):
    ...     tasks = loader.tasks(0, batch)
    ...     loss = trainer.step(degraded, clean, uncertainty.weights(tasks))
    ...     uncertainty.update(tasks, trainer.losses)
    """

    def __init__(self, lr: float = 0.01) -> None:
        if not 0 < lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {lr}")
        self.lr = lr
        # Of each task: ln σ, both moments of its gradient, and how many of them there were.
        self._tasks: dict[str, list[float]] = {}

    def __repr__(self) -> str:
        sigmas = ", ".join(f"{task}: {sigma:.4g}" for task, sigma in self.sigmas.items())
        return f"TaskUncertainty(lr={self.lr}, sigmas={{{sigmas}}})"

    @property
    def sigmas(self) -> dict[str, float]:
        """The uncertainty σ of each task that was seen; 1 at first."""
        return {task: math.exp(state[0]) for task, state in self._tasks.items()}

    def weights(self, tasks: Sequence[str]) -> list[float]:
        """What the images of a batch count.

        Parameters
        ----------
        tasks
            The task of each image, as of `Loader.tasks`.

        Returns
        -------
        list of float
            For `Trainer.step`: N / (T n_t σ_t), of N images of T tasks, n_t of its own.
        """
        kinds = len(set(tasks))
        sigmas = self.sigmas
        return [len(tasks) / (kinds * tasks.count(task) * sigmas.get(task, 1.0)) for task in tasks]

    def update(self, tasks: Sequence[str], losses: Sequence[float]) -> None:
        """Learn from the losses of a batch.

        Parameters
        ----------
        tasks
            The task of each image, as of `Loader.tasks`.
        losses
            The loss of each image without its weight, as of `Trainer.losses`.

        Raises
        ------
        ValueError
            Not as many losses as tasks, or one that is not finite: nothing is learned.
        """
        if len(tasks) != len(losses):
            raise ValueError(f"{len(tasks)} tasks, but {len(losses)} losses")
        for task, loss in zip(tasks, losses, strict=True):
            if not math.isfinite(loss):
                raise ValueError(f"losses must be finite, got {loss} of {task!r}")
        for task in dict.fromkeys(tasks):
            mine = [loss for other, loss in zip(tasks, losses, strict=True) if other == task]
            s, first, second, count = self._tasks.get(task, [0.0, 0.0, 0.0, 0.0])
            gradient = PENALTY - math.exp(-s) * sum(mine) / len(mine)
            count += 1
            first += (1 - BETAS[0]) * (gradient - first)
            second += (1 - BETAS[1]) * (gradient**2 - second)
            mean, square = first / (1 - BETAS[0] ** count), second / (1 - BETAS[1] ** count)
            s -= self.lr * mean / (math.sqrt(square) + EPS)
            self._tasks[task] = [s, first, second, count]

    def state_dict(self) -> dict[str, list[float]]:
        """All that was learned.

        Returns
        -------
        dict
            Of each task ln σ, the two moments of its gradient and their number, as JSON holds them to
            the bit.
        """
        return {task: list(state) for task, state in self._tasks.items()}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Put back what was learned.

        Parameters
        ----------
        state
            What `state_dict` gave.

        Raises
        ------
        ValueError
            Not four finite numbers of a task, which is named; nothing is changed.
        """
        for task, values in state.items():
            if len(values) != 4 or not all(map(math.isfinite, values)):
                raise ValueError(f"state of {task!r} must be four finite numbers, got {values!r}")
        self._tasks = {task: list(values) for task, values in state.items()}
