"""The core's library, `mirl._mirl`: mirl-cuda's in place of this package's where it can be used.

mirl-cuda holds the same core, built with CUDA and linked to NVIDIA's driver: a system without the
driver refuses to load it. So it is tried, and what the system says is kept.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

VERSION = "0.1.0"
"""The version of the core that this package belongs to, known before any library is loaded."""

INSTALL = 'pip install ./cuda in a clone, or pip install "mirl[cuda]" from an index that has it'


def _use_cuda() -> str:
    """Take mirl-cuda's library; where that fails, say why."""
    try:
        library = _library()
    except ModuleNotFoundError:
        return f"mirl-cuda is not installed: {INSTALL}"
    except ImportError as error:
        if "libcuda.so" in str(error):
            return f"NVIDIA's driver is not installed ({error})"
        return f"mirl-cuda cannot be loaded: {error}"
    if library.VERSION != VERSION:
        return f"mirl-cuda is {library.VERSION}, not {VERSION}: {INSTALL}"
    sys.modules["mirl._mirl"] = library
    return ""


def _library() -> ModuleType:
    """Import mirl-cuda's library, which itself looks for cuBLAS only beside its own folder."""
    try:
        return importlib.import_module("mirl_cuda._mirl")
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        if "libcublas" not in str(error):
            raise
        _load_cublas()
        return importlib.import_module("mirl_cuda._mirl")


def _load_cublas() -> None:
    """Load cuBLAS from wherever pip has put NVIDIA's packages; where it is not there, nothing."""
    with suppress(ModuleNotFoundError):
        spec = find_spec("nvidia.cu13")
        for folder in (spec and spec.submodule_search_locations) or ():
            for name in ("libcublasLt.so.13", "libcublas.so.13"):  # the second needs the first
                with suppress(OSError):
                    ctypes.CDLL(str(Path(folder, "lib", name)), mode=ctypes.RTLD_GLOBAL)


NO_CUDA = _use_cuda()
"""Why the library is the one without CUDA; empty where it is not."""
