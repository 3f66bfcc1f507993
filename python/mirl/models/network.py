"""What all networks have in common: parameters, masks, and images in and out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

import numpy as np

from mirl import _mirl
from mirl.arrays import FloatArray, SupportsDLPack, as_array
from mirl.checks import check_choice, whole
from mirl.choices import Precision, Preset
from mirl.groups import prunable
from mirl.machine import device_choice
from mirl.pytorch import own_names
from mirl.rounding import cost_of_rounding

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from mirl.choices import Device

PACKED_SUFFIX = ".mirl.safetensors"
"""A network saved under a name with this ending is packed to its surviving weights."""

OTHER_SUFFIXES = (".pth", ".pt", ".ckpt", ".onnx")
"""Of files that are no safetensors."""

RESERVED = ("seed", "dtype", "rounding")
"""Metadata that some files have, by us."""

PRESETS = get_args(Preset)


class Density(NamedTuple):
    """Shares of values that no mask leaves out, in [0, 1].

    "10 % of the parameters" in the paper is `all`: prompts and biases are never pruned, so that
    `prunable` is 3.5 % then.
    """

    all: float
    """Of all parameters."""
    prunable: float
    """Of those that pruning removes by default, whose names hold ``weight``: see `mirl.prune`."""


class Snapshot:
    """The values of all parameters at one moment: what `mirl.rewind` goes back to.

    Made by `Network.snapshot`; or from a state dict.

    Parameters
    ----------
    state
        float32 arrays by parameter name, or what DLPack views as such.
    """

    def __init__(self, state: Mapping[str, FloatArray]) -> None:
        self._snapshot = _mirl.Snapshot(_arrays(state))

    def state_dict(self) -> dict[str, NDArray[np.float32]]:
        """Copies of all values.

        Returns
        -------
        dict
            float32 arrays by parameter name.
        """
        return self._snapshot.state_dict()

    def __repr__(self) -> str:
        tensors, values = self._snapshot.size
        return f"Snapshot({tensors} tensors, {values:,} values)"

    def __getstate__(self) -> dict[str, NDArray[np.float32]]:
        """All that a copy or a pickle needs."""
        return self.state_dict()

    def __setstate__(self, state: dict[str, NDArray[np.float32]]) -> None:
        """Become the snapshot that was copied or pickled."""
        self._snapshot = _mirl.Snapshot(state)


NETWORKS: dict[str, type[Network]] = {}
"""The class of each network, by the name that files and recipes call it."""


class Network:
    """A network that restores images, with its masks.

    What `mirl.PromptIR`, `Restormer`, `DyNet` and `SymUNet` can all do; there is none of this class
    itself. Which one is in a file or a state dict, `mirl.load` and `Network.from_state_dict` find by
    the parameters.
    """

    _network: _mirl.Network
    _precision: Precision = "float32"
    seed: int | None = None
    """Seed of the initial values; None where they came from a file."""

    def __init_subclass__(cls, architecture: str | None = None) -> None:
        """Note the class of an architecture of the core."""
        super().__init_subclass__()
        if architecture is not None:
            NETWORKS[architecture] = cls

    def __init__(self, **sizes: Any) -> None:
        """Raise a TypeError: there is no network without an architecture."""
        raise TypeError(
            f"mirl.Network is no network by itself; there are {', '.join(sorted(NETWORKS))}"
        )

    def _initialise(
        self, architecture: str, config: Mapping[str, Any], seed: int, device: Device
    ) -> None:
        """Become a new network of these sizes."""
        self.seed = whole("seed", seed)
        self._network = _mirl.Network(architecture, json.dumps(config), self.seed)
        self.to(device)

    @classmethod
    def _wrap(cls, network: _mirl.Network) -> Self:
        kind = NETWORKS[network.name]
        own = cls if issubclass(cls, kind) else kind  # cls may be a class of somebody else's
        model = own.__new__(own)
        if not isinstance(model, cls):
            raise ValueError(f"these are parameters of {network.name}, not of {cls.__name__}")  # noqa: TRY004
        model._network = network
        return model

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, FloatArray],
        mask: Mapping[str, NDArray[np.bool_] | SupportsDLPack] | None = None,
        *,
        strict: bool = True,
    ) -> Self:
        """A network with these values; its sizes follow from their shapes.

        Of `Network` itself, which network it is follows from them, too.

        Parameters
        ----------
        state
            float32 arrays by parameter name, or what DLPack views as such, a PyTorch module's own. What
            other training code puts around names is understood: see `mirl.load`.
        mask
            Boolean arrays by the network's own names, True where alive. By default, zeros of prunable
            parameters are taken for pruned weights, as in the published checkpoints.
        strict
            Whether every parameter must be there and no other. Otherwise what is missing keeps its
            initial value (seed 0), and what is unknown is left out.

        Returns
        -------
        Network
            On the processor.

        Raises
        ------
        ValueError
            Missing, unexpected or misshapen parameters, by name; several networks, or another one.
        TypeError
            Something else than float32 arrays.
        """
        arrays = own_names(_arrays(state))
        network = _mirl.Network(*_mirl.Network.infer(arrays), None if strict else 0)
        network.load_state_dict(arrays, strict)
        if mask is None:
            network.masks_from_zeros()
        else:
            network.set_masks(_arrays(mask))
        return cls._wrap(network)

    @property
    def device(self) -> Device:
        """Where the network runs, ``"cpu"`` or ``"cuda"``."""
        return cast("Device", self._network.device)

    def to(self, device: str) -> Self:
        """Move the network to a device, with its masks.

        Trainers of the network have to be made after it has moved.

        Parameters
        ----------
        device
            ``"cpu"`` or ``"cuda"``; see `mirl.devices`.

        Returns
        -------
        Network
            The network itself.

        Raises
        ------
        ValueError
            An unknown device.
        mirl.errors.DeviceError
            A device that is not there, or whose memory is full.
        """
        self._network.to(device_choice(device))
        return self

    @property
    def config(self) -> dict[str, Any]:
        """The sizes, by the names of the constructor's arguments."""
        config: dict[str, Any] = json.loads(self._network.config)
        return config

    @property
    def multiple(self) -> int:
        """Height and width of images are padded to multiples of this, by reflection."""
        return self._network.multiple

    @property
    def num_parameters(self) -> int:
        """The number of values of all parameters, pruned ones included."""
        return sum(int(np.prod(shape)) for _, shape in self._network.parameters())

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter by name, in the published order."""
        return {name: tuple(shape) for name, shape in self._network.parameters()}

    def __call__(self, images: FloatArray) -> NDArray[np.float32]:
        """Restore images.

        Parameters
        ----------
        images
            float32, shape (N, 3, H, W) with any H and W ≥ 1, RGB in [0, 1]; noise may come to
            [-1, 2]. Sizes that are no multiple of `multiple` are padded by reflection and cropped
            back.
            Whatever DLPack views, a torch tensor say, is viewed without a copy.

        Returns
        -------
        numpy.ndarray
            float32 of the same shape, not clipped to [0, 1].

        Raises
        ------
        TypeError
            Not a float32 array, or a tensor elsewhere than in the processor's memory.
        ValueError
            Another shape, NaN, or values far out of range.
        """
        return self._network.restore(as_array(images, "images"), self._precision)

    @property
    def precision(self) -> Precision:
        """What numbers are rounded to when the network restores images.

        ``"float32"`` (default), or ``"bfloat16"``: on the processor the operands of matrix products and
        the results of the first convolution of each half of a block, within 0.02 dB of PSNR; on a GPU
        all that goes from operator to operator. Sums are float32 in both. It is faster on a GPU, on
        Intel's processors with AMX (on Linux) and on AMD's with AVX512_BF16, as `mirl.devices` tells.
        Others multiply the rounded numbers in float32, which gains no time, and takes more with small
        images. For training see `mirl.Trainer`.

        Raises
        ------
        ValueError
            Set to another value.
        """
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        check_choice("precision", precision, get_args(Precision))
        self._precision = cast("Precision", precision)

    def gradients(self, degraded: FloatArray, clean: FloatArray) -> dict[str, NDArray[np.float32]]:
        """The gradient of the mean absolute error, by parameter name.

        Parameters
        ----------
        degraded, clean
            As for `Trainer.step`.

        Returns
        -------
        dict
            Arrays of the parameters' shapes, masked weights included. Parameters that the forward
            never uses have none.

        Raises
        ------
        TypeError, ValueError
            Arrays that do not fit, as for `Trainer.step`.
        """
        return self._network.gradients(as_array(degraded, "degraded"), as_array(clean, "clean"))

    def state_dict(self) -> dict[str, NDArray[np.float32]]:
        """Copies of all parameters.

        Returns
        -------
        dict
            float32 arrays by their published names, in the published order.
        """
        return self._network.state_dict()

    def load_state_dict(self, state: Mapping[str, FloatArray], strict: bool = True) -> None:
        """Set parameters. Masked weights stay zero, whatever the values say.

        Parameters
        ----------
        state
            float32 arrays by parameter name, or what DLPack views as such, a PyTorch module's own.
        strict
            Whether every parameter must be there and no other.

        Raises
        ------
        ValueError
            Missing, unexpected or misshapen parameters, or values that are not finite, by name.
            Nothing is changed then.
        TypeError
            Something else than float32 arrays.
        """
        self._network.load_state_dict(_arrays(state), strict)

    @property
    def mask(self) -> dict[str, NDArray[np.bool_]]:
        """Boolean arrays of the pruned parameters, True where alive; the others are whole.

        Copies: what is written into them changes nothing. Assigning a dict replaces all masks and
        zeroes the weights that they leave out.

        Raises
        ------
        TypeError, ValueError
            Set to something else than boolean arrays of the parameters' shapes. Nothing is changed
            then.
        """
        return self._network.masks()

    @mask.setter
    def mask(self, mask: Mapping[str, NDArray[np.bool_] | SupportsDLPack]) -> None:
        self._network.set_masks(_arrays(mask))

    def density(self, preset: Preset = "default") -> Density:
        """Which share of the parameters is alive.

        Parameters
        ----------
        preset
            ``"paper-code"`` counts the convolutions that the forward never uses as prunable,
            ``"default"`` does not.

        Returns
        -------
        Density
            Of all parameters, and of the prunable ones.

        Raises
        ------
        ValueError
            An unknown preset.
        """
        names = prunable(self._network, preset_choice(preset))
        layers, alive, total = self._network.report(names)
        counts = sum(count for _, _, count in layers)
        return Density(alive / total, sum(living for _, living, _ in layers) / counts)

    def _density_without_unused(self) -> Density:
        """What is left without what the forward never uses."""
        unused = [name for name in self.shapes if self._network.is_unused(name)]
        layers, _, total = self._network.report(unused)
        density = self.density()
        return density._replace(all=density.all - sum(alive for _, alive, _ in layers) / total)

    def snapshot(self) -> Snapshot:
        """The values of all parameters now.

        Returns
        -------
        Snapshot
            What `mirl.rewind` goes back to.
        """
        snapshot = Snapshot.__new__(Snapshot)
        snapshot._snapshot = self._network.snapshot()
        return snapshot

    def save(
        self,
        path: str | os.PathLike[str],
        metadata: Mapping[str, str] | None = None,
        *,
        dtype: str = "float32",
        unused: bool = False,
    ) -> None:
        """Write parameters, masks and sizes to a safetensors file.

        Files tell seed, densities and version of mirl too; `mirl.inspect` shows them.

        Parameters
        ----------
        path
            A name that ends with ``.mirl.safetensors`` packs pruned parameters to their survivors;
            any other name stores them dense, under the published names. The file appears whole or
            not at all.
        metadata
            What else the file should tell, as strings.
        dtype
            What a packed file stores its values as: ``"float32"``, without loss, or half as large
            ``"float16"`` or ``"bfloat16"``. What rounding costs, measured on a small noisy image, is
            written down in the file.
        unused
            Whether a packed file keeps what the forward never uses: six convolutions of PromptIR,
            three of DyNet. Loaded without them, they are pruned whole.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            An unknown dtype, one for a dense file, or a value that it has not, by name; metadata by a
            name that tells what the file is, like ``"version"``; a name that ends like another kind of
            file, which `mirl.export` writes.
        """
        other = Path(path).suffix.lower()
        if other in OTHER_SUFFIXES:
            raise ValueError(
                f"{os.fspath(path)}: save writes safetensors files; for .pth and .onnx see mirl.export"
            )
        packed = Path(path).name.endswith(PACKED_SUFFIX)
        left_out = packed and not unused
        density = self._density_without_unused() if left_out else self.density()
        about = {"mirl": _mirl.VERSION, "density": json.dumps(density._asdict())}
        if self.seed is not None:
            about["seed"] = str(self.seed)
        if not packed:
            if dtype != "float32" or unused:
                raise ValueError(
                    f"{os.fspath(path)}: dtype and unused are for packed files, *{PACKED_SUFFIX}"
                )
            self._network.save(os.fspath(path), _joined(about, metadata))
            return
        about["dtype"] = dtype
        if dtype != "float32":
            exact, rounded = (Network._wrap(self._network.rounded(to)) for to in ("float32", dtype))
            about["rounding"] = json.dumps(cost_of_rounding(exact, rounded))
        self._network.save_packed(os.fspath(path), dtype, unused, _joined(about, metadata))

    def __getstate__(self) -> dict[str, Any]:
        """All that a copy or a pickle needs, attributes of subclasses too."""
        return {
            "network": self._network.name,
            "config": self.config,
            "state": self.state_dict(),
            "mask": self.mask,
            "device": self.device,
            "own": {name: value for name, value in vars(self).items() if name != "_network"},
        }

    def __setstate__(self, held: dict[str, Any]) -> None:
        """Become the network that was copied or pickled."""
        self._network = _mirl.Network(held["network"], json.dumps(held["config"]), None)
        self._network.load_state_dict(held["state"], True)
        self._network.set_masks(held["mask"])
        vars(self).update(held["own"])
        self.to(held["device"])

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={value}" for name, value in self.config.items())
        _, alive, total = self._network.report([])
        return f"{type(self).__name__}({total:,} parameters, {alive / total:.2%} alive; {sizes})"


def _joined(about: dict[str, str], metadata: Mapping[str, str] | None) -> dict[str, str]:
    """What a file tells, by us and by its author."""
    metadata = dict(metadata or {})
    for key, value in metadata.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"metadata must be strings by name, got {value!r} for {key!r}")
    if taken := {*about, *RESERVED} & metadata.keys():
        raise ValueError(f"metadata: {min(taken)!r} is written by mirl itself")
    return about | metadata


def _arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise TypeError(f"expected arrays by parameter name, got {type(values).__name__}")
    for name in values:
        if not isinstance(name, str):
            raise TypeError(f"expected names as str, got {name!r}")
    return {name: as_array(each, name) for name, each in values.items()}


def check_model(model: Any) -> None:
    """Raise a TypeError for what is no network."""
    if not isinstance(model, Network):
        raise TypeError(f"model must be a mirl.Network, got {type(model).__name__}")


def preset_choice(preset: Preset) -> Preset:
    """`preset` itself, where it is one.

    Raises
    ------
    ValueError
        It is not.
    """
    check_choice("preset", preset, PRESETS)
    return preset
