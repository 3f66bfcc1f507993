"""The package's own exceptions and warnings; each is also one of Python's."""

from mirl._mirl import DeviceError, DivergenceError, FormatError, InternalError

__all__ = ["CollapseWarning", "DeviceError", "DivergenceError", "FormatError", "InternalError"]


class CollapseWarning(UserWarning):
    """Pruning has emptied a layer that everything goes through."""
