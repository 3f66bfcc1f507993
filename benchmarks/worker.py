"""Peers in processes of their own, which one process asks in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

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


def serve(answers: Mapping[str, Callable[[], Any]]) -> None:
    """Answer the process that measures until it asks no more."""
    for question in sys.stdin:
        print(answers[question.strip()](), flush=True)
