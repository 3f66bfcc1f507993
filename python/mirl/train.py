"""Training steps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mirl import _mirl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mirl.models import PromptIR


class StepSeconds(NamedTuple):
    """What the parts of a training step took, in seconds.

    On a GPU, from the second step of a shape on, a step is replayed as a whole, and all of its time
    is `backward`, unless the environment variable MIRL_CUDA_GRAPHS is 0.
    """

    forward: float
    """The network and the loss."""
    backward: float
    """The gradients."""
    optimizer: float
    """Norm of the gradients and AdamW."""


class Trainer:
    """L1 loss, backward and AdamW (Loshchilov & Hutter 2019, as PyTorch computes it).

    Masked weights and their moments stay exactly zero. A parameter that gets no gradient (the
    network's unused convolutions) is left alone, weight decay included.

    Parameters
    ----------
    model
        The network to train, in place.
    lr
        Learning rate; the attribute `lr` may be set between steps.
    betas, eps, weight_decay
        AdamW's, with PyTorch's defaults.
    clip_grad_norm
        Largest norm over all gradients at living weights; longer gradients are scaled down to it,
        as by PyTorch's ``clip_grad_norm_``.
    recompute
        ``"block"``: each half of a transformer block keeps nothing but its input and computes the
        rest again in the backward. The same bits for less memory and more time; for large patches.
    precision
        ``"float32"``, or on a GPU ``"bfloat16"``: what goes from operator to operator, and the
        operands of matrix products, are rounded to it; weights, their gradients, moments and all
        sums are float32.

    Raises
    ------
    ValueError
        A setting out of range.
    mirl.errors.DeviceError
        ``"bfloat16"`` for a network on the processor.
    """

    def __init__(
        self,
        model: PromptIR,
        lr: float = 2e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip_grad_norm: float | None = None,
        recompute: str | None = None,
        precision: str = "float32",
    ) -> None:
        if recompute not in (None, "block"):
            raise ValueError(f"recompute must be None or 'block', got {recompute!r}")
        self.model = model
        self.lr = lr
        self._trainer = _mirl.Trainer(
            model._network,
            betas,
            eps,
            weight_decay,
            clip_grad_norm,
            recompute is not None,
            precision,
        )

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return self._trainer.steps

    @property
    def seconds(self) -> StepSeconds:
        """Seconds that the parts of the last step took; zeros before the first."""
        return StepSeconds(*self._trainer.seconds)

    def step(self, degraded: NDArray[np.float32], clean: NDArray[np.float32]) -> float:
        """Train on one batch.

        Parameters
        ----------
        degraded, clean
            float32, both of one shape (N, 3, H, W), RGB in [0, 1].

        Returns
        -------
        float
            The mean absolute error before the step.

        Raises
        ------
        mirl.errors.DivergenceError
            The loss or a gradient is NaN or infinite: the message names the step (from 0), and the
            network is as before it.
        TypeError, ValueError
            Arrays that do not fit.
        """
        return self._trainer.step(degraded, clean, self.lr)

    def save_checkpoint(self, path: str | os.PathLike[str], progress: str = "") -> None:
        """Write parameters, masks, moments and step count, to continue to the bit.

        The file appears whole or not at all; one that was there stays until then.

        Parameters
        ----------
        path
            Where to write the safetensors file.
        progress
            The caller's own place in words, kept as it is.
        """
        self._trainer.save_checkpoint(os.fspath(path), progress)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> str:
        """Put a checkpoint back.

        Returns
        -------
        str
            The progress that was saved with it.

        Raises
        ------
        mirl.errors.FormatError
            The file is damaged, no checkpoint, or of a network of other sizes. Nothing is changed.
        """
        return self._trainer.load_checkpoint(os.fspath(path))
