"""The core's library, `mirl._mirl`: mirl-cuda's in place of this package's where it can be used.

mirl-cuda holds the same core, built with CUDA and linked to NVIDIA's driver: a system without the
driver refuses to load it. So it is tried, and what the system says is kept.
"""

from __future__ import annotations

import importlib
import sys

VERSION = "0.1.0"
"""The version of the core that this package belongs to, known before any library is loaded."""


def _use_cuda() -> str:
    """Take mirl-cuda's library; where that fails, say why."""
    try:
        library = importlib.import_module("mirl_cuda._mirl")
    except ModuleNotFoundError:
        return 'mirl-cuda is not installed: pip install "mirl[cuda]"'
    except ImportError as error:
        if "libcuda.so" in str(error):
            return f"NVIDIA's driver is not installed ({error})"
        return f"mirl-cuda cannot be loaded: {error}"
    if library.VERSION != VERSION:
        return f'mirl-cuda is {library.VERSION}: pip install "mirl[cuda]=={VERSION}"'
    sys.modules["mirl._mirl"] = library
    return ""


NO_CUDA = _use_cuda()
"""Why the library is the one without CUDA; empty where it is not."""
