"""Networks from files of any kind that holds one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl import _mirl
from mirl.errors import FormatError
from mirl.models import Network
from mirl.pytorch import PICKLE_MAGIC, ZIP_MAGIC, read_checkpoint
from mirl.safetensors import read_metadata, read_safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

NATIVE_KEY = "mirl"
"""Of the metadata of our files: a JSON object with format, network, sizes and provenance."""


def load(path: str | os.PathLike[str], strict: bool = True) -> Network:
    """Load a network: of ours, or a published checkpoint.

    What a file is follows from its first bytes, not from its name. In files without masks, zeros
    of prunable parameters are taken for pruned weights, as in the published checkpoints. Nothing
    from a PyTorch file is imported or executed.

    Of other training code, what stands before all names of the network is left out (``net.``,
    ``module.``, ``_orig_mod.``, whatever its attribute is called), and parameters that
    torch.nn.utils.prune has masked are pruned ones. Where a file holds several networks, an average of
    the weights say, the one under ``net.`` is taken, or else none.

    Parameters
    ----------
    path
        A ``.safetensors`` file, packed or dense, or a Lightning ``.ckpt`` or ``.pth``.
    strict
        Whether the file must hold every parameter and no other. Otherwise what is missing keeps its
        initial value (seed 0), and what is unknown is left out. Files of ours are always whole.

    Returns
    -------
    Network
        Which it is follows from the file: a network of the file's sizes, with its mask.

    Raises
    ------
    OSError
        The file cannot be opened; FileNotFoundError where there is none, IsADirectoryError where it
        is a folder.
    mirl.errors.FormatError
        The file is damaged, of another kind, holds several networks, or its parameters are missing,
        unexpected or misshapen: the message names path and culprit.
    """
    if file_format(path) == "safetensors":
        if is_native(read_metadata(path)):
            return load_native(path)
        state = read_safetensors(path).tensors
    else:
        state = read_checkpoint(path).state_dict
    try:
        return Network.from_state_dict(as_float32(state), strict=strict)
    except ValueError as error:
        raise FormatError(f"{os.fspath(path)}: {error}") from error


def file_format(path: str | os.PathLike[str]) -> str:
    """Tell ``"safetensors"`` from ``"pytorch"`` by the first bytes of a file.

    Raises
    ------
    OSError
        The file cannot be opened.
    mirl.errors.FormatError
        It is neither.
    """
    path = Path(path)
    if path.is_dir():
        ticket = path / "ticket.mirl.safetensors"  # of the folder of a run
        hint = f"; the ticket in it is {ticket}" if ticket.exists() else ""
        raise IsADirectoryError(f"{path}: a folder, not a network{hint}")
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise OSError(f"{path}: is not a file")
    with path.open("rb") as file:
        head = file.read(9)
    # Eight bytes of a length below 4 GiB, then a JSON object. Looked for first: the length may be any
    # number, also one that begins like a pickle.
    if head[4:] == b"\0\0\0\0{":
        return "safetensors"
    if head.startswith((ZIP_MAGIC, PICKLE_MAGIC)):
        return "pytorch"
    raise FormatError(f"{path}: expected a safetensors file or a PyTorch checkpoint (.ckpt, .pth)")


def load_native(path: str | os.PathLike[str]) -> Network:
    """The network in a safetensors file of ours."""
    return Network._wrap(_mirl.Network.load(os.fspath(path)))


def is_native(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file with this metadata is of ours, packed or dense."""
    return NATIVE_KEY in metadata


def told_of(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What the metadata of a file of ours tell, which are JSON in one of safetensors' strings."""
    told: dict[str, Any] = json.loads(metadata[NATIVE_KEY])
    return told


def as_float32(state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Return the arrays as float32; values beyond its range become infinite."""
    with np.errstate(over="ignore"):
        return {name: values.astype(np.float32, copy=False) for name, values in state.items()}
