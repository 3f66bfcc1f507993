"""Networks as files of other programs, which need nothing of mirl to read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mirl.export.onnx import write_onnx
from mirl.export.pytorch import write_state_dict
from mirl.io import atomic
from mirl.models import check_model

if TYPE_CHECKING:
    import os

    from mirl.models import Network

WRITERS = {".onnx": write_onnx, ".pth": write_state_dict}
"""What writes a network under a name with this ending."""


def export(model: Network, path: str | os.PathLike[str]) -> None:
    """Write a network for other programs: dense, pruned weights as zeros, in float32.

    Equal networks give equal files, whatever they run on. `Network.save` writes safetensors files.

    Parameters
    ----------
    model
        The network.
    path
        The ending decides. A file that is there is replaced; it appears whole or not at all.

        ``.pth``: for PyTorch, a state dict under the published names, those of the unused
        convolutions included, that ``torch.load(path, weights_only=True)`` reads. `mirl.load` reads
        it, too, and takes zeros for pruned weights. A warning tells sizes that do not follow from it:
        `mirl.DyNet.num_blocks`.

        ``.onnx``: for ONNX Runtime (1.17 or newer), OpenVINO and others, a graph of opset 20. Its
        input ``image`` is float32 of shape (N, 3, H, W), RGB in [0, 1], with any N, and H and W any
        multiples of ``model.multiple``; its output ``restored`` is of the same shape and not clipped
        to [0, 1].
        Needs the extra ``onnx``.

    Raises
    ------
    TypeError
        Not a network.
    ValueError
        Another ending, or a network too large for an ONNX file (2 GiB).
    OSError
        The file cannot be written; IsADirectoryError where `path` is a folder, FileNotFoundError
        where there is no folder to write it to.
    ImportError
        The package onnx is not installed.

    Examples
    --------
    >>> import mirl
    >>> mirl.export(mirl.load("ticket.mirl.safetensors"), "ticket.onnx")  # doctest: +SKIP
    """
    path = Path(path)
    check_model(model)
    if path.suffix not in WRITERS:
        endings = " or ".join(WRITERS)
        raise ValueError(f"{path}: must end with {endings}; Network.save writes .safetensors")
    with atomic(path) as temporary:
        WRITERS[path.suffix](model, temporary)
