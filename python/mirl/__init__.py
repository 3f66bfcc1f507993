"""All-in-one image restoration networks pruned by the lottery-ticket recipe of MIR-L.

Train PromptIR on denoising, deraining and dehazing together, drop the smallest 20 % of the surviving
weights, rewind the rest to their initial values, and repeat.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# candle keeps threads of its own that would spin beside ours.
os.environ.setdefault("CANDLE_NUM_THREADS", "1")

from mirl import _mirl, errors
from mirl.machine import devices, get_num_threads, set_num_threads, show_versions
from mirl.models import Density, PromptIR, Snapshot
from mirl.optim import linear_warmup_cosine
from mirl.prune import PruneReport, prune, rewind
from mirl.train import Trainer

if TYPE_CHECKING:
    from mirl.data import Loader, TestSet, test_sets
    from mirl.evaluate import Evaluation, evaluate
    from mirl.inspect import inspect
    from mirl.io import read_image, write_image
    from mirl.load import load
    from mirl.lottery import Result, find_ticket
    from mirl.metrics import psnr, ssim
    from mirl.restore import restore

__version__ = _mirl.VERSION

# Loaded when first asked for, so that `import mirl` stays quick.
_LAZY = {
    "Evaluation": "evaluate",
    "Loader": "data",
    "Result": "lottery",
    "TestSet": "data",
    "evaluate": "evaluate",
    "find_ticket": "lottery",
    "inspect": "inspect",
    "load": "load",
    "psnr": "metrics",
    "read_image": "io",
    "restore": "restore",
    "ssim": "metrics",
    "test_sets": "data",
    "write_image": "io",
}

__all__ = [
    "Density",
    "Evaluation",
    "Loader",
    "PromptIR",
    "PruneReport",
    "Result",
    "Snapshot",
    "TestSet",
    "Trainer",
    "devices",
    "errors",
    "evaluate",
    "find_ticket",
    "get_num_threads",
    "inspect",
    "linear_warmup_cosine",
    "load",
    "prune",
    "psnr",
    "read_image",
    "restore",
    "rewind",
    "set_num_threads",
    "show_versions",
    "ssim",
    "test_sets",
    "write_image",
]

if _mirl.is_debug_build():
    import warnings

    warnings.warn("mirl was built without optimisation and is slow", RuntimeWarning, stacklevel=2)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mirl' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mirl.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
