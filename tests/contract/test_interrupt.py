"""Ctrl-C stops a long call soon, and the package is usable afterwards."""

import subprocess
import sys

import pytest

from reference import SMALL

SHARE = 0.5
"""Most of a whole call that one may go on after a signal that comes soon after its begin."""
SOON = 0.1
LONG = 1.0
"""Seconds that a call takes at least, so that what else the machine does is little of it."""

SCRIPT = f"""
import os, signal, sys, threading, time
import numpy as np
import mirl

model = mirl.PromptIR(**{SMALL!r})
trainer = mirl.Trainer(model, lr=0)
large = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)
small = large[:1, :, :16, :16].copy()
sent = []

def interrupt():
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

calls = {{
    "forward": lambda: model(large),
    "training step": lambda: trainer.step(large, large),
}}
whole = 0.0
while whole < {LONG}:
    large = np.concatenate([large, large])
    begin = time.monotonic()
    calls[sys.argv[1]]()
    whole = time.monotonic() - begin
before = model(small)
threading.Timer({SOON} * whole, interrupt).start()
try:
    while True:
        calls[sys.argv[1]]()
except KeyboardInterrupt:
    print((time.monotonic() - sent[0]) / whole)
assert np.array_equal(model(small), before)
trainer.step(small, small)
"""


@pytest.mark.parametrize("call", ["forward", "training step"])
def test_an_interrupt_stops_a_long_call(call):
    command = [sys.executable, "-c", SCRIPT, call]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < SHARE


HANDLER = f"""
import os, signal
import numpy as np
import mirl

model = mirl.PromptIR(**{SMALL!r})
trainer = mirl.Trainer(model, lr=0)
large = np.zeros((4, 3, 384, 384), np.float32)
told = []

def handler(*_):
    if told:
        return
    for use in (model.density, lambda: trainer.steps, lambda: trainer.save_checkpoint("x")):
        try:
            use()
        except RuntimeError as error:
            told.append(str(error))
        else:  # between two calls: the next signal comes soon
            return

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
while not told:
    trainer.step(large, large)
signal.setitimer(signal.ITIMER_REAL, 0)
assert len(told) == 3 and all("set a flag" in text for text in told), told
assert not os.path.exists("x")
trainer.step(large, large)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_handler_is_told_that_the_call_it_interrupts_is_at_work(tmp_path):
    command = [sys.executable, "-c", HANDLER]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr


WAITING = f"""
import os, signal, threading, time
import numpy as np
import mirl

model = mirl.PromptIR(**{SMALL!r})
large = np.zeros((1, 3, 256, 256), np.float32)
whole = 0.0
while whole < {LONG}:
    large = np.concatenate([large, large])
    begin = time.monotonic()
    model(large)
    whole = time.monotonic() - begin
begun, sent = threading.Event(), []

def work():
    begun.set()
    model(large)

def interrupt():
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

thread = threading.Thread(target=work)
thread.start()
begun.wait()
threading.Timer({SOON} * whole, interrupt).start()
try:
    while True:
        model.density()
        time.sleep(0.01)
except KeyboardInterrupt:
    print((time.monotonic() - sent[0]) / whole)
thread.join()
"""


def test_an_interrupt_ends_the_wait_for_another_thread():
    command = [sys.executable, "-c", WAITING]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < SHARE
