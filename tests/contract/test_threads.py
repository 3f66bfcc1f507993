"""Results do not depend on the number of threads, to the bit."""

import os
import subprocess
import sys

import numpy as np
import pytest

import mirl


def bits(arrays):
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MIRL_NUM_THREADS": "3"}, "3"),
        ({"MIRL_NUM_THREADS": "", "RAYON_NUM_THREADS": "5"}, "5"),
        ({"OMP_NUM_THREADS": "3"}, "3"),
        ({"RAYON_NUM_THREADS": "5", "OMP_NUM_THREADS": "3"}, "5"),
        ({"OMP_NUM_THREADS": "4,2"}, None),  # as if it were not there
        ({"MIRL_NUM_THREADS": "many"}, "MIRL_NUM_THREADS must be a whole number"),
        ({"MIRL_NUM_THREADS": "20000"}, "MIRL_NUM_THREADS must lie in [1, 1024], got 20000"),
    ],
)
def test_the_environment_may_say_how_many(variables, said):
    names = ("MIRL_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", "import mirl; print(mirl.get_num_threads())"]

    def run(variables):
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment | variables
        )

    done = run(variables)
    if said is None or said.isdecimal():
        assert done.stdout.strip() == (said or run({}).stdout.strip())
    else:
        assert said in done.stderr


def test_no_threads_are_refused():
    with pytest.raises(ValueError, match="num_threads"):
        mirl.set_num_threads(0)


def test_forward_has_the_same_bits(threads, small):
    images = np.random.default_rng(0).random((2, 3, 37, 51), dtype=np.float32)
    outputs = []
    for count in (1, 2, 3, 40):
        threads(count)
        assert mirl.get_num_threads() == count
        outputs.append(small(images).tobytes())
    assert all(output == outputs[0] for output in outputs)


def test_training_and_pruning_have_the_same_bits(threads, small, batch):
    initial = small.state_dict()
    runs = []
    for count in (1, 2, 3, 40):
        threads(count)
        small.mask = {}
        small.load_state_dict(initial)
        snapshot = small.snapshot()
        trainer = mirl.Trainer(small, clip_grad_norm=0.5)
        losses = [trainer.step(*batch) for _ in range(2)]
        mirl.prune(small, 0.5)
        mirl.rewind(small, snapshot)
        losses += [mirl.Trainer(small).step(*batch) for _ in range(2)]
        runs.append((losses, bits(small.mask), bits(small.state_dict())))
    assert runs[0][2] != bits(initial)
    assert all(run == runs[0] for run in runs)
