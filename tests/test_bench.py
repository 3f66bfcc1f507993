"""What is timed, and in which order."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest

import mirl
from mirl import bench
from same import assert_same_state


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
@pytest.mark.parametrize("name", ["size", "patch_size", "batch_size", "repeats"])
def test_wrong_numbers_are_named(small, name, value, error):
    with pytest.raises(error, match=name):
        bench.bench(small, **{name: value})


def test_the_median_is_told_and_the_first_call_is_not_measured(monkeypatch):
    clock = [0.0]
    took = iter([100.0, 1.0, 6.0, 2.0])

    def call():
        clock[0] += next(took)

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    timing = bench._timing("restore", np.zeros((1, 3, 8, 8)), call, 3, "cpu")
    assert timing.seconds == 2
    assert timing.shape == (1, 3, 8, 8)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_in_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    # What started the process may have held more.
    assert 0.9 < bench._peak_memory() / (1024 * peak) < 100


def test_a_copy_to_train_is_made_after_restoring_is_timed(small, monkeypatch):
    done = []
    timing = bench._timing
    deepcopy = copy.deepcopy
    monkeypatch.setattr(bench, "_timing", lambda *rest: done.append(rest[0]) or timing(*rest))
    monkeypatch.setattr(copy, "deepcopy", lambda model: done.append("copy") or deepcopy(model))
    monkeypatch.setattr(mirl.PromptIR, "from_state_dict", None)
    bench.bench(small, size=16, patch_size=16, repeats=1)
    assert done == ["restore", "copy", "training step"]


def test_the_network_is_left_alone(small):
    before = small.state_dict()
    bench.bench(small, size=16, patch_size=16, repeats=1)
    assert_same_state(small.state_dict(), before)


def test_training_has_the_precision_of_restoring(small, monkeypatch):
    trained = []

    def trainer(model, *, precision):
        trained.append(precision)
        return mirl.Trainer(model)

    monkeypatch.setattr(bench, "Trainer", trainer)
    for small.precision in ("float32", "bfloat16"):
        monkeypatch.setattr(mirl.PromptIR, "__call__", lambda *_: None)
        bench.bench(small, size=16, patch_size=16, repeats=1)
    assert trained == ["float32", "bfloat16"]
