"""The safetensors format as plain arrays, whoever wrote the file.

Networks of ours are read by the core; this is for files of other programs and for inspection.
Format: eight bytes of length, a JSON header, the values (github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import math
import os
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mirl.arrays import MAX_DIMS, from_bfloat16
from mirl.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
MAX_HEADER = 100_000_000
"""Bytes of the longest header that the format allows."""


@dataclass(frozen=True)
class SafeTensors:
    """What a safetensors file holds."""

    tensors: dict[str, NDArray[Any]]
    """Read-only arrays in the file's order; bfloat16, which numpy does not have, as float32."""
    metadata: dict[str, str]


def read_safetensors(path: str | os.PathLike[str]) -> SafeTensors:
    """Read a safetensors file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    SafeTensors
        Arrays and metadata.

    Raises
    ------
    OSError
        The file cannot be opened.
    mirl.errors.FormatError
        The file is damaged: the message names path and culprit.
    """
    path = Path(path)
    with path.open("rb") as file, _checked(path):
        header = _header(file)
        metadata = _metadata(header)
        data = np.frombuffer(file.read(), np.uint8)
        views = {name: _view(name, about, data) for name, about in header.items()}
        _check_apart(header)
        tensors = {
            name: from_bfloat16(view) if header[name]["dtype"] == "BF16" else view
            for name, view in views.items()
        }
        return SafeTensors(tensors, metadata)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read what a safetensors file tells beside its tensors.

    Raises
    ------
    OSError
        The file cannot be opened.
    mirl.errors.FormatError
        The header is damaged: the message names path and culprit.
    """
    path = Path(path)
    with path.open("rb") as file, _checked(path):
        return _metadata(_header(file))


def _header(file: IO[bytes]) -> dict[str, Any]:
    size = os.fstat(file.fileno()).st_size
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(size - file.tell(), MAX_HEADER):
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    header: dict[str, Any] = json.loads(file.read(length))
    return header


def _metadata(header: dict[str, Any]) -> dict[str, str]:
    """Take the metadata out of the header, which then is of tensors only."""
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("__metadata__ is no object of strings")
    return metadata


def _check_apart(header: dict[str, Any]) -> None:
    """Refuse tensors that share bytes: a short file could hold any number of long ones."""
    ranges = sorted((*about["data_offsets"], name) for name, about in header.items())
    for (_, before, other), (start, end, name) in pairwise(ranges):
        if start < before:
            raise ValueError(f"{name}: bytes {start} to {end} are in part those of {other}")


@contextmanager
def _checked(path: Path) -> Iterator[None]:
    """Tell what damage leads to as one error that names the file."""
    try:
        yield
    except (
        struct.error,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as e:
        raise FormatError(f"{path}: no valid safetensors file: {e}") from e


def _view(name: str, about: dict[str, Any], data: NDArray[np.uint8]) -> NDArray[Any]:
    if about["dtype"] not in DTYPES:
        raise ValueError(f"{name} is of type {about['dtype']}, which is not read")
    dtype = np.dtype(DTYPES[about["dtype"]])
    start, end = about["data_offsets"]
    shape = about["shape"]
    if not isinstance(shape, list) or len(shape) > MAX_DIMS or not all(map(_is_size, shape)):
        raise ValueError(f"{name}: no shape of up to {MAX_DIMS} sizes")
    if not 0 <= start <= end <= data.size or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name}: bytes {start} to {end} do not hold shape {shape}")
    return data[start:end].view(dtype).reshape(shape)


def _is_size(value: Any) -> bool:
    """Whether it is a number of the format; products of longer ones may take minutes."""
    return isinstance(value, int) and 0 <= value < 2**64
