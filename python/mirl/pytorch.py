"""PyTorch's checkpoint files, read without PyTorch and without running anything in them."""

from __future__ import annotations

import io
import math
import mmap
import os
import re
import reprlib
import struct
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mirl.arrays import MAX_DIMS, from_bfloat16
from mirl.errors import FormatError
from mirl.unpickle import MAX_KEY, MAX_KEY_BITS, Global, Record, UnpickleError, unpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
"""The opcode PROTO, with which files of torch.save before version 1.6 begin."""

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

DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What wrong bytes lead to within zipfile, struct and numpy."""

WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict", "model")
"""Keys under which Lightning, BasicSR (averaged weights before others) and PyTorch's tutorials keep the
state dict."""
LANDMARKS = ("patch_embed.proj.weight", "encoders.0.0.attn.temperature")
"""A parameter of each network, whatever its sizes, and of no other's: what is before it is a prefix."""
PREFERRED = ("", "net.")
"""Prefixes that are taken where there are several: none, and that of the published LightningModule."""

MAX_WRAPPERS = 8
"""A dict may hold itself."""
MAX_SHARING = 4
"""Tensors may share storages (tied weights), but not so that they hold more times the file."""
MAX_BITS = 63
"""Of sizes, strides and offsets in PyTorch. Products of larger numbers may take minutes."""
MAX_INFO = 1_000_000
"""Values beside the state dict. Shared references let a few bytes describe any number."""

KEYS = reprlib.Repr()
"""Puts keys of dicts into words. The strings in them may be long, and shared by many keys."""
KEYS.maxlist = MAX_KEY + 1
KEYS.maxstring = 60


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    state_dict: dict[str, NDArray[Any]]
    """Arrays in the file's order and element types; bfloat16, which numpy does not have, as float32.
    By the network's own names, where `own_names` finds them."""
    info: dict[str, Any]
    """The rest (epoch, hyper-parameters, …) as numbers, strings, lists and dicts. Objects are dicts
    with their class under ``"class"``, tensors strings that tell type and shape."""


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a Lightning ``.ckpt`` or a ``.pth`` file.

    Files of ``torch.save`` in the zip format and in the one before version 1.6. The state dict may
    lie under any of `WRAPPERS`. Nothing from the file is imported or executed.

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
            archive = _open_zip(file) if file.read(4) == ZIP_MAGIC else _open_legacy(file)
            return Checkpoint(_state_dict(archive), _info(archive))
        except (UnpickleError, zipfile.BadZipFile) as error:
            raise FormatError(f"{path}: {error}") from error
        except DAMAGE as error:
            raise FormatError(f"{path}: damaged PyTorch file: {error}") from error


def own_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Take off what training code has put around the names of a network's parameters.

    What stands before the name of the first convolution (``net.``, ``module.``, ``_orig_mod.``) is left
    out of all names that begin with it. ``NAME_orig`` and ``NAME_mask``, as which torch.nn.utils.prune
    keeps a pruned parameter, become ``NAME``.

    Parameters
    ----------
    state
        Arrays by name.

    Returns
    -------
    dict
        The arrays by the network's own names, after what is not its own.

    Raises
    ------
    ValueError
        Parameters of several networks, none of them under a prefix that is `PREFERRED`.
    """
    state = _unpruned(state)
    found = (
        name.removesuffix(landmark)
        for name in state
        for landmark in LANDMARKS
        if f".{name}".endswith(f".{landmark}")
    )
    prefixes = list(dict.fromkeys(found))
    likely = [prefix for prefix in PREFERRED if prefix in prefixes][:1] or prefixes
    if len(likely) > 1:
        under = " and ".join(f"{prefix}*" for prefix in likely)
        raise ValueError(f"parameters of several networks, {under}: take those of one")
    prefix = likely[0] if likely else ""
    own = {n.removeprefix(prefix): array for n, array in state.items() if n.startswith(prefix)}
    return {n: array for n, array in state.items() if not n.startswith(prefix)} | own


def _unpruned(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state with the parameters that torch.nn.utils.prune has masked, zero where pruned."""
    merged = dict(state)
    for name in [name.removesuffix("_orig") for name in state if name.endswith("_orig")]:
        values, alive = state[f"{name}_orig"], state.get(f"{name}_mask")
        if alive is not None and name not in state and np.shape(values) == np.shape(alive):
            del merged[f"{name}_orig"], merged[f"{name}_mask"]
            merged[name] = np.where(alive, values, 0)
    return merged


@dataclass(frozen=True)
class _Storage:
    """A run of numbers in the file."""

    key: str
    dtype: str
    numel: int

    @property
    def itemsize(self) -> int:
        return 2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize

    @classmethod
    def from_persistent_id(cls, value: Any) -> _Storage:
        kind, storage_class, key, _location, numel, *view = value
        if kind != "storage" or view not in ([], [None]):
            raise UnpickleError(f"unknown kind of storage: {reprlib.repr(value)}")
        if storage_class.name not in DTYPES:
            raise UnpickleError(f"storages of type {storage_class.name} are not read")
        if not isinstance(key, str) or not isinstance(numel, int) or numel < 0:
            raise UnpickleError(f"misformed storage: {reprlib.repr(value)}")
        return cls(key, DTYPES[storage_class.name], numel)


def _known_storage(known: dict[str, _Storage], value: Any) -> _Storage:
    """The storage of a persistent id. `known` are those before it, by their keys."""
    storage = _Storage.from_persistent_id(value)
    first = known.setdefault(storage.key, storage)
    # An empty storage is the one thing that torch.save writes as of several types.
    if storage != first and (storage.numel or first.numel):
        raise UnpickleError(f"storage {reprlib.repr(storage.key)} is of two types or sizes")
    return storage


@dataclass(frozen=True)
class _Archive:
    """An open file."""

    size: int
    """In bytes."""
    content: Any
    """What was saved, its tensors as records."""
    read: Callable[[_Storage], bytes | memoryview]
    """The bytes of a storage; to be called once for each."""


def _open_zip(file: IO[bytes]) -> _Archive:
    size = os.fstat(file.fileno()).st_size
    archive = zipfile.ZipFile(file)
    pickles = [name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(pickles) != 1:
        raise UnpickleError("a zip file, but not of PyTorch: no single data.pkl in it")
    root = pickles[0].removesuffix("data.pkl")
    left = size

    def read(name: str) -> bytes:
        nonlocal left
        try:
            entry = archive.getinfo(root + name)
        except KeyError:
            raise UnpickleError(f"{root}{name} is missing") from None
        # torch.save never compresses, so that nothing in a file is larger than the file.
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise UnpickleError(f"{entry.filename} is compressed, which PyTorch does not do")
        # Nor are entries within others, which zipfile itself refuses since Python 3.11.8 only.
        if entry.file_size > left:
            claim = f"claims {entry.file_size:,} bytes, where others leave {left:,}"
            raise UnpickleError(f"{entry.filename} {claim} of the file")
        left -= entry.file_size
        return archive.read(entry)

    if f"{root}byteorder" in archive.namelist() and read("byteorder") != b"little":
        raise UnpickleError("written on a big-endian machine, which is not supported")
    content = unpickle(io.BytesIO(read("data.pkl")), partial(_known_storage, {}))
    return _Archive(size, content, lambda storage: read(f"data/{storage.key}"))


def _open_legacy(file: IO[bytes]) -> _Archive:
    """Three pickles on the format, one of the content, one of the storages' keys, the storages."""
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if unpickle(mapped) != LEGACY_MAGIC or unpickle(mapped) != LEGACY_PROTOCOL:
        raise UnpickleError("a pickle, but not of torch.save")
    if unpickle(mapped)["little_endian"] is not True:
        raise UnpickleError("written on a big-endian machine, which is not supported")

    storages: dict[str, _Storage] = {}
    content = unpickle(mapped, partial(_known_storage, storages))
    ranges = {}
    keys = unpickle(mapped)
    end = mapped.tell()
    for key in keys:
        if not isinstance(key, str):
            raise UnpickleError(f"misformed key of a storage: {reprlib.repr(key)}")
        (numel,) = struct.unpack_from("<q", mapped, end)
        if numel != storages[key].numel:
            raise UnpickleError(f"storage {key} has {numel} values, not {storages[key].numel}")
        start = end + struct.calcsize("<q")
        end = start + numel * storages[key].itemsize
        ranges[key] = slice(start, end)
    return _Archive(len(mapped), content, lambda storage: memoryview(mapped)[ranges[storage.key]])


def _state_dict(archive: _Archive) -> dict[str, NDArray[Any]]:
    tensors: dict[str, Record] = {}
    for name, value in _unwrapped(archive.content).items():
        tensor = _tensor(value)
        if not isinstance(name, str) or tensor is None:
            raise UnpickleError(f"no state dict: {name!r} is no tensor, but {_kind(value)}")
        tensors[name] = tensor
    if not tensors:
        raise UnpickleError("the state dict is empty")
    held = 0
    arrays = {}
    storages: dict[str, bytes | memoryview] = {}
    for name, tensor in tensors.items():
        try:
            array = _array(tensor, archive, storages)
        except (UnpickleError, ValueError, TypeError) as error:
            raise UnpickleError(f"{name}: {error}") from error
        held += array.nbytes
        if held > MAX_SHARING * archive.size:
            raise UnpickleError(
                f"the tensors claim to hold far more than the {archive.size:,} bytes"
            )
        arrays[name] = array
    # Of several networks, only who wants one of them is to say which.
    with suppress(ValueError):
        arrays = own_names(arrays)
    return arrays


def _unwrapped(content: Any) -> dict[Any, Any]:
    for _ in range(MAX_WRAPPERS):
        if not isinstance(content, dict):
            raise UnpickleError(f"no state dict, but {_kind(content)}; save model.state_dict()")
        wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if wrapper is None:
            return content
        content = content[wrapper]
    raise UnpickleError(f"the state dict lies under more than {MAX_WRAPPERS} keys")


def _tensor(value: Any) -> Record | None:
    """Return the record of a tensor, when the value is one or a parameter."""
    if isinstance(value, Record) and value.cls == "torch._utils._rebuild_parameter":
        value = value.args[0]
    if isinstance(value, Record) and value.cls == "torch._utils._rebuild_tensor_v2":
        return value
    return None


def _layout(tensor: Record) -> tuple[_Storage, int, tuple[int, ...], tuple[int, ...]]:
    """Return storage, offset, shape and strides in elements, all within the storage."""
    storage, offset, shape, strides = tensor.args[:4]
    if not (isinstance(shape, tuple) and isinstance(strides, tuple)) or len(shape) > MAX_DIMS:
        raise UnpickleError(f"misformed tensor: not of up to {MAX_DIMS} sizes and strides")
    numbers = (offset, *shape, *strides)
    if any(isinstance(number, int) and number.bit_length() > MAX_BITS for number in numbers):
        raise UnpickleError(f"misformed tensor: sizes, strides or offset of over {MAX_BITS} bits")
    if (
        not isinstance(storage, _Storage)
        or not all(isinstance(number, int) and number >= 0 for number in numbers)
        or len(shape) != len(strides)
    ):
        layout = f"shape {reprlib.repr(shape)}, strides {reprlib.repr(strides)}"
        raise UnpickleError(f"misformed tensor: {layout}")
    count = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # Zero strides would let a few bytes claim any shape.
    if count > storage.numel or (count > 0 and last >= storage.numel):
        raise UnpickleError(
            f"shape {shape} with strides {strides} from {offset} on reaches beyond the storage of"
            f" {storage.numel} values"
        )
    return storage, offset, shape, strides


def _array(
    tensor: Record, archive: _Archive, storages: dict[str, bytes | memoryview]
) -> NDArray[Any]:
    """Copy a tensor out of its storage. `storages` are those that were read before, by their keys."""
    storage, offset, shape, strides = _layout(tensor)
    if storage.key not in storages:
        storages[storage.key] = archive.read(storage)
    data = storages[storage.key]
    if len(data) < storage.numel * storage.itemsize:
        raise UnpickleError(
            f"storage {storage.key} has {len(data)} bytes, too few for {storage.numel} values"
        )
    dtype = np.dtype("<u2" if storage.dtype == BFLOAT16 else storage.dtype)
    values = np.frombuffer(data, dtype, storage.numel)
    view = np.lib.stride_tricks.as_strided(
        values[offset:], shape, [stride * values.itemsize for stride in strides]
    )
    if storage.dtype == BFLOAT16:
        return from_bfloat16(view)
    return view.copy()


def _kind(value: Any) -> str:
    """Say what a value is."""
    if isinstance(value, Record):
        return value.cls
    return value.name if isinstance(value, Global) else type(value).__name__


def _info(archive: _Archive) -> dict[str, Any]:
    """Return what the file holds beside the state dict."""
    content = archive.content
    wrappers = {key for key in WRAPPERS if isinstance(content.get(key), dict)}
    if not wrappers:
        return {}
    rest = {key: value for key, value in content.items() if key not in wrappers}
    left = [MAX_INFO]
    try:
        info: dict[str, Any] = _plain(rest, left)
    except RecursionError:
        raise UnpickleError("nested too deeply") from None
    return info


def _plain(value: Any, left: list[int]) -> Any:
    """Put the value into words and numbers. `left` counts down what it may still hold."""
    left[0] -= 1
    if left[0] < 0:
        raise UnpickleError(f"more than {MAX_INFO:,} values beside the state dict")
    tensor = _tensor(value)
    if tensor is not None:
        storage, _, shape, _ = _layout(tensor)
        left[0] -= len(shape)
        return f"tensor of {storage.dtype.strip('<')}, shape {shape}"
    if isinstance(value, dict):
        return {_words(key, left): _plain(item, left) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, left) for item in value]
    if isinstance(value, Record):
        about = {"class": value.cls}
        if value.args:
            about["args"] = _plain(value.args, left)
        if value.items:
            about["items"] = _plain(value.items, left)
        state = _plain(value.state, left)
        return about | (state if isinstance(state, dict) else {"state": state} if state else {})
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return _kind(value)


def _words(key: Any, left: list[int]) -> str:
    """Put the key of a dict into a string, a short one if it is none. `left` as in `_plain`."""
    if _tensor(key) is not None:
        return str(_plain(key, left))
    if isinstance(key, Record):
        key = (key.cls, *key.args[:MAX_KEY])
    if isinstance(key, tuple):
        left[0] -= len(key)
        return KEYS.repr([_part(value) for value in key])
    return key if isinstance(key, str) else str(_part(key))


def _part(value: Any) -> Any:
    """Leave numbers and strings as they are, and name the class of all else."""
    if isinstance(value, int):
        return value if value.bit_length() <= MAX_KEY_BITS else _kind(value)
    return value if value is None or isinstance(value, (float, str)) else _kind(value)
