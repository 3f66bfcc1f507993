"""Where training steps and restorations of the published sizes spend their time on this GPU.

Parts of a step are those of `Trainer.seconds`. Kernels come from PyTorch's profiler, which sees those
of any library in its process; they are left out where there is none for CUDA.

    python benchmarks/gpu_parts.py
"""

from __future__ import annotations

import os
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

import mirl
from cpu import weights
from worker import name_of, work_of

if TYPE_CHECKING:
    from collections.abc import Callable

INFERENCE = (1, 3, 256, 256)
TRAINING = (8, 3, 128, 128)
STEPS = 10
KERNELS = 40
"""Rows of the table, those that take longest first."""


def main() -> None:
    os.environ["MIRL_CUDA_GRAPHS"] = "0"  # What is replayed does not know its parts.
    for precision in ("float32", "bfloat16"):
        train(precision)
        infer(precision)


def train(precision: str) -> None:
    name = name_of("train", TRAINING)
    images = work_of(name)[1]
    clean = images * np.float32(0.9)
    trainer = mirl.Trainer(weights().to("cuda"), precision=precision)
    taken = []
    for _ in range(1 + STEPS):
        trainer.step(images, clean)
        taken.append(trainer.seconds._asdict())
    parts = {part: median(seconds[part] for seconds in taken[1:]) for part in taken[0]}
    print(name, precision, *(f"{part} {1e3 * seconds:.2f} ms" for part, seconds in parts.items()))
    print(kernels(lambda: trainer.step(images, clean)), flush=True)


def infer(precision: str) -> None:
    name = name_of("infer", INFERENCE)
    images = work_of(name)[1]
    network = weights().to("cuda")
    network.precision = precision
    network(images)
    print(name, precision)
    print(kernels(lambda: network(images)), flush=True)


def kernels(work: Callable[[], object]) -> str:
    """A table of what the GPU does meanwhile."""
    try:
        from torch import cuda, profiler
    except ModuleNotFoundError:
        cuda = None
    if cuda is None or not cuda.is_available():
        return "kernels are left out: PyTorch with CUDA is not there"
    with profiler.profile(activities=[profiler.ProfilerActivity.CUDA]) as found:
        work()
    return found.key_averages().table(sort_by="self_device_time_total", row_limit=KERNELS)


if __name__ == "__main__":
    main()
