"""The loop: its semantics, its record, and that a run survives whatever stops it."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import pytest

import mirl
from lottery_run import Noise, StopError, run, stop
from mirl.load import load_native
from mirl.loggers import Logger
from reference import SMALL
from same import assert_same_run, assert_same_state

SCRIPT = Path(__file__).parents[1] / "lottery_run.py"


def test_the_loop_is_the_algorithm(whole):
    """Train, then prune, rewind and train anew, with nothing but the public pieces."""
    _, result = whole
    model, data = mirl.PromptIR(seed=3, **SMALL), Noise()
    initial = model.snapshot()
    for round_ in range(3):
        if round_ > 0:
            mirl.prune(model, 0.3)
            mirl.rewind(model, initial)
        trainer = mirl.Trainer(model)
        losses = []
        for epoch in range(2):
            for step, batch in enumerate(data.epoch(2 * round_ + epoch)):
                t = 3 * epoch + step
                trainer.lr = mirl.linear_warmup_cosine(t, 6, warmup=1, lr=1e-3)
                losses.append(trainer.step(*batch))
        record = result.rounds[round_]
        assert record["loss"] == [sum(losses[:3]) / 3, sum(losses[3:]) / 3]
        assert record["density"] == model.density().all
        assert record["density_prunable"] == pytest.approx(0.7**round_, abs=1e-4)
    assert_same_state(model.state_dict(), result.model.state_dict())


def test_the_record_tells_everything(whole):
    folder, result = whole
    lines = (folder / "record.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.rounds
    for round_, record in enumerate(result.rounds):
        assert record["round"] == round_
        assert record["layers"].keys() <= result.model.shapes.keys()
        assert all(0 <= density <= 1 for density in record["layers"].values())
        assert record["metrics"]["noise"]["psnr"] > 0
        assert record["seed"] == {"model": 3, "data": 5}
        assert record["versions"]["mirl"] == mirl.__version__
        assert record["alive"] / record["total"] == record["density"]
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["recipe"]["amount"] == 0.3
    assert recipe["data"] == {"seed": 5}
    ticket = load_native(folder / "ticket.mirl.safetensors")
    for name, values in result.model.state_dict().items():
        if not ticket._network.is_unused(name):
            np.testing.assert_array_equal(ticket.state_dict()[name], values)
    assert all(len(line) <= 80 for line in result.table().splitlines())


def test_a_finished_run_is_not_run_again(whole):
    folder, result = whole
    again = run(folder)
    assert again.rounds == result.rounds
    assert_same_state(again.model.state_dict(), result.model.state_dict())


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_process_resumes_to_the_bit(whole, tmp_path, stop):
    """Stopped again and again, at whatever moment, until it comes to its end."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), *sys.path])}
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    stops = 0
    for attempt in range(100):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            # Later attempts get more time, so that some of them stop deep in the run.
            checkpoint = tmp_path / "checkpoint.safetensors"
            seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if checkpoint.exists() and checkpoint.stat().st_mtime_ns != seen:
                    break
                time.sleep(0.002)
            time.sleep(0.02 * (attempt % 4) * (1 + attempt // 8))
            process.send_signal(stop)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
        if process.returncode == 0:
            break
        interrupted = stop == signal.SIGINT and "KeyboardInterrupt" in errors
        assert process.returncode == -stop or interrupted, errors
        stops += 1
    assert process.returncode == 0
    assert stops >= 3
    assert_same_run(tmp_path, whole[0])
    assert not list(tmp_path.glob(".*tmp*")), "a killed process's temporary files are cleared"


def test_a_full_disk_leaves_the_last_checkpoint(whole, tmp_path):
    """A limit on the size of files stands in for the disk."""
    with pytest.raises(StopError):
        run(tmp_path, evaluate=stop)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limit[1]))
        with pytest.raises(OSError, match=r"safetensors"):
            run(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert not list(tmp_path.glob(".*tmp*"))
    run(tmp_path)
    assert_same_run(tmp_path, whole[0])


def test_another_run_in_the_folder_is_refused(whole):
    with pytest.raises(ValueError, match=r"recipe\.amount is 0\.3 there and 0\.2 here"):
        run(whole[0], amount=0.2)


def test_a_damaged_checkpoint_is_named(tmp_path):
    with pytest.raises(StopError):
        run(tmp_path, evaluate=stop)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(mirl.errors.FormatError, match=r"checkpoint\.safetensors"):
        run(tmp_path)


def test_divergence_keeps_the_last_good_checkpoint(tmp_path):
    """A learning rate beyond all reason, on the way up from 0."""
    with pytest.raises(mirl.errors.DivergenceError, match=r"step \d is (NaN|inf)"):
        run(tmp_path, lr=1e38, warmup_epochs=1.0)
    model = mirl.PromptIR(seed=3, **SMALL)
    progress = json.loads(mirl.Trainer(model).load_checkpoint(tmp_path / "checkpoint.safetensors"))
    assert progress["round"] == 0
    assert all(np.isfinite(values).all() for values in model.state_dict().values())


def test_a_bad_batch_stops_the_run_at_its_step(tmp_path):
    class Poison(Noise):
        def epoch(self, epoch, start=0):
            for step, (degraded, clean) in enumerate(super().epoch(epoch, start), start):
                bad = (epoch, step) == (1, 1)
                yield degraded, np.full_like(clean, 3.0) if bad else clean

    with pytest.raises(ValueError, match="clean: expected values in"):
        mirl.find_ticket(
            mirl.PromptIR(seed=3, **SMALL),
            Poison(),
            rounds=1,
            epochs=2,
            out=tmp_path,
            checkpoint_seconds=0.0,
            loggers=(),
        )
    trainer = mirl.Trainer(mirl.PromptIR(seed=3, **SMALL))
    progress = json.loads(trainer.load_checkpoint(tmp_path / "checkpoint.safetensors"))
    assert (progress["epoch"], progress["step"]) == (1, 1)


def test_lists_of_batches_will_do(small, batch):
    result = mirl.find_ticket(small, [batch, batch], rounds=1, epochs=1, loggers=())
    assert len(result.rounds) == 2


def test_lists_of_batches_go_on_where_they_were_left(tmp_path):
    class Stop(Logger):
        def step(self, step, loss, lr):
            if step == 3:
                raise StopError

    settings = {"data": list(Noise().epoch(0)), "rounds": 0}
    run(tmp_path / "whole", **settings)
    with pytest.raises(StopError):
        run(tmp_path / "stopped", loggers=[Stop()], **settings)
    run(tmp_path / "stopped", **settings)
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize(
    "settings",
    [
        {"betas": (0.5, 0.6)},
        {"eps": 1e-2},
        {"weight_decay": 0.5},
        {"clip_grad_norm": 1e-3},
        {"loss": "l2"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_rounds_are_trained_as_asked(settings):
    found = run(None, rounds=0, epochs=1, **settings).model.state_dict()
    for asked in (settings, {}):
        trainer = mirl.Trainer(mirl.PromptIR(seed=3, **SMALL), **asked)
        for step, batch in enumerate(Noise().epoch(0)):
            trainer.lr = mirl.linear_warmup_cosine(step, 3, lr=1e-3)
            trainer.step(*batch)
        same = [np.array_equal(found[n], v) for n, v in trainer.model.state_dict().items()]
        assert all(same) == bool(asked)


def test_the_average_takes_the_place_of_the_weights(tmp_path):
    found = run(tmp_path, rounds=0, epochs=1, ema_decay=0.9).model.state_dict()
    trainer = mirl.Trainer(mirl.PromptIR(seed=3, **SMALL), ema_decay=0.9)
    for step, batch in enumerate(Noise().epoch(0)):
        trainer.lr = mirl.linear_warmup_cosine(step, 3, lr=1e-3)
        trainer.step(*batch)
    assert_same_state(found, trainer.average())


def test_paper_code_follows_the_published_loop(small, batch):
    """The learning rate of a round's first epoch is 0, and biases go back the first time only."""
    rates, biases = [], []
    name = "prompt1.linear_layer.bias"

    class Watch:
        def __getattr__(self, event):
            return lambda *_: None

        def step(self, step, loss, lr):
            rates.append(lr)

        def round_start(self, *_):
            biases.append(small.state_dict()[name])

    mirl.find_ticket(
        small,
        [batch, batch],
        rounds=2,
        epochs=3,
        warmup_epochs=2,
        lr=1e-2,
        preset="paper-code",
        loggers=[Watch()],
    )
    assert rates == [0.0, 0.0, 0.01, 0.01, 0.01, 0.01] * 3
    np.testing.assert_array_equal(biases[1], biases[0])
    assert not np.array_equal(biases[2], biases[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": -1}, "rounds"),
        ({"epochs": 0}, "epochs"),
        ({"amount": 1.5}, "amount"),
        ({"scope": "both"}, "scope"),
        ({"schedule": "batch"}, "schedule"),
        ({"lr": 0.0}, "lr"),
        ({"min_lr": 1.0}, "min_lr"),
        ({"warmup_epochs": 3}, "warmup_epochs"),
        ({"preset": "paper"}, "preset"),
        ({"rewind_biases": "twice"}, "rewind_biases"),
        ({"include": ["weight"]}, "no parameter matches 'weight'"),
        ({"exclude": ["weights"]}, "leave no parameter"),
        ({"granularity": "rows"}, "granularity must be"),
        ({"min_density": 1.0}, "min_density"),
        ({"criterion": lambda weights, _: weights.sum()}, "returned scores of shape"),
        ({"evaluate": ()}, "evaluate has no pair"),
        (
            {"evaluate": [mirl.TestSet.from_images([], "derain", name="none")]},
            "none .derain. has no image",
        ),
    ],
)
def test_wrong_settings_are_named(small, batch, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        mirl.find_ticket(small, [batch], loggers=(), out=tmp_path, **settings)
    assert not list(tmp_path.iterdir())  # which would be another run's


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"amount": "0.2"}, "amount must be a number, got '0.2'"),
        ({"rounds": 1.5}, "rounds must be a whole number, got 1.5"),
        ({"include": None}, "include must be a sequence of names, got None"),
        ({"exclude": 3}, "exclude must be a sequence of names, got 3"),
        ({"rewind": 1.5}, "rewind must be a whole number, got 1.5"),
        ({"criterion": lambda weights: weights}, "takes 1 positional argument but 2 were given"),
        ({"evaluate": lambda: {}}, "evaluate must be a function of the network alone"),
        ({"evaluate": lambda model, data: {}}, "evaluate must be a function of the network alone"),
        ({"betas": 0.9}, "betas must be two numbers, got 0.9"),
        ({"clip_grad_norm": True}, "clip_grad_norm must be a number or None"),
        ({"evaluate": 3}, "evaluate must be a folder, test sets or pairs, got int"),
        ({"evaluate": iter([])}, "evaluate must be iterable anew"),
        ({"evaluate": {"rain": iter([])}}, "evaluate must be iterable anew"),
    ],
)
def test_settings_of_other_types_are_named(small, batch, tmp_path, settings, message):
    with pytest.raises(TypeError, match=message):
        mirl.find_ticket(small, [batch], loggers=(), out=tmp_path, **settings)
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_will_do(small, batch):
    settings = {"rounds": np.int64(1), "amount": np.float32(0.5), "lr": np.float64(1e-3)}
    result = mirl.find_ticket(small, [batch], loggers=(), **settings)
    assert result.rounds[-1]["density_prunable"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("name", ["checkpoint", "initial"])
def test_a_flipped_bit_is_found(tmp_path, name):
    """Nothing resumes from other values than were saved."""
    with pytest.raises(StopError):
        run(tmp_path, evaluate=stop)
    path = tmp_path / f"{name}.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(mirl.errors.FormatError, match=rf"{name}.*the checksum is not that"):
        run(tmp_path)


@pytest.mark.parametrize("text", ["{}", "5", "[]", '{"round": 0, "metrics": {}}'])
def test_a_record_that_is_none_is_named(tmp_path, text):
    run(tmp_path, rounds=0, epochs=1)
    (tmp_path / "record.jsonl").write_text(text)
    with pytest.raises(mirl.errors.FormatError, match=r"record\.jsonl: no record of a run"):
        mirl.Result.load(tmp_path)


def test_data_that_tells_nan_is_refused(tmp_path):
    class Unequal(Noise):
        def describe(self):
            return {"seed": 5, "levels": [1.0, float("nan")]}

    with pytest.raises(ValueError, match=r"data\.levels\[1\]: NaN"):
        run(tmp_path, data=Unequal())
    assert not list(tmp_path.iterdir())


def test_data_that_tells_what_json_does_not_hold_is_refused(tmp_path):
    class Counted(Noise):
        def describe(self):
            return {"seed": 5, "images": np.int64(3)}

    with pytest.raises(TypeError, match=r"data\.describe\(\) must .* got int64 in it: .*3"):
        run(tmp_path, data=Counted())
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_determine_a_run(tmp_path):
    settings = {"betas": [np.float32(0.5), 0.75], "loss": {"l1": np.float32(1)}}
    run(tmp_path, rounds=0, **settings)
    run(tmp_path, rounds=0, betas=(0.5, 0.75), loss={"l1": 1})  # resumes it


def test_checkpoints_come_no_oftener_than_asked(tmp_path):
    saved = set()

    class Watch(Logger):
        def step(self, step, loss, lr):
            saved.add((tmp_path / "checkpoint.safetensors").stat().st_mtime_ns)

    run(tmp_path, rounds=0, checkpoint_seconds=1e9, loggers=[Watch()])
    assert len(saved) == 1  # that of the start


@pytest.mark.parametrize(
    ("seconds", "error"),
    [("a", TypeError), (None, TypeError), (np.nan, ValueError), (-1, ValueError)],
)
def test_seconds_between_checkpoints_are_checked_first(tmp_path, seconds, error):
    with pytest.raises(error, match="checkpoint_seconds must be"):
        run(tmp_path / "run", checkpoint_seconds=seconds)
    assert not (tmp_path / "run").exists()


def test_what_is_no_network_is_named(batch, tmp_path):
    with pytest.raises(TypeError, match=r"model must be a mirl\.Network, got NoneType"):
        mirl.find_ticket(None, [batch], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_must_have_batches(small):
    with pytest.raises(ValueError, match="no batch"):
        mirl.find_ticket(small, [], loggers=())
    degraded = clean = np.zeros((1, 3, 8, 8), np.float32)
    named = [{"degraded": degraded, "clean": clean}]
    with pytest.raises(ValueError, match=r"a batch must be a pair .*, got a dict of 2"):
        mirl.find_ticket(small, named, rounds=0, loggers=())
    with pytest.raises(ValueError, match=r"a batch must be a pair .*, got a tuple of 3"):
        mirl.find_ticket(small, [(degraded, clean, "name")], rounds=0, loggers=())
    with pytest.raises(ValueError, match=r"a batch must be a pair .*, got a dict of 2"):
        mirl.evaluate(small, named, progress=False)
    with pytest.raises(TypeError, match="length"):
        mirl.find_ticket(small, iter([]), loggers=())


def test_a_network_that_was_trained_is_no_start(small, batch, tmp_path):
    """As in a notebook whose cell is run twice."""
    settings = {"rounds": 0, "out": tmp_path, "loggers": ()}
    mirl.find_ticket(small, [batch], **settings)
    with pytest.raises(ValueError, match=r"initial is .* trained is no start: make it anew"):
        mirl.find_ticket(small, [batch], **settings)
    with pytest.raises(ValueError, match="holds another run") as caught:
        mirl.find_ticket(small, [batch], lr=1e-3, **settings)
    assert "make it anew" not in str(caught.value)
    fresh = mirl.load(tmp_path / "initial.safetensors")
    assert len(mirl.find_ticket(fresh, [batch], **settings).rounds) == 1


def test_a_network_with_masks_is_no_start_unless_it_is_meant(small, batch, tmp_path):
    """As in a notebook whose cell is run twice, without a folder that would tell."""
    settings = {"rounds": 1, "amount": 0.5, "loggers": ()}
    mirl.find_ticket(small, [batch], **settings)
    with pytest.warns(UserWarning, match=r"has masks already: 50\.0%.* make it anew") as told:
        mirl.find_ticket(small, [batch], out=tmp_path, **settings)
    assert told[0].filename == __file__
    # Neither one that goes on nor one that gets the masks of another run.
    with pytest.raises(ValueError, match="trained is no start"):
        mirl.find_ticket(small, [batch], out=tmp_path, **settings)
    mirl.find_ticket(mirl.load(tmp_path / "initial.safetensors"), [batch], out=tmp_path, **settings)
    mirl.find_ticket(small, [batch], masks_of=tmp_path, **settings)
    # Nor one whose masks leave all that may be pruned: a file has none of what no forward uses.
    dense = tmp_path / "dense.mirl.safetensors"
    mirl.PromptIR(seed=1, **SMALL).save(dense)
    assert mirl.load(dense).mask
    mirl.find_ticket(mirl.load(dense), [batch], **settings)


def test_a_run_gets_more_rounds(whole, tmp_path):
    """To the bits of one that had them from the start, and so that other runs of its masks go on."""
    run(tmp_path / "run", rounds=1)
    run(tmp_path / "control", masks_of=tmp_path / "run", control="shuffle", rounds=1)
    result = run(tmp_path / "run", rounds=2)
    assert_same_run(tmp_path / "run", whole[0])
    assert (tmp_path / "run/recipe.json").read_text() == (whole[0] / "recipe.json").read_text()
    settings = {"masks_of": tmp_path / "run", "control": "shuffle", "rounds": 2}
    run(tmp_path / "control", **settings)
    run(tmp_path / "other", **settings)
    assert_same_run(tmp_path / "control", tmp_path / "other")
    with pytest.raises(
        ValueError, match="holds a run of 2 rounds: it can be extended, not shortened to 1; mirl"
    ):
        run(tmp_path / "run", rounds=1)
    found = mirl.Result.load(tmp_path / "run")
    assert found.rounds == result.rounds
    held = mirl.load(tmp_path / "run" / "ticket.mirl.safetensors").state_dict()
    assert_same_state(found.model.state_dict(), held)


def test_what_has_come_to_nothing_cannot_be_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"recipe\.json"):
        mirl.Result.load(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(StopError):
        run(tmp_path, evaluate=stop)
    with pytest.raises(ValueError, match="no round is done so far"):
        mirl.Result.load(tmp_path)


def test_the_record_has_every_layer_that_competes(tmp_path):
    result = run(tmp_path, include=("weights", "prompts"), amount=0.5, rounds=1, epochs=1)
    layers, shapes = result.rounds[1]["layers"], result.model.shapes
    sizes = {name: np.prod(shapes[name]) for name in layers}
    assert "prompt1.prompt_param" in layers
    alive = sum(layers[name] * sizes[name] for name in layers)
    assert alive / sum(sizes.values()) == pytest.approx(0.5, abs=1e-4)


class Halves:
    """A criterion that is called, and cannot be copied."""

    def __init__(self):
        self.lock = Lock()

    def __call__(self, weights, gradients):
        return np.abs(weights)


@pytest.mark.parametrize("function", [Halves(), partial(Halves())])
def test_criteria_need_no_name(tmp_path, function):
    run(tmp_path, criterion=function, rounds=1, epochs=1)
    named = json.loads((tmp_path / "recipe.json").read_text())["recipe"]["criterion"]
    kind = type(function)
    assert named == f"{kind.__module__}.{kind.__qualname__}"


def test_a_table_shows_what_each_round_has_measured(tmp_path):
    """A run that was resumed with another `evaluate` has measured different tasks."""

    def first(model):
        if (tmp_path / "record.jsonl").exists():
            raise StopError
        return {"denoise_25": {"psnr": 30.0, "ssim": 0.9, "psnr_input": 20.0, "ssim_input": 0.5}}

    with pytest.raises(StopError):
        run(tmp_path, evaluate=first, rounds=1, epochs=1)
    result = run(tmp_path, evaluate=lambda _: {"derain": {"psnr": 31.0}}, rounds=1, epochs=1)
    _, head, unchanged, *rounds = result.table().splitlines()
    assert head.split() == ["round", "all", "prun.", "noise", "σ", "25", "rain"]
    assert unchanged.split() == ["input", "unchanged", "20.00", "0.500"]
    assert rounds[0].split()[3:] == ["30.00", "0.900"]
    assert rounds[1].split()[3:] == ["31.00"]
    assert rounds[1].index("31.00") == head.index("rain") - 7


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_is_not_batches(small, kind):
    with pytest.raises(TypeError, match=r"batches, as of mirl\.Loader\.from_folder\(.*mini"):
        mirl.find_ticket(small, kind("mini"))
