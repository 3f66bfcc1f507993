"""TensorBoard's files: what is read from them again, and when they are written."""

import os
import subprocess
import sys

import numpy as np
import pytest

import mirl
from mirl.loggers import TensorBoard
from telling import EPOCHS, ROUNDS, STEPS, events, loss

pytest.importorskip("tensorboard")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {
        tag: {event.step: make_ndarray(event.tensor_proto).item() for event in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
    }


def test_tensorboard_takes_steps_alone(tmp_path):
    board = TensorBoard(tmp_path)
    board.step(1, 0.5, 0.25)
    board.close()
    assert scalars(tmp_path) == {"loss/step": {1: 0.5}, "lr": {1: 0.25}}


def test_tensorboard_is_on_the_disk_after_each_epoch(tmp_path):
    board = TensorBoard(tmp_path)
    board.epoch_start(0, 2, 1, 0)
    board.step(1, 0.5, 1e-3)
    board.epoch_end(0, 0.5)
    assert scalars(tmp_path)["loss/step"] == {1: 0.5}
    board.close()


def test_tensorboard_reads_what_was_written(tmp_path):
    events(TensorBoard(tmp_path))
    held = scalars(tmp_path)
    assert held["density"] == pytest.approx({0: 1.0, 1: 0.8})
    steps = held["loss/step"]
    assert sorted(steps) == list(range(1, (ROUNDS + 1) * EPOCHS * STEPS + 1))
    assert steps[(1 * EPOCHS + 1) * STEPS + 2] == pytest.approx(loss(1, 1, 2))
    assert held["lr"][1] == pytest.approx(1e-3)
    assert held["psnr/derain"] == {0: 20.0, 1: 21.0}
    ends = {
        (round_ * EPOCHS + epoch + 1) * STEPS: (round_, epoch) for round_, epoch in np.ndindex(2, 2)
    }
    assert held["loss/epoch"] == pytest.approx({end: loss(*at, 0) for end, at in ends.items()})


def test_a_name_that_tensorboard_cannot_write_to_is_told_before_training(small, batch, tmp_path):
    folder = tmp_path / os.fsdecode(b"r\xfcn")
    with pytest.raises(ValueError, match=r"r\\udcfcn.*is no UTF-8"):
        mirl.find_ticket(small, [batch], rounds=0, out=folder, progress=False)
    assert not list(folder.iterdir())


def test_tensorflow_is_not_asked(tmp_path):
    """It takes seconds to import and prints, and TensorBoard would import it where it is installed."""
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError('asked')")
    script = (
        "from mirl.loggers import TensorBoard\n"
        f"board = TensorBoard({str(tmp_path)!r})\n"
        "board.step(1, 0.5, 0.25)\n"
        "board.close()\n"
    )
    search = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": search, "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert scalars(tmp_path) == {"loss/step": {1: 0.5}, "lr": {1: 0.25}}


def test_a_refused_run_leaves_no_events_in_the_folder_of_another(small, batch, tmp_path):
    mirl.find_ticket(small, [batch], rounds=0, out=tmp_path, loggers=())
    with pytest.raises(ValueError, match="holds another run"):
        mirl.find_ticket(small, [batch], rounds=1, out=tmp_path, progress=False)
    assert not (tmp_path / "tensorboard").exists()
