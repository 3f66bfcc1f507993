"""What a benchmark ran on, and the memory that it took."""

from __future__ import annotations

import os
import threading
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mirl

if TYPE_CHECKING:
    from collections.abc import Callable

_SAMPLES_APART = 0.01
"""Seconds between two looks at the memory of several processes."""


def describe() -> dict[str, Any]:
    """Versions, processor and threads, for the record."""
    return mirl.machine.versions() | {"cpu": mirl.devices()["cpu"]} | cpu_model()


def cpu_model() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    about = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in about.items()}
    keys = ("model name", "cpu family", "model", "cpu MHz", "cache size")
    return {key: named[key] for key in keys if key in named}


def peer_versions(*names: str) -> dict[str, str]:
    return {name: version(name) for name in names}


def peak_memory() -> int:
    """Most memory of this process since it began, in bytes."""
    return _kilobytes("/proc/self/status", "VmHWM:") * 1024


def peak_memory_with_children(work: Callable[[], Any]) -> int:
    """Most memory of this process and its children while `work` is done, in bytes."""
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(_SAMPLES_APART):
            # Pages that processes share count once: each has its proportional part of them.
            sizes = [_kilobytes(f"/proc/{process}/smaps_rollup", "Pss:") for process in family()]
            peak = max(peak, sum(sizes) * 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return peak


def family() -> list[int]:
    """This process and all that its main thread and theirs have started."""
    found = [os.getpid()]
    for process in found:  # grows while it is walked
        found += map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
    return found


def _kilobytes(file: str, name: str) -> int:
    lines = Path(file).read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])
