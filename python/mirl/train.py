"""Training steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from mirl import _mirl
from mirl.arrays import FloatArray, as_array
from mirl.checks import check_choice, check_least, check_switches, finite, two_numbers
from mirl.choices import Precision
from mirl.models import check_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirl.choices import LossName, Recompute
    from mirl.models import Network

Images: TypeAlias = NDArray[np.float32]
LossFunction: TypeAlias = Callable[[Images, Images], tuple[Any, Any]]
"""The loss of each image and its gradient, by restored and clean images."""


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
    """Loss, backward and AdamW (Loshchilov & Hutter 2019, as PyTorch computes it).

    Masked weights and their moments stay exactly zero. A parameter that gets no gradient (the
    network's unused convolutions) is left alone, weight decay included.

    Parameters
    ----------
    model
        The network to train, in place.
    lr
        Learning rate, at least 0; the attribute `lr` may be set between steps.
    loss
        What is minimised, the mean over the images of a batch: ``"l1"``, the mean absolute error;
        ``"l2"``, squared; ``"charbonnier"``, of √(e² + ε²) with ε = 1e-3 (Lai et al. 2017);
        ``"ssim"``, 1 - `mirl.ssim`; ``"fft-l1"``, the mean absolute error of real and imaginary parts
        of the spectra (Cho et al. 2021). Or several with their weights: ``{"l1": 1, "fft-l1": 0.1}``.
        Or a function of your own, ``(restored, clean) -> (losses, gradient)``, of float32 arrays
        (n, 3, H, W), of which `restored` is not clipped: `losses` (n,) has the loss of each image, and
        `gradient` (n, 3, H, W) that of their sum by `restored`: arrays, or what DLPack views as such.
    betas, eps, weight_decay
        AdamW's, with PyTorch's defaults: in [0, 1), positive, and at least 0.
    clip_grad_norm
        Largest norm over all gradients at living weights, positive; longer gradients are scaled
        down to it, as by PyTorch's ``clip_grad_norm_``.
    recompute
        ``"block"``: transformer blocks keep nothing but their input and compute the rest again in
        the backward. The same bits for less memory and more time; for large batches.
    micro_batch
        Largest number of images whose gradients are computed at once: larger batches are taken in
        parts, and their gradients summed (gradient accumulation), in less memory.
    ema_decay
        Decay of an exponential moving average of the weights, in (0, 1), or (1 + t)/(10 + t) after
        step t as long as that is less; see `average`.
    movement
        Whether to sum up `movement` scores, in as much memory as the weights.
    precision
        ``"float32"`` or ``"bfloat16"``: the operands of matrix products are rounded to it, and the
        results of the first convolution of each half of a block; on a GPU all that goes from operator
        to operator. Weights, their gradients, moments and all sums are float32. On a processor it takes
        less memory, and is faster where that multiplies bfloat16 faster than float32, as
        `mirl.devices` tells: Intel's with AMX on Linux, AMD's with AVX512_BF16.

    Raises
    ------
    ValueError
        A setting out of range.
    TypeError
        A setting of another type.
    """

    def __init__(
        self,
        model: Network,
        lr: float = 2e-4,
        *,
        loss: LossName | Mapping[LossName, float] | LossFunction = "l1",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip_grad_norm: float | None = None,
        recompute: Recompute | None = None,
        precision: Precision = "float32",
        micro_batch: int | None = None,
        ema_decay: float | None = None,
        movement: bool = False,
    ) -> None:
        if recompute not in (None, "block"):
            raise ValueError(f"recompute must be None or 'block', got {recompute!r}")
        check_switches(movement=movement)
        check_model(model)
        check_choice("precision", precision, get_args(Precision))
        check_least(1, micro_batch=micro_batch)
        self.model = model
        self.lr = lr
        self._loss = loss if callable(loss) else None
        self._trainer = _mirl.Trainer(
            model._network,
            _terms(loss),
            two_numbers("betas", betas),
            finite("eps", eps),
            finite("weight_decay", weight_decay),
            None if clip_grad_norm is None else finite("clip_grad_norm", clip_grad_norm),
            recompute is not None,
            precision,
            micro_batch,
            None if ema_decay is None else finite("ema_decay", ema_decay),
            movement,
        )

    def __repr__(self) -> str:
        return f"Trainer(lr={self.lr}, steps={self.steps}, {self.model!r})"

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        rate = finite("lr", lr)
        if rate < 0:
            raise ValueError(f"lr must be at least 0, got {rate}")
        self._lr = rate

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return self._trainer.steps

    @property
    def seconds(self) -> StepSeconds:
        """Seconds that the parts of the last step took; zeros before the first."""
        return StepSeconds(*self._trainer.seconds)

    @property
    def losses(self) -> list[float]:
        """The loss of each image of the last batch, without its weight."""
        return self._trainer.losses

    def step(
        self,
        degraded: FloatArray,
        clean: FloatArray,
        weights: Sequence[float] | NDArray[Any] | None = None,
    ) -> float:
        """Train on one batch.

        Parameters
        ----------
        degraded, clean
            float32, both of one shape (N, 3, H, W), RGB in [0, 1]; or what DLPack views as such.
            Noise and resampling may leave that: degraded values in [-1, 2] are taken, and clean ones
            in [-0.5, 1.5].
        weights
            What the loss of each image counts, at least 0; by default 1.

        Returns
        -------
        float
            The loss before the step: the mean over the images, each times its weight.

        Raises
        ------
        mirl.errors.DivergenceError
            The loss or a gradient is NaN or infinite: the message names the step (from 0), and the
            network is as before it.
        KeyboardInterrupt
            Ctrl-C. The step may have been taken all the same: `steps` tells.
        TypeError, ValueError
            Arrays that do not fit, an `lr` beyond float32, or what a loss of your own returns.
            Whatever such a loss raises, the network is as before the step, too.
        """
        counts = None if weights is None else _counts(weights)
        images = as_array(degraded, "degraded"), as_array(clean, "clean")
        if self._loss is None:
            return self._trainer.step(*images, counts, self.lr)
        # A step by a loss that Python computes.
        step = self._trainer.begin(*images, counts, self.lr)
        while part := step.restore():
            step.backward(*_checked(self._loss(*part), part[0].shape))
        return self._trainer.finish(step)

    def average(self) -> dict[str, NDArray[np.float32]]:
        """The exponential moving average of all parameters.

        Returns
        -------
        dict
            float32 arrays by parameter name.

        Raises
        ------
        ValueError
            The trainer was made without `ema_decay`.
        """
        average = self._trainer.average()
        if average is None:
            raise ValueError("this trainer keeps no average of the weights: make it with ema_decay")
        return average

    def movement(self) -> dict[str, NDArray[np.float32]]:
        """Movement scores: -Σ g w over all steps (Sanh et al. 2020, eq. 2).

        Large where training moves a weight away from zero; the gradients are those of the loss,
        before clipping. What `mirl.prune` takes as `criterion`.

        Returns
        -------
        dict
            float32 arrays by parameter name.

        Raises
        ------
        ValueError
            The trainer was made without ``movement=True``.
        """
        scores = self._trainer.movement()
        if scores is None:
            raise ValueError("this trainer sums no movement scores up: make it with movement=True")
        return scores

    def save_checkpoint(self, path: str | os.PathLike[str], progress: str = "") -> None:
        """Write parameters, masks, moments and step count, to continue to the bit.

        The file appears whole or not at all; one that was there stays until then. Settings of the
        trainer and its `lr` are not in it: make the one that goes on with the same. What has been
        pruned since the last step has no moments and no average in the file; here it keeps them until
        the next step.

        Parameters
        ----------
        path
            Where to write the safetensors file.
        progress
            The caller's own place in words, kept as it is.

        Raises
        ------
        OSError
            The file cannot be written.
        TypeError
            `progress` is not a string.
        """
        if not isinstance(progress, str):
            raise TypeError(f"progress must be a string, got {type(progress).__name__}")
        self._trainer.save_checkpoint(os.fspath(path), progress)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> str:
        """Put a checkpoint back: all but the settings of the trainer, and its `lr`.

        An average in it is passed over where this trainer has no `ema_decay`.

        Parameters
        ----------
        path
            What `save_checkpoint` wrote.

        Returns
        -------
        str
            The progress that was saved with it.

        Raises
        ------
        mirl.errors.FormatError
            The file is damaged, no checkpoint, or of a network of other sizes. Nothing is changed.
        OSError
            The file cannot be read.
        """
        return self._trainer.load_checkpoint(os.fspath(path))


def loss_weights(loss: Mapping[str, Any]) -> dict[str, float]:
    """The weights of losses by their names; raises for one that is not a finite number."""
    return {name: finite(f"weight of the loss {name!r}", each) for name, each in loss.items()}


def _counts(weights: Any) -> list[float]:
    """What each image counts; TypeError where these are not numbers."""
    try:
        return [float(weight) for weight in weights]
    except (TypeError, ValueError):
        raise TypeError(f"weights must be a number for each image, got {weights!r}") from None


def _terms(loss: Any) -> list[tuple[str, float]] | None:
    """Names and weights of losses; None for one that is not the package's."""
    if isinstance(loss, str):
        return [(loss, 1.0)]
    if isinstance(loss, Mapping):
        return list(loss_weights(loss).items())
    if callable(loss):
        return None
    kind = type(loss).__name__
    raise TypeError(f"loss must be a name, weights by name, or a function, got {kind}")


def _checked(found: Any, shape: tuple[int, ...]) -> tuple[list[float], Images]:
    """What a loss has returned for restored images of this shape."""
    if not isinstance(found, tuple) or len(found) != 2:
        kind = type(found).__name__
        raise TypeError(f"loss must return (losses, gradient), got {kind}")
    losses = np.asarray(as_array(found[0], "losses"))
    if losses.shape != shape[:1]:
        raise ValueError(
            f"loss must return one loss for each of {shape[0]} images, got shape {losses.shape}"
        )
    gradient = np.asarray(as_array(found[1], "gradient"))
    if gradient.shape != shape:
        raise ValueError(
            f"loss must return a gradient of the shape {shape} of the restored images,"
            f" got {gradient.shape}"
        )
    for name, values in (("losses", losses), ("gradient", gradient)):
        if not np.issubdtype(values.dtype, np.floating):
            raise TypeError(f"{name}: expected floating-point numbers, got {values.dtype}")
    return losses.astype(np.float64).tolist(), gradient.astype(np.float32, copy=False)
