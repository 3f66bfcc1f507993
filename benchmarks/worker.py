"""Peers in processes of their own, which one process asks in turns."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from select import select
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

GRACE = 10.0
"""Seconds that a worker has to end of its own."""
RAISED = re.compile(r"[\w.]+(Error|Exception)\b")
"""The line of a traceback that says what was raised."""


class WorkerError(RuntimeError):
    """A worker has failed, or did not answer in time."""


class Worker:
    """The running script, once more, as one of the peers."""

    def __init__(self, peer: str, *arguments: str, threads: int | None = None) -> None:
        self.peer = peer
        self.until = math.inf
        """When the last answer has to be there, by `time.monotonic`."""
        environment = {}
        if threads is not None:
            arguments += ("--threads", str(threads))
            environment = dict.fromkeys(("MIRL_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, sys.argv[0], "--worker", peer, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=os.environ | environment,
        )

    def ask(self, question: str) -> str:
        """The answer, of one line; without one the worker is ended, and WorkerError says why."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # It is gone, and answers nothing.
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
        left = None if math.isinf(self.until) else max(0, self.until - time.monotonic())
        if not select([self.process.stdout], [], [], left)[0]:
            self.stop(grace=0)
            raise WorkerError(f"{self.peer}: no answer in time")
        answer = self.process.stdout.readline().strip()
        if not answer:
            raised = [line for line in self.stop().splitlines() if RAISED.match(line)]
            status = f"ended with status {self.process.returncode}"
            raise WorkerError(f"{self.peer}: {raised[-1] if raised else status}")
        return answer

    @property
    def is_stopped(self) -> bool:
        assert self.process.stdin is not None
        return self.process.stdin.closed

    def stop(self, grace: float = GRACE) -> str:
        """End the process, by force if it takes longer; what it wrote to stderr, which is told."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            with suppress(subprocess.TimeoutExpired):  # A driver that hangs keeps it even then.
                self.process.wait(GRACE)
        self.log.seek(0)
        said = self.log.read()
        self.log.truncate(0)  # Told once.
        sys.stderr.write(said)
        return said


def name_of(kind: str, shape: Sequence[int]) -> str:
    """What workers are told to do: "train 8x3x128x128"."""
    return f"{kind} {'x'.join(map(str, shape))}"


def work_of(name: str) -> tuple[str, Any]:
    """The kind of `name_of`, and images of these sizes."""
    kind, sizes = name.split()
    shape = tuple(int(size) for size in sizes.split("x"))
    return kind, np.random.default_rng(0).random(shape, dtype=np.float32)


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
    out, sys.stdout = sys.stdout, sys.stderr  # What libraries print is no answer.
    for question in sys.stdin:
        print(answers[question.strip()](), file=out, flush=True)


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
