"""What is timed, and in which order."""

import copy

import pytest

import mirl
from mirl import bench


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
@pytest.mark.parametrize("name", ["size", "patch_size", "batch_size", "repeats"])
def test_wrong_numbers_are_named(small, name, value, error):
    with pytest.raises(error, match=name):
        bench.bench(small, **{name: value})


def test_a_copy_to_train_is_made_after_restoring_is_timed(small, monkeypatch):
    done = []
    timing = bench._timing
    deepcopy = copy.deepcopy
    monkeypatch.setattr(bench, "_timing", lambda *rest: done.append(rest[0]) or timing(*rest))
    monkeypatch.setattr(copy, "deepcopy", lambda model: done.append("copy") or deepcopy(model))
    monkeypatch.setattr(mirl.PromptIR, "from_state_dict", None)
    bench.bench(small, size=16, patch_size=16, repeats=1)
    assert done == ["restore", "copy", "training step"]
