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
large = np.zeros((16, 3, 512, 512), np.float32)
done = threading.Event()

def work():
    while not done.is_set():
        model(large)

thread = threading.Thread(target=work)
thread.start()
threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        model.density()
        time.sleep(0.01)
except KeyboardInterrupt:
    print("interrupted")
done.set()
thread.join()
"""


def test_an_interrupt_ends_the_wait_for_another_thread():
    command = [sys.executable, "-c", WAITING]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout == "interrupted\n", run.stderr
