"""Safetensors files as other programs write them."""

import json
import struct

TYPES = {
    **{"f8": "F64", "f4": "F32", "f2": "F16", "u2": "BF16"},
    **{"i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u1": "U8", "b1": "BOOL"},
}
"""Names of numpy's types in safetensors files; bfloat16 has none of its own."""


def write_safetensors(path, arrays, metadata):
    """A file as other programs write it."""
    header, data = {"__metadata__": metadata}, b""
    for name, array in arrays.items():
        values = array.tobytes()
        header[name] = {
            "dtype": TYPES[array.dtype.str[1:]],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(values)],
        }
        data += values
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)
    return path
