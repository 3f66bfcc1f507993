import errno
import io
import json
import sys

import numpy as np
import pytest

import mirl
from lottery_run import run
from mirl.loggers import (
    JsonLines,
    Logger,
    ProgressBars,
    TensorBoard,
    WeightsAndBiases,
    default_loggers,
)
from same import assert_same_run
from telling import EPOCHS, ROUNDS, STEPS, events, loss


@pytest.fixture
def terminal(capsys, monkeypatch):
    """What stands for one: bars are drawn over there."""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)
    return capsys


@pytest.mark.parametrize("there", [False, True])
def test_bars_are_silent_when_told(capsys, monkeypatch, there):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: there)
    events(ProgressBars(progress=False))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_bars_count_rounds_epochs_and_steps(terminal):
    bars = ProgressBars()
    events(bars)
    assert (bars.rounds.n, bars.rounds.total) == (ROUNDS + 1, ROUNDS + 1)
    assert (bars.epochs.n, bars.epochs.total) == (EPOCHS, EPOCHS)
    assert (bars.steps.n, bars.steps.total) == (STEPS, STEPS)
    shown = terminal.readouterr().err
    assert "density 80.0%" in shown
    assert f"loss {loss(1, 1, 0):.4f}" in shown
    # Nothing is drawn before its total is known.
    assert shown.lstrip("\r").startswith("round:   0%")


def test_bars_of_a_resumed_run_go_on(terminal):
    bars = ProgressBars()
    events(bars, start=(1, 1, 2), stop=(1, 1, 3))
    assert (bars.rounds.n, bars.epochs.n, bars.steps.n) == (1, 1, 2)
    assert "2/3" in terminal.readouterr().err


def test_bars_of_a_round_that_begins_late_end_with_it(terminal):
    """As with late rewinding."""
    bars = ProgressBars()
    assert len(run(None, rewind=4, rounds=1, loggers=[bars]).rounds) == 2
    assert (bars.epochs.n, bars.epochs.total) == (2, 2)
    assert "epoch: 150%" not in terminal.readouterr().err


def test_a_run_that_is_refused_draws_no_bars(small, batch, tmp_path, terminal):
    mirl.find_ticket(small, [batch], rounds=0, out=tmp_path, loggers=())
    with pytest.raises(ValueError, match="holds another run"):
        mirl.find_ticket(small, [batch], rounds=1, out=tmp_path)
    assert terminal.readouterr().err == ""


def test_in_a_file_each_epoch_has_a_line(capsys):
    events(ProgressBars(), start=(0, 1, 0))
    assert capsys.readouterr().err.splitlines() == [
        f"round {round_} of 1, density {density}, epoch {epoch + 1} of 2, loss"
        f" {loss(round_, epoch, 0):.4f}"
        for round_, epoch, density in ((0, 1, "100.0%"), (1, 0, "80.0%"), (1, 1, "80.0%"))
    ]


def test_a_notebook_shows_bars(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    events(ProgressBars())
    assert "round: 100%" in capsys.readouterr().err


def test_without_stderr_there_are_no_bars(small, batch, tmp_path, monkeypatch):
    """As in a process without a console."""
    monkeypatch.setattr(sys, "stderr", None)
    assert len(mirl.find_ticket(small, [batch], rounds=0, out=tmp_path).rounds) == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_bars_that_cannot_be_shown_end_nothing(monkeypatch, terminal):
    """A stderr that leads to a full disk."""

    class Full(io.StringIO):
        def isatty(self):
            return terminal

        def write(self, text):
            raise OSError(errno.ENOSPC, "no space left")

        def flush(self):
            raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(sys, "stderr", Full())
    bars = ProgressBars()
    events(bars)
    assert not terminal or bars.rounds.n == ROUNDS + 1


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_steps_are_written_as_lines(tmp_path):
    path = tmp_path / "steps.jsonl"
    events(JsonLines(path))
    held = lines(path)
    assert len(held) == (ROUNDS + 1) * EPOCHS * STEPS
    assert held[4] == {"round": 0, "epoch": 1, "step": 2, "loss": loss(0, 1, 2), "lr": 1e-3}


@pytest.mark.parametrize("tail", ["", '{"round": 1, "epo'])
def test_lines_of_a_resumed_run_are_those_of_one_never_stopped(tmp_path, tail):
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    events(JsonLines(whole))
    events(JsonLines(stopped), stop=(1, 1, 2))
    with stopped.open("a") as file:
        file.write(tail)
    # The last checkpoint is older than the last line.
    events(JsonLines(stopped), start=(1, 0, 2))
    assert stopped.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("damage", [b"5", b'{"rounb": 0, "epoch": 0, "step": 2}', b"\xff{", b"[]"])
def test_lines_around_a_damaged_one_stay(tmp_path, damage):
    path = tmp_path / "steps.jsonl"
    events(JsonLines(path))
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:2], damage + b"\n", *whole[3:]]))
    events(JsonLines(path), start=(1, 0, 1))
    assert path.read_bytes() == b"".join([*whole[:2], *whole[3:]])


def test_lines_are_on_the_disk_at_once(tmp_path):
    logger = JsonLines(tmp_path / "steps.jsonl")
    logger.round_start(0, 0, 1.0)
    logger.epoch_start(0, 1, 2, 0)
    logger.step(1, 0.5, 1e-3)
    assert len(lines(tmp_path / "steps.jsonl")) == 1
    logger.close()


def test_in_a_loop_of_ones_own_steps_alone_are_written(tmp_path):
    path = tmp_path / "steps.jsonl"
    for steps in ((1, 2, 3), (2, 3)):  # as if the loop went on after its first step
        logger = JsonLines(path)
        for step in steps:
            logger.step(step, loss(0, 0, step), 1e-3)
        logger.close()
    assert [line["step"] for line in lines(path)] == [1, 2, 3]


def test_tensorboard_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"mirl\[tensorboard\]"):
        TensorBoard(tmp_path)


def test_defaults_follow_from_folder_and_packages(tmp_path, monkeypatch):
    def kinds(folder):
        loggers = default_loggers(folder, progress=False)
        for logger in loggers:
            logger.close()
        return [type(logger) for logger in loggers]

    assert kinds(None) == [ProgressBars]
    monkeypatch.setattr("mirl.loggers.find_spec", lambda name: None)
    assert kinds(tmp_path) == [ProgressBars, JsonLines]
    monkeypatch.setattr("mirl.loggers.find_spec", lambda name: object())
    assert kinds(tmp_path) == [ProgressBars, JsonLines, TensorBoard]


def test_a_run_tells_its_loggers(small, batch, tmp_path):
    told = JsonLines(tmp_path / "steps.jsonl")
    result = mirl.find_ticket(small, [batch] * 2, rounds=1, epochs=2, loggers=[told])
    held = lines(tmp_path / "steps.jsonl")
    assert [(line["round"], line["epoch"], line["step"]) for line in held] == [
        (round_, epoch, step) for round_ in range(2) for epoch in range(2) for step in (1, 2)
    ]
    means = [np.mean([line["loss"] for line in held[start : start + 2]]) for start in (0, 2, 4, 6)]
    assert means == pytest.approx([*result.rounds[0]["loss"], *result.rounds[1]["loss"]])


class Recorder:
    """What Weights & Biases is told, where its package stands in."""

    def __init__(self):
        self.settings, self.logged, self.metrics, self.finished = {}, [], {}, []
        self.defined = []

    def init(self, **settings):
        self.settings = settings
        return self

    def define_metric(self, name, step_metric):
        self.defined.append(name)
        self.metrics[name] = step_metric

    def log(self, values):
        self.logged.append(values)

    def finish(self, exit_code):
        self.finished.append(exit_code)


def test_weights_and_biases_is_told(monkeypatch):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    events(WeightsAndBiases("tickets", name="a", id="a-1"))
    assert recorder.settings == {
        "project": "tickets", "name": "a", "id": "a-1", "resume": "allow",
    }  # fmt: skip
    steps = [line for line in recorder.logged if "loss/step" in line]
    assert [line["step"] for line in steps] == list(range(1, (ROUNDS + 1) * EPOCHS * STEPS + 1))
    assert steps[7]["loss/step"] == loss(1, 0, 2)
    assert {"round": 1, "psnr/derain": 21.0} in recorder.logged
    assert {"round": 1, "density": 0.8} in recorder.logged
    assert {"step": 6, "loss/epoch": loss(0, 1, 0)} in recorder.logged
    assert recorder.metrics == {
        "density": "round", "psnr/derain": "round",
        "loss/step": "step", "loss/epoch": "step", "lr": "step",
    }  # fmt: skip
    assert recorder.finished == [0]


def test_weights_and_biases_counts_measures_of_ones_own_by_rounds(small, batch, monkeypatch):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    told = WeightsAndBiases("tickets")
    found = {"night": {"lpips": 0.25}}
    mirl.find_ticket(small, [batch], rounds=1, evaluate=lambda _: found, loggers=[told])
    assert recorder.metrics["lpips/night"] == "round"
    assert recorder.defined.count("lpips/night") == 1


def test_weights_and_biases_itself_takes_it(tmp_path):
    pytest.importorskip("wandb")
    events(WeightsAndBiases("tickets", mode="offline", dir=str(tmp_path)))
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_weights_and_biases_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"mirl\[wandb\]"):
        WeightsAndBiases("tickets")


class Rounds(Logger):
    """Has what it needs, and no more."""

    def __init__(self, last=None):
        self.last, self.ended = last, []

    def round_end(self, record):
        self.ended.append(record["round"])
        return record["round"] == self.last


class Unfinished:
    """As of one who forgot the rest."""

    def step(self, step, loss, lr):
        pass


@pytest.mark.parametrize(
    ("loggers", "message"),
    [
        (Rounds(), "loggers must be a list of loggers, got Rounds"),
        ([Unfinished()], "Unfinished is no logger, it has no round_start, epoch_start, epoch_end,"),
        ([Rounds(), None], "NoneType is no logger"),
    ],
)
def test_what_is_no_logger_is_told_before_anything_is_done(small, tmp_path, loggers, message):
    with pytest.raises(TypeError, match=message):
        mirl.find_ticket(small, [], loggers=loggers, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_logger_ends_the_run_after_a_round(tmp_path):
    """With all that a run has at its end; the same call goes on from there, to the same bits."""
    first, other = Rounds(last=1), Rounds()
    result = run(tmp_path / "stopped", loggers=[first, other])
    assert first.ended == other.ended == [0, 1]
    assert len(result.rounds) == 2
    ticket = mirl.load(tmp_path / "stopped" / "ticket.mirl.safetensors")
    assert ticket.density().prunable == result.rounds[-1]["density_prunable"]
    run(tmp_path / "stopped", loggers=[first])
    assert first.ended == [0, 1, 2]
    run(tmp_path / "whole")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_only_true_ends_a_run():
    class Chatty(Logger):
        def round_end(self, record):
            return "written"

    assert len(run(None, rounds=1, epochs=1, loggers=[Chatty()]).rounds) == 2


@pytest.mark.parametrize(
    "settings", [{"amount": 2.0}, {"control": "reinit"}, {"masks_of": "nothing"}, {"loss": "l3"}]
)
def test_a_run_that_fails_is_closed_as_failed(small, batch, monkeypatch, settings):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    with pytest.raises((ValueError, OSError)):
        mirl.find_ticket(small, [batch], loggers=[WeightsAndBiases("tickets")], **settings)
    assert recorder.finished == [1]


def test_an_experiment_without_its_data_is_closed_as_failed(tmp_path, monkeypatch):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    experiment = mirl.lottery.Experiment(data={"root": str(tmp_path / "nothing")})
    with pytest.raises(FileNotFoundError):
        experiment.run(tmp_path / "run", loggers=[WeightsAndBiases("tickets")])
    assert recorder.finished == [1]


def test_all_loggers_are_closed_even_where_one_cannot_be(small, batch, monkeypatch):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    told = WeightsAndBiases("tickets")
    bad = JsonLines("never-opened.jsonl")
    monkeypatch.setattr(bad, "step", lambda *_: None)
    monkeypatch.setattr(bad, "close", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mirl.find_ticket(small, [batch], rounds=0, loggers=[bad, told])
    assert recorder.finished == [0]


def test_loggers_say_what_they_are(tmp_path):
    assert repr(JsonLines(tmp_path / "steps.jsonl")) == f"JsonLines('{tmp_path / 'steps.jsonl'}')"
    assert repr(ProgressBars(False)) == "ProgressBars(False)"
    with pytest.raises(TypeError, match="progress must be True or False, got 'no'"):
        ProgressBars("no")
