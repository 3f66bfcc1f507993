"""The machine: threads, devices and versions."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from mirl import _mirl
from mirl.checks import check_choice, whole
from mirl.choices import Device, MatmulPrecision
from mirl.errors import DeviceError
from mirl.library import NO_CUDA

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = get_args(Device)
MATMUL_PRECISIONS = get_args(MatmulPrecision)
CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def set_num_threads(num_threads: int) -> None:
    """Set the number of threads of the package's own pool; results do not depend on it.

    By default MIRL_NUM_THREADS, RAYON_NUM_THREADS or OMP_NUM_THREADS, whichever is set first, or
    the number of cores.

    Parameters
    ----------
    num_threads
        From 1 to 1024.

    Raises
    ------
    ValueError
        Less or more.
    TypeError
        No whole number.
    """
    _mirl.set_num_threads(whole("num_threads", num_threads, 1))


def get_num_threads() -> int:
    """The number of threads of the package's own pool."""
    return _mirl.get_num_threads()


def _cuda() -> str:
    """The GPU that networks can run on; a DeviceError says why there is none."""
    if NO_CUDA:
        raise DeviceError(NO_CUDA)
    return _mirl.gpu_name()


def devices() -> dict[str, str]:
    """What networks can run on: device name to what it is, or why it is not there."""
    try:
        cuda = _cuda()
    except DeviceError as error:
        cuda = f"not there: {error}"
    return {
        "cpu": f"{platform.machine()}, {_mirl.simd()}, {get_num_threads()} threads",
        "cuda": cuda,
    }


def memory() -> int | None:
    """Bytes of memory that this process may come to have; None where the system does not tell.

    Those of the machine, or fewer where a container or ``ulimit`` sets a limit. Not those that are
    free at the moment.
    """
    try:
        machine = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):
        machine = []
    return min([*machine, *_process_limits(), *_group_limits()], default=None)


def _process_limits() -> Iterator[int]:
    """What ``ulimit -v`` and ``ulimit -d`` leave."""
    try:
        import resource
    except ImportError:
        return
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        bytes_, _ = resource.getrlimit(limit)
        if bytes_ != resource.RLIM_INFINITY:
            yield bytes_


def _group_limits() -> Iterator[int]:
    """What Linux's control groups leave, those of containers say: of all groups that we are in."""
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if not controllers:
            top, name = CONTROL_GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = CONTROL_GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = Path(place.lstrip("/"))
        for folder in (group, *group.parents):
            try:
                limit = (top / folder / name).read_text(encoding="utf-8").strip()
            except OSError:
                continue
            if limit.isdecimal():
                yield int(limit)


def device_choice(device: str) -> str:
    """`device` itself, where networks can run on it.

    Raises
    ------
    mirl.errors.DeviceError
        It is not there; the message says why.
    ValueError
        There is no such device.
    """
    check_choice("device", device, DEVICES)
    if device == "cuda":
        try:
            _cuda()
        except DeviceError as error:
            raise DeviceError(f"device 'cuda' is not there: {error}") from None
    return device


def set_float32_matmul_precision(precision: MatmulPrecision) -> None:
    """Set how matrix products of float32 are computed on a GPU.

    Parameters
    ----------
    precision
        ``"high"`` (default): operands are rounded to TF32, 10 bits of mantissa, and summed up in
        float32; as PyTorch's convolutions are by default. ``"highest"``: float32 throughout.

    Raises
    ------
    ValueError
        Another precision.
    """
    check_choice("precision", precision, MATMUL_PRECISIONS)
    _mirl.set_tf32(precision == "high")


def get_float32_matmul_precision() -> MatmulPrecision:
    """How matrix products of float32 are computed on a GPU: ``"high"`` or ``"highest"``."""
    return "high" if _mirl.tf32() else "highest"


def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    return {
        "mirl": _mirl.VERSION,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{sys.platform}-{platform.machine()}",
        "simd": _mirl.simd(),
    }


def show_versions() -> None:
    """Print versions, devices and threads, for a report."""
    for name, version in (versions() | devices()).items():
        print(f"{name:<9} {version}")
