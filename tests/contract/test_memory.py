"""What a large image needed goes back to the system once the calls are small; what is not there to be
had ends the call, not the process."""

import subprocess
import sys
from pathlib import Path

import pytest

import mirl

PROGRAM = """
import numpy as np
import mirl
from reference import SMALL

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

model = mirl.PromptIR(**SMALL)
before = resident()
model(np.zeros((1, 3, 2000, 2000), np.float32))
large = resident()
for _ in range(40):
    model(np.zeros((1, 3, 16, 16), np.float32))
print(before, large, resident())
"""

LIMITED = """
import resource
import numpy as np
import mirl
from reference import SMALL

model = mirl.PromptIR(**SMALL)
small = np.full((1, 3, 16, 16), 0.5, np.float32)
expected = model(small)
trainer = mirl.Trainer(model, lr=0.0)
loss = trainer.step(small, small)
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, ((used << 10) + (700 << 20),) * 2)
image = np.zeros((1, 3, 2000, 2000), np.float32)
for call in (lambda: model(image), lambda: trainer.step(image, image)):
    try:
        call()
    except MemoryError as error:
        assert "no memory for" in str(error), error
    else:
        raise AssertionError("it had memory for that")
# All is as it was, and what tells its limit is tiled.
assert (model(small) == expected).all()
assert trainer.step(small, small) == loss
assert mirl.machine.memory() < 1 << 40
print(mirl.restore(model, image[:, :, :700, :700], tile=None).shape)
"""


TRAINING = """
import sys
import numpy as np
import mirl
from reference import SMALL

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

model = mirl.PromptIR(**SMALL)
images = np.zeros((2, 3, 128, 128), np.float32)
name, setting = sys.argv[1].partition("=")[::2]
settings = {name: int(setting) if setting.isdigit() else setting} if name else {}
before = peak()
if sys.argv[2] == "Trainer":
    mirl.Trainer(model, **settings).step(images, images)
else:
    mirl.find_ticket(model, [(images, images)], rounds=0, loggers=(), **settings)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for its memory")
@pytest.mark.parametrize("by", ["Trainer", "find_ticket"])
def test_training_may_take_less_memory(by):
    tests = Path(__file__).parents[1]
    whole, recomputed, parts = (
        int(subprocess.check_output([sys.executable, "-c", TRAINING, each, by], cwd=tests))
        for each in ("", "recompute=block", "micro_batch=1")
    )
    assert recomputed < 0.7 * whole
    assert parts < 0.7 * whole


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for its memory")
def test_a_lack_of_memory_is_an_exception():
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-c", LIMITED]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tests)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 3, 700, 700)\n"


def test_limits_of_containers_count(tmp_path, monkeypatch):
    inner = tmp_path / "app" / "worker"
    inner.mkdir(parents=True)
    groups = tmp_path / "groups"
    groups.write_text("9:name=systemd:/\n1:cpu:/\n0::/app/worker\n")
    monkeypatch.setattr("mirl.machine.CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr("mirl.machine.OWN_GROUPS", groups)
    whole = mirl.machine.memory()
    (inner / "memory.max").write_text("max\n")
    assert mirl.machine.memory() == whole
    (tmp_path / "app" / "memory.max").write_text("123456789\n")
    assert mirl.machine.memory() == 123456789
    groups.write_text("4:cpu,memory:/app\n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("98765432\n")
    assert mirl.machine.memory() == 98765432
    groups.unlink()
    assert mirl.machine.memory() == whole


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for its memory")
def test_memory_goes_back_after_small_calls():
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-c", PROGRAM]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tests).stdout
    before, large, after = map(int, out.split())
    assert large - before > 500_000
    assert after - before < (large - before) / 2
