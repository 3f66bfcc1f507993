"""The package's own exceptions; each is also one of Python's."""

from mirl._mirl import DeviceError, DivergenceError, FormatError, InternalError

__all__ = ["DeviceError", "DivergenceError", "FormatError", "InternalError"]
