"""What must be the same to the bit: states of networks, and folders of runs."""

import json

import numpy as np


def assert_same_state(found, expected):
    """Arrays by name: parameters, masks, averages, gradients."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def records(folder):
    """What a run recorded of its rounds, without the time that they took."""
    lines = (folder / "record.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    for record in found:
        assert record.pop("seconds") >= 0
    return found


def assert_same_run(folder, other):
    assert records(folder) == records(other)
    tickets = sorted(path.name for path in folder.glob("*.mirl.safetensors"))
    assert tickets == sorted(path.name for path in other.glob("*.mirl.safetensors"))
    for name in tickets:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
