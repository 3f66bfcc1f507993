"""PyTorch's checkpoint files, read without PyTorch and without running anything in them."""

from __future__ import annotations

import io
import math
import mmap
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mirl.errors import FormatError
from mirl.unpickle import Global, PersistentId, Record, UnpickleError, unpickle

if TYPE_CHECKING:
    from numpy.typing import NDArray

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
"""Opcode PROTO, with which torch.save before version 1.6 begins."""

# torch/serialization.py: MAGIC_NUMBER and PROTOCOL_VERSION of the format before 1.6.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

BFLOAT16 = "bfloat16"
DTYPES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": BFLOAT16,
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}

WRAPPERS = ("state_dict", "params_ema", "params")
"""Keys under which Lightning and BasicSR keep the state dict; averaged weights before others."""
PREFIXES = ("module.", "net.")
"""What DataParallel and the published LightningModule put before every name."""

MAX_SHARING = 4
"""Tensors may share storages (tied weights), but not so that they hold more times the file."""
MAX_INFO = 1_000_000
"""Values beside the state dict. Shared references let a few bytes describe any number."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    state_dict: dict[str, NDArray[Any]]
    """Arrays by the network's own parameter names, in the file's order and element types;
    bfloat16, which numpy does not have, as float32."""
    info: dict[str, Any]
    """The rest (epoch, hyper-parameters, …) as numbers, strings, lists and dicts. Objects are dicts
    with their class under ``"class"``, tensors strings that tell type and shape."""


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a Lightning ``.ckpt`` or a ``.pth`` file.

    Files of ``torch.save`` in the zip format and in the one before version 1.6. The state dict may
    lie under ``state_dict``, ``params`` or ``params_ema``; the prefixes ``net.`` and ``module.`` are
    stripped where all names carry them. Nothing from the file is imported or executed.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Checkpoint
        The state dict and what else the file tells.

    Raises
    ------
    OSError
        The file cannot be opened.
    mirl.errors.FormatError
        The file is damaged or no PyTorch file, holds no state dict, or wants to call or import
        something: the message names path and culprit.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            with _open_archive(file) as archive:
                return _checkpoint(archive)
        except (UnpickleError, zipfile.BadZipFile) as error:
            raise FormatError(f"{path}: {error}") from error
        # zipfile does not wrap what damaged directories lead to.
        except (EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
            raise FormatError(f"{path}: damaged PyTorch file: {error}") from error


class _Archive(ABC):
    """The pickle of a file and its storages."""

    size: int
    """Of the file, in bytes."""
    pickle: IO[bytes]

    @abstractmethod
    def storage(self, storage: _Storage) -> memoryview | bytes:
        """At least the bytes of the storage's elements; fewer where the file does not have them."""


class _ZipArchive(_Archive):
    def __init__(self, file: IO[bytes]) -> None:
        self.size = os.fstat(file.fileno()).st_size
        self.zip = zipfile.ZipFile(file)
        roots = [
            name.removesuffix("data.pkl")
            for name in self.zip.namelist()
            if name.endswith("/data.pkl") and name.count("/") == 1
        ]
        if len(roots) != 1:
            raise UnpickleError("a zip file, but not of PyTorch: no single data.pkl in it")
        self.root = roots[0]
        if f"{self.root}byteorder" in self.zip.namelist():
            byteorder = self._read("byteorder")
            if byteorder != b"little":
                raise UnpickleError(f"byte order {byteorder!r}: only little-endian files are read")
        self.pickle = io.BytesIO(self._read("data.pkl"))

    def _read(self, name: str) -> bytes:
        try:
            entry = self.zip.getinfo(self.root + name)
        except KeyError:
            raise UnpickleError(f"{self.root + name} is missing") from None
        # torch.save stores without compression, so that no entry may be larger than the file.
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise UnpickleError(f"{entry.filename} is compressed, which PyTorch does not do")
        if entry.file_size > self.size:
            raise UnpickleError(f"{entry.filename} claims {entry.file_size} bytes, beyond the file")
        return self.zip.read(entry)

    def storage(self, storage: _Storage) -> bytes:
        return self._read(f"data/{storage.key}")


class _LegacyArchive(_Archive):
    def __init__(self, file: IO[bytes]) -> None:
        self.mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.size = len(self.mapped)
        self.pickle = self.mapped  # type: ignore[assignment] # reads like a file
        if unpickle(self.pickle) != LEGACY_MAGIC:
            raise UnpickleError("a pickle, but not of torch.save")
        if (protocol := unpickle(self.pickle)) != LEGACY_PROTOCOL:
            raise UnpickleError(f"unknown protocol {protocol!r} of torch.save")
        if unpickle(self.pickle).get("little_endian") is not True:
            raise UnpickleError("only little-endian files are read")
        self.places: dict[str, int] | None = None

    def storage(self, storage: _Storage) -> memoryview:
        raise NotImplementedError
