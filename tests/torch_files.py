"""PyTorch's file formats, written by hand: pickles opcode by opcode, storages beside them."""

import io
import pickle
import struct
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

STORAGES = {"f8": "Double", "f4": "Float", "f2": "Half", "i8": "Long", "u1": "Byte", "b1": "Bool"}


@dataclass(eq=False)
class Name:
    """A global, such as torch.FloatStorage."""

    module: str
    name: str


@dataclass(eq=False)
class Call:
    """REDUCE or NEWOBJ, with optional items and state."""

    function: Name
    args: tuple
    new: bool = False
    items: list | dict | None = None
    state: Any = None


@dataclass(eq=False)
class Tensor:
    """A view of a storage."""

    key: str
    storage: str
    numel: int
    shape: tuple
    strides: tuple
    offset: int = 0


def opcodes(value):
    """The opcodes (protocol 2) that build a value."""
    if isinstance(value, Name):
        return b"c" + f"{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        code = opcodes(value.function) + opcodes(value.args) + (b"\x81" if value.new else b"R")
        if value.items is not None:
            code += opcodes(value.items)[1:]  # without the opcode of an empty list or dict
        return code if value.state is None else code + opcodes(value.state) + b"b"
    if isinstance(value, Tensor):
        location = ("storage", Name("torch", value.storage), value.key, "cpu", value.numel)
        code = b"(" + opcodes(location) + b"Q" + opcodes(value.offset) + opcodes(value.shape)
        code += opcodes(value.strides) + opcodes(False)
        code += opcodes(Call(Name("collections", "OrderedDict"), ())) + b"t"
        return opcodes(Name("torch._utils", "_rebuild_tensor_v2")) + code + b"R"
    if isinstance(value, dict):
        items = (opcodes(key) + opcodes(item) for key, item in value.items())
        return b"}(" + b"".join(items) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(opcodes, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(opcodes, value)) + b"t"
    return pickle.dumps(value, 2)[2:-1]  # without PROTO and STOP


def pickled(value):
    return b"\x80\x02" + opcodes(value) + b"."


def tensors(arrays):
    """Tensors and storages of contiguous arrays."""
    records, storages = {}, {}
    for name, array in arrays.items():
        key = str(len(storages))
        storages[key] = array.tobytes()
        strides = tuple(stride // array.itemsize for stride in array.strides)
        storage = f"{STORAGES[array.dtype.str[1:]]}Storage"
        records[name] = Tensor(key, storage, array.size, array.shape, strides)
    return records, storages


def write_zip(path, content, storages, byteorder="little", compression=zipfile.ZIP_STORED):
    data = content if isinstance(content, bytes) else pickled(content)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", byteorder)
        for key, values in storages.items():
            archive.writestr(f"archive/data/{key}", values)
        archive.writestr("archive/version", "3\n")
    return path


def write_legacy(path, content, storages, little_endian=True):
    file = io.BytesIO()
    file.write(pickled(0x1950A86A20F9469CFC6C) + pickled(1001))
    file.write(pickled({"protocol_version": 1001, "little_endian": little_endian}))
    file.write(pickled(content) + pickled(list(storages)))
    for values in storages.values():
        file.write(struct.pack("<q", len(values) // 4) + values)
    path.write_bytes(file.getvalue())
    return path


def write_state(path, arrays, wrap=lambda state: state):
    """A zip file of a state dict."""
    records, storages = tensors({name: np.ascontiguousarray(a) for name, a in arrays.items()})
    return write_zip(path, wrap(records), storages)
