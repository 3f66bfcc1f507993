"""All-in-one image restoration networks pruned by the lottery-ticket recipe of MIR-L.

Train PromptIR on denoising, deraining and dehazing together, drop the smallest 20 % of the surviving
weights, rewind the rest to their initial values, and repeat. Or do so with Restormer, DyNet or SymUNet.
"""

from __future__ import annotations

import os

# candle keeps threads of its own that would spin beside ours.
os.environ.setdefault("CANDLE_NUM_THREADS", "1")

import mirl.library  # noqa: F401 decides which library mirl._mirl is, so it comes first
from mirl import _mirl, errors, loggers
from mirl.data import Loader, TestSet, degrade, test_sets
from mirl.evaluate import Evaluation, evaluate
from mirl.export import export
from mirl.inspect import Inspection, inspect
from mirl.io import read_image, write_image
from mirl.load import load
from mirl.lottery import Result, find_ticket
from mirl.machine import (
    devices,
    get_float32_matmul_precision,
    get_num_threads,
    set_float32_matmul_precision,
    set_num_threads,
    show_versions,
)
from mirl.metrics import psnr, ssim
from mirl.models import Density, DyNet, Network, PromptIR, Restormer, Snapshot, SymUNet
from mirl.optim import linear_warmup_cosine
from mirl.prune import PruneReport, prune, rewind
from mirl.restore import restore, restore_files
from mirl.train import Trainer
from mirl.uncertainty import TaskUncertainty

__version__ = _mirl.VERSION

__all__ = [
    "Density",
    "DyNet",
    "Evaluation",
    "Inspection",
    "Loader",
    "Network",
    "PromptIR",
    "PruneReport",
    "Restormer",
    "Result",
    "Snapshot",
    "SymUNet",
    "TaskUncertainty",
    "TestSet",
    "Trainer",
    "degrade",
    "devices",
    "errors",
    "evaluate",
    "export",
    "find_ticket",
    "get_float32_matmul_precision",
    "get_num_threads",
    "inspect",
    "linear_warmup_cosine",
    "load",
    "loggers",
    "prune",
    "psnr",
    "read_image",
    "restore",
    "restore_files",
    "rewind",
    "set_float32_matmul_precision",
    "set_num_threads",
    "show_versions",
    "ssim",
    "test_sets",
    "write_image",
]


def __dir__() -> list[str]:
    """What is public, and the modules that have more of it; not what is imported here."""
    return [*__all__, "__version__", "criteria", "data", "groups", "io", "lottery", "plot"]


if _mirl.is_debug_build():
    import warnings

    warnings.warn("mirl was built without optimisation and is slow", RuntimeWarning, stacklevel=2)
