"""
The Rust core of mirl. Private: use the functions and classes of `mirl`.
"""

from os import PathLike
from typing import Any, Final, SupportsFloat, SupportsIndex, final

import numpy
from _typeshed import SupportsGetItem
from numpy.typing import NDArray

__all__ = [
    "Batches",
    "DeviceError",
    "DivergenceError",
    "FormatError",
    "InternalError",
    "Loader",
    "Network",
    "OwnLoss",
    "Snapshot",
    "Trainer",
    "VERSION",
    "check_degradation",
    "degrade",
    "get_num_threads",
    "gpu_memory",
    "gpu_name",
    "gpu_peak",
    "image_size",
    "is_debug_build",
    "linear_warmup_cosine",
    "psnr",
    "read_image",
    "read_rgb8",
    "reset_gpu_peak",
    "set_num_threads",
    "set_tf32",
    "simd",
    "ssim",
    "tf32",
    "write_image",
]
VERSION: Final[str]

@final
class Batches:
    def __iter__(self, /) -> Batches: ...
    def __next__(self, /) -> tuple[Any, Any]: ...

@final
class Loader:
    def __new__(
        cls,
        /,
        sources: list[str | NDArray[numpy.uint8]],
        samples: SupportsGetItem[int, tuple[SupportsIndex, SupportsIndex | None, str | None]],
        batch_size: SupportsIndex,
        patch_size: SupportsIndex,
        augment: str,
        seed: SupportsIndex,
        on_error: str,
        prefetch: SupportsIndex,
        cache_bytes: SupportsIndex,
    ) -> Loader:
        """
        `sources` are paths or uint8 arrays (H, W, 3); `samples` name a clean source and either a
        degraded one or a degradation ("noise:25", "blur:1-3+jpeg:50").
        """
    @property
    def batches(self, /) -> int: ...
    def epoch(self, /, epoch: SupportsIndex, start: SupportsIndex) -> Batches: ...
    def order(self, /, epoch: SupportsIndex) -> list[int]:
        """
        The samples in the order of an epoch, by their numbers among those that were given.
        """
    def take_skipped(self, /) -> list[str]:
        """
        Messages about images that were skipped since the last call.
        """

@final
class Network:
    def __new__(cls, /, name: str, config: str, seed: SupportsIndex | None) -> Network:
        """
        A network by its name, of the sizes in `config` (JSON), initialised from `seed`; without one all
        values are zero.
        """
    @property
    def channels(self, /) -> int:
        """
        The most channels that images have at full resolution between two layers.
        """
    @property
    def config(self, /) -> str: ...
    @property
    def device(self, /) -> str:
        """
        "cpu" or "cuda".
        """
    @property
    def ends(self, /) -> list[str]:
        """
        Names of the first and the last convolution's weights, which all goes through on its way to what is
        added to the images.
        """
    def gradients(
        self, /, degraded: NDArray[numpy.float32], clean: NDArray[numpy.float32]
    ) -> dict[str, NDArray[numpy.float32]]:
        """
        The gradient of the L1 loss by every parameter that it depends on.
        """
    @staticmethod
    def infer(state: dict[str, NDArray[numpy.float32]]) -> tuple[str, str]:
        """
        Name and sizes (JSON) of the network that a state dict belongs to.
        """
    def is_unused(self, /, name: str) -> bool: ...
    @staticmethod
    def load(path: str | PathLike[str]) -> Network:
        """
        The network in a safetensors file.
        """
    def load_state_dict(
        self, /, state: dict[str, NDArray[numpy.float32]], strict: bool
    ) -> None: ...
    def masks(self, /) -> dict[str, NDArray[numpy.bool_]]:
        """
        Boolean arrays of the pruned parameters, True where alive.
        """
    def masks_from_zeros(self, /) -> None:
        """
        Takes the zeros of prunable parameters for pruned weights.
        """
    @property
    def multiple(self, /) -> int:
        """
        Height and width of what it restores are padded to multiples of this.
        """
    @property
    def name(self, /) -> str:
        """
        "PromptIR" or another.
        """
    def parameters(self, /) -> list[tuple[str, list[int]]]:
        """
        Names and shapes, in order.
        """
    def prune(
        self,
        /,
        names: SupportsGetItem[int, str],
        scores: dict[str, NDArray[numpy.float32]] | None,
        since: SupportsGetItem[int, SupportsIndex] | None,
        amount: SupportsFloat | SupportsIndex,
        scope: str,
        granularity: str,
        pattern: tuple[SupportsIndex, SupportsIndex],
        threshold: str,
        alive: str,
        output_rate: SupportsFloat | SupportsIndex,
        min_density: SupportsFloat | SupportsIndex,
    ) -> None:
        """
        Removes weights of the named parameters, by scores where there are any. `since` is how many units
        there were of each, where `amount` is not a share of those alive; `pattern` is N and M of granularity
        "pattern".
        """
    def report(
        self, /, names: SupportsGetItem[int, str]
    ) -> tuple[list[tuple[str, int, int]], int, int]:
        """
        Counts by mask, of these parameters.
        """
    def resize(self, /, config: str) -> None:
        """
        Changes sizes (JSON) that no parameter depends on.
        """
    def restore(self, /, images: NDArray[numpy.float32], precision: str) -> NDArray[numpy.float32]:
        """
        Restored images, not clipped, by products in `precision`.
        """
    def rewind(
        self, /, snapshot: Snapshot, biases: bool, prompts: bool, temperatures: bool
    ) -> None: ...
    def rounded(self, /, dtype: str) -> Network:
        """
        A copy on the processor whose values are rounded to "float16" or "bfloat16".
        """
    def save(self, /, path: str | PathLike[str], metadata: dict[str, str]) -> None:
        """
        Writes every value to a safetensors file, with further metadata.
        """
    def save_packed(
        self, /, path: str | PathLike[str], dtype: str, unused: bool, metadata: dict[str, str]
    ) -> None:
        """
        Writes what is alive, as "float32", "float16" or "bfloat16"; parameters that the forward never
        uses only where `unused`.
        """
    def set_masks(self, /, masks: dict[str, NDArray[numpy.bool_]]) -> None: ...
    def snapshot(self, /) -> Snapshot: ...
    def state_dict(self, /) -> dict[str, NDArray[numpy.float32]]: ...
    def to(self, /, device: str) -> None:
        """
        Moves the network to "cpu" or "cuda".
        """
    def units(
        self,
        /,
        names: SupportsGetItem[int, str],
        granularity: str,
        pattern: tuple[SupportsIndex, SupportsIndex],
        alive: str,
    ) -> list[tuple[int, int]]:
        """
        How many units of the named parameters are alive, and how many there are: weights or channels.
        """
    def vjp(
        self, /, degraded: NDArray[numpy.float32], vector: NDArray[numpy.float32]
    ) -> dict[str, NDArray[numpy.float32]]:
        """
        The gradient of the sum of all restored values, each times its value in `vector`.
        """

@final
class OwnLoss:
    """
    A step whose loss the caller computes, between `Trainer.begin` and `Trainer.finish`.
    """
    def backward(
        self,
        /,
        losses: SupportsGetItem[int, SupportsFloat | SupportsIndex],
        gradient: NDArray[numpy.float32],
    ) -> None:
        """
        Takes the loss of each image of that part, and the gradient of their sum by the restored ones.
        """
    def restore(self, /) -> tuple[NDArray[numpy.float32], NDArray[numpy.float32]] | None:
        """
        The next part of the batch: its images restored, and the clean ones.
        """

@final
class Snapshot:
    """
    The values of all parameters at one moment.
    """
    def __new__(cls, /, state: dict[str, NDArray[numpy.float32]]) -> Snapshot: ...
    @property
    def size(self, /) -> tuple[int, int]:
        """
        Numbers of tensors and of values.
        """
    def state_dict(self, /) -> dict[str, NDArray[numpy.float32]]: ...

@final
class Trainer:
    def __new__(
        cls,
        /,
        network: Network,
        loss: SupportsGetItem[int, tuple[str, SupportsFloat | SupportsIndex]] | None,
        betas: tuple[SupportsFloat | SupportsIndex, SupportsFloat | SupportsIndex],
        eps: SupportsFloat | SupportsIndex,
        weight_decay: SupportsFloat | SupportsIndex,
        clip_grad_norm: SupportsFloat | SupportsIndex | None,
        recompute: bool,
        precision: str,
        micro_batch: SupportsIndex | None,
        ema_decay: SupportsFloat | SupportsIndex | None,
        movement: bool,
    ) -> Trainer:
        """
        `loss` names losses and their weights; None where the caller computes it.
        """
    def average(self, /) -> dict[str, NDArray[numpy.float32]] | None:
        """
        The average of the weights by parameter name, where one is kept.
        """
    def begin(
        self,
        /,
        degraded: NDArray[numpy.float32],
        clean: NDArray[numpy.float32],
        weights: SupportsGetItem[int, SupportsFloat | SupportsIndex] | None,
        lr: SupportsFloat | SupportsIndex,
    ) -> OwnLoss:
        """
        Begins a step whose loss the caller computes.
        """
    def finish(self, /, step: OwnLoss) -> float:
        """
        Takes a step whose parts have all come, and returns its loss.
        """
    def load_checkpoint(self, /, path: str | PathLike[str]) -> str:
        """
        Puts a checkpoint back and returns the progress saved with it.
        """
    @property
    def losses(self, /) -> list[float]:
        """
        Of each image of the last batch.
        """
    def movement(self, /) -> dict[str, NDArray[numpy.float32]] | None:
        """
        Movement scores by parameter name, where they are summed up.
        """
    def save_checkpoint(self, /, path: str | PathLike[str], progress: str) -> None: ...
    @property
    def seconds(self, /) -> tuple[float, float, float]:
        """
        Seconds that forward, backward and optimizer of the last step took.
        """
    def step(
        self,
        /,
        degraded: NDArray[numpy.float32],
        clean: NDArray[numpy.float32],
        weights: SupportsGetItem[int, SupportsFloat | SupportsIndex] | None,
        lr: SupportsFloat | SupportsIndex,
    ) -> float:
        """
        Trains on one batch and returns its loss from before the step.
        """
    @property
    def steps(self, /) -> int:
        """
        Steps taken so far.
        """

def check_degradation(spec: str) -> None:
    """
    Raises ValueError for what is no degradation.
    """

def degrade(
    images: NDArray[numpy.uint8], degradation: str, seed: SupportsIndex, name: str
) -> NDArray[numpy.uint8]:
    """
    Degraded copies of uint8 images (N, H, W, 3), or of one (H, W, 3); what is drawn follows from
    `seed`, `name` and the number of the image.
    """

def get_num_threads() -> int: ...
def gpu_memory() -> int:
    """
    Bytes that the GPU's memory has.
    """

def gpu_name() -> str: ...
def gpu_peak() -> int:
    """
    Most bytes that networks have taken of the GPU's memory since the last reset.
    """

def image_size(path: str | PathLike[str]) -> tuple[int, int]:
    """
    Height and width, from the file's head alone and before EXIF's orientation is applied.
    """

def is_debug_build() -> bool: ...
def linear_warmup_cosine(
    t: SupportsIndex,
    total: SupportsIndex,
    warmup: SupportsIndex,
    lr: SupportsFloat | SupportsIndex,
    min_lr: SupportsFloat | SupportsIndex,
) -> float: ...
def psnr(a: NDArray[numpy.float64], b: NDArray[numpy.float64]) -> float:
    """
    PSNR in dB of one image [planes, height, width] against another; float64 arrays.
    """

def read_image(
    path: str | PathLike[str],
) -> tuple[NDArray[numpy.uint8] | NDArray[numpy.uint16], bytes | None, bytes | None, bool]:
    """
    Pixels (H, W, C) of uint8 or uint16, colour profile, EXIF, and whether pages follow.
    """

def read_rgb8(path: str | PathLike[str]) -> NDArray[numpy.uint8]:
    """
    Pixels (H, W, 3) of uint8, whatever the file holds.
    """

def reset_gpu_peak() -> None: ...
def set_num_threads(num_threads: SupportsIndex) -> None: ...
def set_tf32(allowed: bool) -> None: ...
def simd() -> str: ...
def ssim(a: NDArray[numpy.float64], b: NDArray[numpy.float64]) -> float:
    """
    SSIM of one image [planes, height, width] against another; float64 arrays.
    """

def tf32() -> bool:
    """
    Whether matrix products on a GPU may round to TF32.
    """

def write_image(
    path: str | PathLike[str],
    pixels: NDArray[numpy.uint8] | NDArray[numpy.uint16],
    force: bool,
    icc: bytes | None = None,
    exif: bytes | None = None,
) -> None: ...

class DeviceError(RuntimeError):
    """A device or a processor's ability that is not there."""

class DivergenceError(ArithmeticError):
    """A loss or gradient that is not finite."""

class FormatError(ValueError):
    """A file that is damaged or is not what it should be."""

class InternalError(RuntimeError):
    """A fault of mirl itself: please report it."""
