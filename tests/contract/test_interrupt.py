"""Ctrl-C stops a long call soon, and the package is usable afterwards."""

import subprocess
import sys

import pytest

from reference import SMALL

SECONDS = 1.5
"""Most that a call may go on after the signal, on a machine that does other things too."""

SCRIPT = f"""
import os, signal, sys, threading, time
import numpy as np
import mirl

model = mirl.PromptIR(**{SMALL!r})
trainer = mirl.Trainer(model, lr=0)
large = np.random.default_rng(0).random((4, 3, 512, 512), dtype=np.float32)
small = large[:1, :, :16, :16].copy()
before = model(small)
sent = []

def interrupt():
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

calls = {{
    "forward": lambda: model(large),
    "training step": lambda: trainer.step(large, large),
}}
threading.Timer(0.3, interrupt).start()
try:
    while True:
        calls[sys.argv[1]]()
except KeyboardInterrupt:
    print(time.monotonic() - sent[0])
assert np.array_equal(model(small), before)
trainer.step(small, small)
"""


@pytest.mark.parametrize("call", ["forward", "training step"])
def test_an_interrupt_stops_a_long_call(call):
    command = [sys.executable, "-c", SCRIPT, call]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < SECONDS
