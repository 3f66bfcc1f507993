"""What is in a file: network, tensors, densities and where it comes from."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl import _mirl
from mirl.groups import prunable
from mirl.load import as_float32, file_format, is_native, load_native, told_of
from mirl.models import Density, Network
from mirl.pytorch import own_names, read_checkpoint
from mirl.safetensors import read_metadata, read_safetensors
from mirl.terminal import preformatted, shortened

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

DTYPES = ("float32", "float16", "bfloat16")
"""Element types of packed files."""
NAME_WIDTH = 40
"""Columns for names: what the longest of the published network has. Longer ones are shortened."""


@dataclass(frozen=True)
class TensorSummary:
    """One tensor of a file."""

    name: str
    """As in the file, without what other training code puts before all names of a network."""
    shape: tuple[int, ...]
    """Of the parameter, also where the file is packed to its survivors."""
    dtype: str
    """Element type, in numpy's words or ``"bfloat16"``; foreign bfloat16 files count as float32."""
    count: int
    """Number of values."""
    alive: int
    """Values that the mask leaves in; without a mask, all but the zeros of weights."""
    prunable: bool
    """Whether `mirl.prune` may remove values of it, by its default preset."""

    @property
    def density(self) -> float:
        """The share that is alive, in [0, 1]."""
        return self.alive / self.count if self.count else 1.0


@dataclass(frozen=True, repr=False)
class Inspection:
    """What `inspect` found in a file."""

    path: str
    """As it was given."""
    format: str
    """``"mirl"``, ``"mirl-packed"``, ``"safetensors"`` or ``"pytorch"``."""
    file_size: int
    """In bytes."""
    network: str | None
    """The network that the tensors belong to, ``"PromptIR"`` say; None where they belong to none."""
    config: dict[str, Any] | None
    """The sizes of that network."""
    tensors: tuple[TensorSummary, ...]
    """In the order of the network where the file is of ours, or else of the file."""
    missing: tuple[str, ...]
    """Parameters of that network that the file does not hold."""
    unexpected: tuple[str, ...]
    """Tensors that are no parameters of that network, or not of the shape they have in it."""
    metadata: dict[str, Any]
    """Everything else in the file: epoch, hyper-parameters, the recipe of the run, versions."""

    @property
    def num_parameters(self) -> int:
        """Values of all tensors, pruned ones included."""
        return sum(tensor.count for tensor in self.tensors)

    @property
    def density(self) -> Density:
        """Shares that are alive, of all values and of the prunable ones, in [0, 1]."""
        return Density(
            _density(self.tensors), _density(tensor for tensor in self.tensors if tensor.prunable)
        )

    def table(self) -> str:
        """Lay the findings out.

        Returns
        -------
        str
            Layer by layer, at most 80 columns wide.
        """
        return "\n".join(shortened(line) for line in (*self._head(), "", *self._layers()))

    def _repr_html_(self) -> str:
        return preformatted(self.table())

    def to_dict(self) -> dict[str, Any]:
        """Hold the findings as JSON does.

        Returns
        -------
        dict
            The fields by name, their densities beside them, of dicts, lists, strings and numbers.
        """
        return {
            "path": self.path,
            "format": self.format,
            "file_size": self.file_size,
            "network": self.network,
            "config": self.config,
            "num_parameters": self.num_parameters,
            "density": self.density.all,
            "density_prunable": self.density.prunable,
            "tensors": [
                {**vars(tensor), "shape": list(tensor.shape), "density": tensor.density}
                for tensor in self.tensors
            ],
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "metadata": self.metadata,
        }

    def __repr__(self) -> str:
        """Say what it is of; `table` has the rest."""
        return (
            f"Inspection({self.path!r}, {self.format}, {self.file_size:,} bytes,"
            f" {self.num_parameters:,} parameters, {self.density.all:.2%} alive)"
        )

    def _head(self) -> Iterator[str]:
        yield _line("file", self.path)
        yield _line("format", f"{self.format}, {self.file_size:,} bytes")
        if self.config is None:
            yield _line("network", "unknown")
        else:
            yield _line("network", str(self.network))
            yield from (_line(f"  {key}", _words(value)) for key, value in self.config.items())
        yield _line("tensors", f"{len(self.tensors)} with {self.num_parameters:,} values")
        density = self.density
        yield _line("alive", f"{density.all:.2%} of all, {density.prunable:.2%} of the prunable")
        for word, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            if names:
                yield _line(word, f"{len(names)}: {', '.join(names)}")
        for key, value in self.metadata.items():
            if key == "density":  # as counted above
                continue
            yield _line(key, _words(_rounding(value) if key == "rounding" else value))

    def _layers(self) -> Iterator[str]:
        name = NAME_WIDTH
        yield f"{'tensor':<{name}} {'shape':>14} {'values':>11} {'alive':>7} {'type':>4}"
        for tensor in self.tensors:
            whole = not tensor.prunable and tensor.alive == tensor.count
            alive = "-" if whole else f"{tensor.density:.2%}"
            yield (
                f"{shortened(tensor.name, name):<{name}} {'x'.join(map(str, tensor.shape)):>14}"
                f" {tensor.count:>11,} {alive:>7} {_short(tensor.dtype):>4}"
            )


def inspect(path: str | os.PathLike[str]) -> Inspection:
    """Look into a file without needing all of a network in it.

    Parameters
    ----------
    path
        Any file that `mirl.load` reads; also a part of a network, or of another one.

    Returns
    -------
    Inspection
        Format, network and sizes, tensors and their densities, and where the file comes from.

    Raises
    ------
    OSError
        The file cannot be opened.
    mirl.errors.FormatError
        The file is damaged or of another kind: the message names the path.

    Examples
    --------
    >>> import mirl
    >>> print(mirl.inspect("ticket.mirl.safetensors").table())  # doctest: +SKIP
    """
    path = Path(path)
    if file_format(path) == "pytorch":
        checkpoint = read_checkpoint(path)
        return _inspection(path, "pytorch", checkpoint.state_dict, checkpoint.info)
    metadata = read_metadata(path)
    if is_native(metadata):
        return _native(path, metadata)
    file = read_safetensors(path)
    return _inspection(path, "safetensors", file.tensors, dict(file.metadata))


def _native(path: Path, metadata: Mapping[str, str]) -> Inspection:
    model = load_native(path)
    about = told_of(metadata)
    masks = model.mask
    candidates = set(prunable(model._network, "default"))
    format_ = about["format"]
    # Of dense files, `dtype` is a word of whoever wrote them.
    dtype = about.get("dtype") if format_ == "mirl-packed" else None
    dtype = dtype if dtype in DTYPES else "float32"
    tensors = []
    for name, shape in model.shapes.items():
        count = int(np.prod(shape))
        alive = int(masks[name].sum()) if name in masks else count
        tensors.append(TensorSummary(name, shape, dtype, count, alive, name in candidates))
    shown = {"format", "network", "config"}
    return Inspection(
        path=str(path),
        format=format_,
        file_size=path.stat().st_size,
        network=model._network.name,
        config=model.config,
        tensors=tuple(tensors),
        missing=(),
        unexpected=(),
        metadata={key: _parsed(key, value) for key, value in about.items() if key not in shown},
    )


def _inspection(
    path: Path, format_: str, state: Mapping[str, NDArray[Any]], metadata: dict[str, Any]
) -> Inspection:
    with suppress(ValueError):  # parameters of several networks
        state = own_names(state)
    model = _network(state)
    shapes = {} if model is None else model.shapes
    weights = {name for name in state if "weight" in name}  # the published rule
    candidates = weights if model is None else set(prunable(model._network, "default"))
    tensors = []
    for name, values in state.items():
        alive = int(np.count_nonzero(values)) if name in weights else values.size
        tensors.append(
            TensorSummary(
                name, values.shape, values.dtype.name, values.size, alive, name in candidates
            )
        )
    known = {name for name in shapes if name in state and state[name].shape == shapes[name]}
    return Inspection(
        path=str(path),
        format=format_,
        file_size=path.stat().st_size,
        network=None if model is None else model._network.name,
        config=None if model is None else model.config,
        tensors=tuple(tensors),
        missing=tuple(name for name in shapes if name not in state),
        unexpected=() if model is None else tuple(name for name in state if name not in known),
        metadata=metadata,
    )


def _network(state: Mapping[str, NDArray[Any]]) -> Network | None:
    """A network of the sizes that a state dict, whole or in part, belongs to; its values are others."""
    try:
        found = _mirl.Network.infer(as_float32(state))
    except ValueError:
        return None
    return Network._wrap(_mirl.Network(*found, None))


def _density(tensors: Iterator[TensorSummary] | tuple[TensorSummary, ...]) -> float:
    counts = [(tensor.alive, tensor.count) for tensor in tensors]
    total = sum(count for _, count in counts)
    return sum(alive for alive, _ in counts) / total if total else 1.0


def _parsed(key: str, text: str) -> Any:
    """Return the value behind a string that is JSON, or else the string: 12e4 may be a commit."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text
    scalar = not isinstance(value, (dict, list))
    return text if key.endswith("crc32") or (scalar and json.dumps(value) != text) else value


def _refuse(word: str) -> None:
    """Raise a ValueError for NaN and infinities, which are no JSON."""
    raise ValueError(f"{word} is no JSON")


def _rounding(about: Any) -> Any:
    """What `mirl.rounding` has found, in words; anything else of that name as it is."""
    match about:
        case {
            "psnr_float32": float(psnr),
            "cost": float(cost),
            "between": float() | None as between,
        }:
            apart = "to the same" if between is None else f"{between:.1f} dB apart"
            return f"costs {cost:.4f} of {psnr:.2f} dB on an image, {apart}"
    return about


def _short(dtype: str) -> str:
    return "bf2" if dtype == "bfloat16" else np.dtype(dtype).str[1:]


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _line(key: str, value: str) -> str:
    return f"{key:<25} {value}"
