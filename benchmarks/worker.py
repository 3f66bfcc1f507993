"""Peers in processes of their own, which one process asks in turns."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Worker:
    """The running script, once more, as one of the peers."""

    def __init__(self, peer: str, *arguments: str, **environment: str) -> None:
        self.peer = peer
        self.process = subprocess.Popen(
            [sys.executable, sys.argv[0], "--worker", peer, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def ask(self, question: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # It is gone, and answers nothing.
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"{self.peer} failed")
        return answer

    def stop(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def measure(workers: Mapping[str, Worker], repeats: int, warm_up: int = 1) -> dict[str, Any]:
    """Medians of what each took, all in turns, so that what else the machine does meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for repeat in range(warm_up + repeats):
        for name, worker in workers.items():
            took = float(worker.ask("run"))
            if repeat >= warm_up:
                seconds[name].append(took)
    return {
        name: {
            "seconds": median(seconds[name]),
            "all": seconds[name],
            "peak_bytes": int(worker.ask("memory")),
        }
        for name, worker in workers.items()
    }


def serve(answers: Mapping[str, Callable[[], Any]]) -> None:
    """Answer the process that measures until it asks no more."""
    for question in sys.stdin:
        print(answers[question.strip()](), flush=True)


class Part(NamedTuple):
    """What a step gives that was measured in part."""

    seconds: float


def serve_step(peer: str, step: Callable[[], Any], **more: Callable[[], Any]) -> None:
    """Answer how long a step takes, what it gives, and more."""

    def run() -> float:
        begin = time.perf_counter()
        own = step()
        return own.seconds if isinstance(own, Part) else time.perf_counter() - begin

    def output() -> Path:
        file = Path(tempfile.gettempdir(), f"mirl-bench-{peer.replace(' ', '-')}.npy")
        np.save(file, np.asarray(step()))
        return file

    serve({"run": run, "output": output, **more})
