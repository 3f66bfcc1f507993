"""PyTorch's checkpoint format, written without PyTorch: a pickle and the values beside it, in a zip.

The format is torch.save's since version 1.6, as torch/serialization.py reads it. `mirl.pytorch`
is its reader here.
"""

from __future__ import annotations

import json
import pickle
import struct
import warnings
import zipfile
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from mirl import _mirl

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from mirl.models import Network

ROOT = "archive"
"""The folder within the zip. torch.save names it after the file, but then names would change files."""

VERSION = b"3\n"
"""Of the format; PyTorch refuses what it does not know (caffe2/serialize/versions.h)."""

ALIGNMENT = 64
"""Bytes: where values begin, so that a mapped file can be used as it lies (caffe2/serialize)."""
LOCAL_HEADER = 30
"""Bytes before an entry's name in a zip file (APPNOTE.TXT 4.3.7)."""
EXTRA_HEADER = struct.Struct("<HH")
"""Identifier and size of an extra field (APPNOTE.TXT 4.5.1)."""
PADDING_ID = int.from_bytes(b"FB", "little")
"""The identifier of the extra field that PyTorch pads with."""


def write_state_dict(model: Network, path: Path) -> None:
    """Write the parameters as torch.save writes a state dict."""
    shapes, state = model.shapes, model.state_dict()
    _warn_of_sizes(model.config, state)
    with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(f"{ROOT}/{name}")
            entry.create_system = 0  # the same on every system
            values = file.tell() + LOCAL_HEADER + len(entry.filename) + EXTRA_HEADER.size
            padding = -values % ALIGNMENT
            entry.extra = EXTRA_HEADER.pack(PADDING_ID, padding) + bytes(padding)
            archive.writestr(entry, data)

        add("data.pkl", pickled(shapes))
        add("byteorder", b"little")
        for index, values in enumerate(state.values()):
            add(f"data/{index}", values.astype("<f4", copy=False).tobytes())
        add("version", VERSION)


def _warn_of_sizes(config: dict[str, Any], state: dict[str, NDArray[np.float32]]) -> None:
    """Warn of sizes that nobody who reads the parameters can know.

    The factor of feed-forward networks matters by their widths alone, which the parameters tell.
    """
    found = json.loads(_mirl.Network.infer(state)[1])
    for name, size in config.items():
        if name != "ffn_expansion_factor" and found[name] != size:
            warnings.warn(
                f"a state dict does not tell that {name} is {size}: who reads it takes {found[name]}",
                stacklevel=4,
            )


def pickled(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """Return the pickle (protocol 2) of an ordered dict of float32 tensors, one to a storage."""
    items = b"".join(
        _string(name) + _tensor(str(index), shape)
        for index, (name, shape) in enumerate(shapes.items())
    )
    content = ORDERED_DICT + pickle.MARK + items + pickle.SETITEMS
    return pickle.PROTO + b"\x02" + content + pickle.STOP


def _tensor(key: str, shape: tuple[int, ...]) -> bytes:
    """Return the call that makes a tensor of a whole storage, in rows."""
    *strides, size = accumulate((1, *reversed(shape)), int.__mul__)
    storage = _tuple(
        _string("storage"),
        _global("torch", "FloatStorage"),
        _string(key),
        _string("cpu"),
        _integer(size),
    )
    arguments = _tuple(
        storage + pickle.BINPERSID,
        _integer(0),  # where in the storage it begins
        _tuple(*map(_integer, shape)),
        _tuple(*map(_integer, reversed(strides))),
        pickle.NEWFALSE,  # requires no gradient
        ORDERED_DICT,  # has no hooks
    )
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _string(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    # Of eight bytes, which PyTorch's own reader in C++ asks of a LONG1.
    return pickle.LONG1 + b"\x08" + struct.pack("<q", value)


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


ORDERED_DICT = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
"""An empty one."""
