"""A forked child (a DataLoader's worker, say) has no threads of its parent's pool, and works."""

import os
import subprocess
import sys

import pytest

from reference import SMALL

SECONDS = 60

SCRIPT = f"""
import os, sys
import numpy as np
import mirl

model = mirl.PromptIR(**{SMALL!r})
images = np.random.default_rng(0).random((1, 3, 24, 32), dtype=np.float32)
precisions = ["float32", "bfloat16"]

def restored():
    for model.precision in precisions:
        yield model(images)

expected = list(restored())  # starts the threads
photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
loader = mirl.Loader.from_images([photo] * 3, batch_size=1, patch_size=16, tasks=("denoise_25",))
batches = iter(loader)
next(batches)
child = os.fork()
if child == 0:
    same = np.array_equal(list(restored()), expected)
    try:
        next(batches)
        same = False
    except ValueError:  # the thread that makes them is the parent's
        same = same and len(list(loader)) == 3
    trainer = mirl.Trainer(model)
    os._exit(0 if same and np.isfinite(trainer.step(images, images)) else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
# The parent's own threads still serve.
sys.exit(status or not np.array_equal(list(restored()), expected))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_computes_the_same():
    # Python 3.12 warns of any fork beside threads: that it works here is what is shown.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT]
    assert subprocess.run(command, timeout=SECONDS, check=False).returncode == 0


def at_work(shape):
    """A process with a thread that restores images of a shape, again and again."""
    return f"""
import os, threading, time
import numpy as np
import mirl

model = mirl.PromptIR(**{SMALL!r})
images = np.zeros({shape}, np.float32)
done = threading.Event()

def work():
    while not done.is_set():
        model(images)

thread = threading.Thread(target=work)
thread.start()
"""


BUSY = f"""{at_work((2, 3, 384, 384))}
time.sleep(0.5)
child = os.fork()
if child == 0:
    try:
        model.density()
    except RuntimeError as error:
        os._exit(0 if "forked" in str(error) else 1)
    os._exit(0)  # between two calls: that is no call
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
done.set()
thread.join()
raise SystemExit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_of_a_process_at_work_does_not_wait_for_ever():
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BUSY]
    assert subprocess.run(command, timeout=SECONDS, check=False).returncode == 0


MANY = f"""{at_work((1, 3, 128, 128))}
codes = set()
for _ in range(20):
    child = os.fork()
    if child == 0:
        mirl.PromptIR(**{SMALL!r})(images)
        os._exit(0)
    codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
thread.join()
raise SystemExit(codes != {{0}})
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_children_of_a_process_at_work_compute():
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", MANY]
    assert subprocess.run(command, timeout=SECONDS, check=False).returncode == 0
