"""What a round is measured by: functions, test sets, and the numbers that they may return."""

import json
from dataclasses import replace

import numpy as np
import pytest

import mirl
from lottery_run import Noise, run
from mirl.loggers import Logger
from mirl.lottery.measuring import measure
from same import assert_same_run


def test_a_round_that_cannot_be_measured_is_not_trained_again(whole, tmp_path):
    """Neither a fault of the measuring nor the process's end costs the round's training."""

    def breaks(model):
        raise OSError("no test image")

    steps = []

    class Watch(Logger):
        def step(self, step, loss, lr):
            steps.append(step)

    with pytest.raises(OSError, match="no test image"):
        run(tmp_path, evaluate=breaks, checkpoint_seconds=1e9)
    run(tmp_path, loggers=[Watch()], checkpoint_seconds=1e9)
    assert len(steps) == 2 * 2 * 3  # of the two rounds after it
    assert_same_run(whole[0], tmp_path)


def test_measures_beyond_json_are_kept(tmp_path):
    """An image with itself has an infinite PSNR; what is no number is no measure."""
    found = {"same": {"psnr": np.inf, "ssim": 1.0, "lpips": np.nan}}
    result = run(tmp_path, rounds=0, epochs=1, evaluate=lambda _: found)
    assert result.rounds[0]["metrics"] == {"same": {"psnr": np.inf, "ssim": 1.0}}
    written = (tmp_path / "record.jsonl").read_text()
    assert '"psnr": null' in written
    assert "Infinity" not in written
    assert mirl.Result.load(tmp_path).rounds == result.rounds
    assert run(tmp_path, rounds=0, epochs=1).rounds == result.rounds


def test_an_evaluation_with_nan_is_read_as_it_was(tmp_path):
    found = mirl.evaluate(None, [(np.zeros((3, 16, 16), np.float32),) * 2], progress=False)
    row = replace(found.rows[0], psnr=np.nan)
    result = run(tmp_path, rounds=0, epochs=1, evaluate=lambda _: replace(found, rows=[row]))
    assert result.rounds[0]["metrics"]["data"].keys() == {"psnr_input", "ssim", "ssim_input"}
    assert mirl.Result.load(tmp_path).rounds == result.rounds


def test_a_function_may_return_an_evaluation(tmp_path):
    pair = next(Noise().epoch(0))
    result = run(tmp_path, rounds=0, epochs=1, evaluate=lambda model: mirl.evaluate(model, [pair]))
    assert result.rounds[0]["metrics"]["data"].keys() == {
        "psnr", "ssim", "psnr_input", "ssim_input",
    }  # fmt: skip
    assert json.loads((tmp_path / "record.jsonl").read_text()) == result.rounds[0]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "got NoneType"),
        ({"rain": 30.0}, "got float for 'rain'"),
        ({"rain": {"psnr": "30"}}, "got '30' for 'psnr' of 'rain'"),
        ({3: {"psnr": 30.0}}, "got dict for 3"),
    ],
)
def test_what_a_function_cannot_return_is_named(tmp_path, found, message):
    with pytest.raises(TypeError, match=f"evaluate must return .*{message}"):
        run(tmp_path, rounds=0, epochs=1, evaluate=lambda _: found)
    # The round is trained, and another function may measure it.
    other = {"rain": {"psnr": np.float32(30), "lpips": 1}}
    result = run(tmp_path, rounds=0, epochs=1, evaluate=lambda _: other)
    assert result.rounds[0]["metrics"] == {"rain": {"psnr": 30.0, "lpips": 1.0}}
    assert result.table().splitlines()[-1].split() == ["0", "100.0", "100.0", "30.00"]


def test_every_round_is_measured_on_the_same_patches(tmp_path):
    """Though iterating a loader moves it on."""
    photo = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    loader = mirl.Loader.from_images([photo], tasks=["denoise"], patch_size=16, batch_size=1)
    result = run(tmp_path, evaluate=loader, rounds=1, epochs=1)
    first, second = (
        [measured["psnr_input"] for measured in record["metrics"].values()]
        for record in result.rounds
    )
    assert first == second


class Tensor:
    """One of another library: a number of it tells what it is, of several none does."""

    def __init__(self, *values):
        self.values = values

    def __repr__(self):
        return f"Tensor{self.values}"

    def item(self):
        if len(self.values) > 1:
            raise RuntimeError("a Tensor with several elements")
        return self.values[0]


def test_measures_may_be_tensors_of_one_number(tmp_path):
    several = {"rain": {"lpips": Tensor(0.1, 0.2)}}
    with pytest.raises(TypeError, match=r"got Tensor\(0\.1, 0\.2\) for 'lpips' of 'rain'"):
        measure(lambda _: several, None)
    with pytest.raises(TypeError, match="for 'lpips' of 'rain'"):
        measure(lambda _: {"rain": {"lpips": Tensor(True)}}, None)
    found = {"rain": {"lpips": Tensor(0.25), "psnr": np.full((1, 1), 30, np.float32)}}
    result = run(tmp_path, rounds=0, epochs=1, evaluate=lambda _: found)
    assert result.rounds[0]["metrics"] == {"rain": {"lpips": 0.25, "psnr": 30.0}}
