"""Arrays of other libraries, as numpy sees them."""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray


class SupportsDLPack(Protocol):
    """What DLPack views: tensors of PyTorch, arrays of JAX or CuPy."""

    def __dlpack__(self, *args: Any, **options: Any) -> Any:
        """Export the values."""

    def __dlpack_device__(self) -> Any:
        """Say where they lie."""


FloatArray: TypeAlias = NDArray[np.float32] | SupportsDLPack
"""float32 values, of numpy or of another library."""

MAX_DIMS = 64
"""Dimensions that numpy's arrays may have."""

HOST = (1, 3, 11, 13)
"""Memory that the processor reads: kDLCPU, kDLCUDAHost, kDLROCMHost and kDLCUDAManaged of dlpack.h."""


def as_array(values: Any, what: str) -> Any:
    """View a tensor of another library as a numpy array, without a copy.

    Parameters
    ----------
    values
        Whatever has ``__dlpack__``, a torch tensor say. All else is given back as it is.
    what
        What it is called in messages.

    Raises
    ------
    TypeError
        It is not in the processor's memory, or cannot be exported: it requires a gradient, or has an
        element type that numpy has not. A masked array, whose mask would count for nothing.
    """
    check_unmasked(values, what)
    if isinstance(values, np.ndarray) or not hasattr(values, "__dlpack__"):
        return values
    try:
        device, _ = values.__dlpack_device__()
        if device in HOST:
            # By __array__ where there is a choice: PyTorch's DLPack drops the sign of a negated view.
            return np.asarray(values) if hasattr(values, "__array__") else np.from_dlpack(values)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{what}: {error}") from error
    kind = type(values).__name__
    place = getattr(values, "device", f"DLPack's device {int(device)}")
    raise TypeError(f"{what}: expected a {kind} in the processor's memory, got one on {place}")


def from_bfloat16(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Make float32 values of their upper halves."""
    return (halves.astype("<u4").reshape(-1) << 16).view("<f4").reshape(halves.shape)


def check_unmasked(values: Any, what: str) -> None:
    """Raise a TypeError for a masked array."""
    # Looked up, not imported: where numpy.ma never was, nothing is masked, and a child forked while
    # another thread imports it would wait for that for ever.
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())
    if isinstance(values, masked):
        raise TypeError(f"{what}: a masked array; fill it first, its mask would count for nothing")
