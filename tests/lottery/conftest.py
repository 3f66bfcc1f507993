"""Runs that several rooms look at, each made once; what looks at them leaves them as they are."""

import numpy as np
import pytest

import mirl
from dataset import write_dataset
from lottery_run import run
from mirl.lottery import Experiment, Sweep
from recipes import RECIPE, SWEEP


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with data, a recipe and a sweep."""
    folder = tmp_path_factory.mktemp("lab")
    write_dataset(folder / "data")
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "sweep.toml").write_text(SWEEP)
    return folder


@pytest.fixture(scope="session")
def swept(place):
    """The folder of the sweep, run one by one."""
    with pytest.raises(
        RuntimeError, match="2 of 6 runs failed\nbad-seed0: ValueError: rewind must be"
    ):
        Sweep.load(place / "sweep.toml").run(place / "runs", progress=False)
    return place / "runs"


def measured(model):
    """A measure of one's own, and one with the name of a column."""
    value = float(np.abs(model(np.full((1, 3, 16, 16), 0.5, np.float32))).mean())
    return {"derain": {"lpips.alex": value, "loss": 2 * value}}


@pytest.fixture(scope="session")
def own(place, tmp_path_factory):
    """Folders of runs without a sweep, by method, and their results."""
    folder = tmp_path_factory.mktemp("own")
    sizes = Experiment.load(place / "recipe.toml").network
    found = {
        method: [
            mirl.find_ticket(
                mirl.PromptIR(seed=seed, **sizes),
                mirl.Loader.from_folder(place / "data", patch_size=16, seed=seed),
                rounds=1,
                amount=0.5,
                criterion=criterion,
                evaluate=measured,
                out=folder / f"{method}{seed}",
                loggers=(),
            )
            for seed in (0, 1)
        ]
        for method, criterion in (("ticket", "magnitude"), ("random", "random"))
    }
    return {name: [folder / f"{name}{seed}" for seed in (0, 1)] for name in found}, found


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The folder and result of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)
