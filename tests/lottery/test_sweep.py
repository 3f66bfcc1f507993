"""Sweeps: which runs there are, and that every run comes to its end."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import mirl
from command import mirl_command
from dataset import write_dataset
from mirl.lottery import Experiment, Sweep, results
from recipes import RECIPE, SWEEP


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = [0]", "recipe must name"),
        ('recipe = "recipe.toml"\nruns = 3', "unknown: runs; known: recipe, seeds"),
        ('[data]\nroot = "x"', "a recipe, not a sweep"),
        (
            'recipe = "recipe.toml"\n[methods.a]\nafter = "mirl"',
            r"a: after 'mirl', which is no method of \['a'\]",
        ),
        (
            'recipe = "recipe.toml"\n[methods.a]\nafter = "b"\n[methods.b]\nafter = "a"',
            "methods after each other, in a circle: a, b",
        ),
        ('recipe = "recipe.toml"\n[methods.a]\ntickets.lr = 1', "has no tickets"),
        (
            'recipe = "recipe.toml"\n[methods.a]\nticket.control = "reinit"',
            "a: control 'reinit' is",
        ),
        ('recipe = "recipe.toml"\n[grid]\nticket.lr = 3', "grid: ticket.lr"),
        ('recipe = "recipe.toml"\nseeds = 3', "seeds"),
        ('recipe = "recipe.toml"\nseeds = []', "seeds must hold one value or more"),
        ('recipe = "recipe.toml"\n[methods.a]\nticket.prunning = 1', "unknown in ticket: prunning"),
        ('recipe = "recipe.toml"\n[grid]\nticket.lr = [1e-3, -1]', "lr must be positive"),
        ('recipe = "recipe.toml"\nseeds = [0, 0]', "several runs of one name: mir-l-seed0;"),
        ('recipe = "recipe.toml"\n[grid]\nticket.lr = [1e-3, 1e-3]', "one name: mir-l-lr=0.001-"),
        ('recipe = "recipe.toml"\n[methods."a/b"]\n[methods."a:b"]', "one name: a-b-seed0;"),
    ],
)
def test_a_bad_sweep_is_named(place, text, message):
    (place / "bad.toml").write_text(text)
    with pytest.raises(mirl.errors.FormatError, match=message):
        Sweep.load(place / "bad.toml")


def test_a_grid_is_every_combination(place):
    shared = Experiment.load(place / "recipe.toml")
    methods = {"shuffled": {"after": "plain", "ticket.control": "shuffle"}, "plain": {}}
    sweep = Sweep.of(shared, methods, [0, 1], {"ticket.lr": [1e-3, 2e-3], "network.dim": [8]})
    names = [run.name for run in sweep.runs]
    assert len(set(names)) == len(names) == 8
    assert names[:2] == ["plain-lr=0.001-dim=8-seed0", "shuffled-lr=0.001-dim=8-seed0"]
    for run in sweep.runs:
        assert run.experiment.ticket["lr"] == run.point["ticket.lr"]
        assert run.after == (
            None if run.method == "plain" else run.name.replace("shuffled", "plain")
        )


@pytest.mark.parametrize(
    ("methods", "grid", "said"),
    [
        ({"a": {"ticket.lr": 1e-3}}, {"ticket.lr": [2e-3]}, r"a: ticket\.lr is set by the grid's"),
        ({"a": {"ticket": {"lr": 1e-3}}}, {"ticket.lr": [2e-3]}, "a: ticket is set by the grid's"),
        ({"a": {"ticket.lr": 1e-3}}, {"ticket": [{}, {"lr": 2e-3}]}, "grid's ticket, too"),
        ({"a": {}}, {"ticket": [{"lr": 2e-3}], "ticket.lr": [1e-3]}, "grid: ticket is set by"),
        ({"a": {}}, {"seed": [1, 2]}, "grid: seed is not for it to say"),
        ({"a": {"seed": 1}}, {}, "a: seed is not for it to say"),
    ],
)
def test_what_runs_is_what_the_grid_says(place, methods, grid, said):
    shared = Experiment.load(place / "recipe.toml")
    with pytest.raises(ValueError, match=said):
        Sweep.of(shared, methods, [0], grid)


def test_a_method_may_set_what_the_tables_of_a_grid_do_not(place):
    shared = Experiment.load(place / "recipe.toml")
    sweep = Sweep.of(shared, {"a": {"ticket.lr": 1e-3}}, [0], {"ticket": [{"amount": 0.5}]})
    assert sweep.runs[0].experiment.ticket == {"amount": 0.5, "lr": 1e-3}


def test_a_value_may_be_a_table(place):
    (place / "tables.toml").write_text(
        'recipe = "recipe.toml"\n[methods.sharp]\nticket.loss = { l1 = 1.0, fft-l1 = 0.1 }\n'
        "[methods.rainy]\ndata.repeats = { derain = 3 }"
    )
    sharp, rainy = (run.experiment for run in Sweep.load(place / "tables.toml").runs)
    assert sharp.ticket["loss"] == {"l1": 1.0, "fft-l1": 0.1}
    assert rainy.data["repeats"] == {"derain": 3}
    assert rainy.ticket["rounds"] == 2


@pytest.mark.usefixtures("threads")
def test_one_worker_has_as_many_threads_as_are_asked_for(place, tmp_path):
    (place / "short.toml").write_text('recipe = "recipe.toml"\n[methods.dense]\nticket.rounds = 0')
    Sweep.load(place / "short.toml").run(tmp_path, threads=3, progress=False)
    told = json.loads((tmp_path / "dense-seed0" / "run.json").read_text())
    assert told["machine"].endswith("3 threads")
    # What a run was done on stays, whoever looks at it again.
    Sweep.load(place / "short.toml").run(tmp_path, threads=1, progress=False)
    assert json.loads((tmp_path / "dense-seed0" / "run.json").read_text()) == told


def test_a_sweep_runs_what_it_can(swept):
    records = {path.parent.name for path in swept.glob("*/record.jsonl")}
    assert records == {f"{method}-seed{seed}" for method in ("mir-l", "reinit") for seed in (0, 1)}
    told = json.loads((swept / "reinit-seed1" / "run.json").read_text())
    assert (told["method"], told["seed"], told["after"]) == ("reinit", 1, "mir-l-seed1")
    assert told["number"] == 4
    assert "threads" in told["machine"]


def test_workers_find_the_same(place, swept, tmp_path):
    """Two workers of Ray, and a run whose worker is killed is taken up again."""
    pytest.importorskip("ray")
    (place / "two.toml").write_text(SWEEP.replace("seeds = [0, 1]", "seeds = [0]"))
    process = subprocess.Popen(
        [
            *[sys.executable, "-m", "mirl", "sweep", str(place / "two.toml"), "--quiet"],
            *["--out", str(tmp_path), "--workers", "2", "--threads", "1"],
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    killed = 0
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if killed < 2 and (tmp_path / "mir-l-seed0" / "checkpoint.safetensors").exists():
            killed += _kill_a_worker(tmp_path / "mir-l-seed0" / ".lock")
        time.sleep(0.05)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert killed  # the second time may come too late
    assert "1 of 3 runs failed\nbad-seed0: ValueError" in errors
    for run in ("mir-l-seed0", "reinit-seed0"):
        for ticket in sorted((swept / run).glob("*.mirl.safetensors")):
            assert ticket.read_bytes() == (tmp_path / run / ticket.name).read_bytes()
    assert len(results(tmp_path)) == 5 * (3 + 2)


def _kill_a_worker(held):
    """Kill the process that holds a run's folder, if there is one; the number of the killed."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink() == held:
                os.kill(int(link.parts[2]), signal.SIGKILL)
                time.sleep(0.5)
                return 1
    return 0


def test_workers_share_the_threads(place, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    asked = []
    monkeypatch.setattr("mirl.lottery.sweep.get_num_threads", lambda: 8)
    monkeypatch.setattr(Sweep, "_on_ray", lambda self, out, *numbers: asked.append(numbers[:2]))
    for workers, threads in ((3, None), (16, None), (3, 5)):
        Sweep.load(place / "sweep.toml").run(tmp_path, workers=workers, threads=threads)
    assert asked == [(3, 2), (16, 1), (3, 5)]


def test_warnings_tell_their_run(place, tmp_path):
    write_dataset(tmp_path / "data")
    damaged = tmp_path / "data/train/denoise/Photos/photo0.png"
    damaged.write_bytes(b"")
    changes = {"data.root": str(tmp_path / "data"), "data.on_error": "skip", "ticket.rounds": 0}
    changes["evaluate"] = None
    shared = Experiment.load(place / "recipe.toml").changed(changes)
    with pytest.warns(UserWarning, match="skipped") as told:
        Sweep.of(shared, {"a": {}}, [0, 1]).run(tmp_path / "runs", progress=False)
    said = [str(each.message) for each in told]
    assert [text.partition(f": skipped {damaged}")[0] for text in said] == ["a-seed0", "a-seed1"]


def test_a_run_after_one_that_failed_is_not_begun(place, tmp_path):
    methods = {"bad": {"ticket.rewind": 1000}, "late": {"after": "bad"}}
    sweep = Sweep.of(Experiment.load(place / "recipe.toml"), methods)
    with pytest.raises(
        RuntimeError, match=r"2 of 2 runs failed\n.*\nlate-seed0: bad-seed0 failed\n"
    ):
        sweep.run(tmp_path, progress=False)
    assert not (tmp_path / "late-seed0").exists()


def test_a_run_that_is_done_tells_the_machine_that_did_it(place, tmp_path):
    shared = Experiment.load(place / "recipe.toml").changed({"ticket.rounds": 0})
    sweep = Sweep.of(shared, {"dense": {}})
    sweep.run(tmp_path, progress=False)
    told = tmp_path / "dense-seed0" / "run.json"
    assert json.loads(told.read_text())["machine"] == mirl.devices()["cpu"]
    told.write_text(json.dumps(json.loads(told.read_text()) | {"machine": "another"}))
    sweep.run(tmp_path, progress=False)
    assert set(results(tmp_path)["machine"]) == {"another"}


def test_no_workers_are_refused(place):
    sweep = Sweep.load(place / "sweep.toml")
    for wrong in ({"workers": 0}, {"threads": 0}):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            sweep.run(place / "none", **wrong)
    assert not (place / "none").exists()


def sharpness(weights, gradients):
    """A criterion of one's own."""
    return np.abs(weights)


def test_functions_go_by_their_names(place, tmp_path):
    settings = {"data": {"root": "data"}, "ticket": {"criterion": sharpness}}
    found = Experiment(**settings).hash()
    assert found != Experiment(**settings | {"ticket": {"criterion": np.abs}}).hash()
    # Another process has it elsewhere in memory.
    elsewhere = types.FunctionType(sharpness.__code__, {}, "sharpness")
    elsewhere.__module__ = sharpness.__module__
    assert found == Experiment(**settings | {"ticket": {"criterion": elsewhere}}).hash()
    shared = Experiment.load(place / "recipe.toml").changed({"ticket.rounds": 1, "evaluate": None})
    sweep = Sweep.of(shared, {"a": {}}, grid={"ticket.criterion": [sharpness, "magnitude"]})
    sweep.run(tmp_path, progress=False)
    assert [run.name for run in sweep.runs] == [
        "a-criterion=sharpness-seed0",
        "a-criterion=magnitude-seed0",
    ]
    assert list(results(tmp_path)["ticket.criterion"].unique()) == [
        f"{__name__}.sharpness",
        "magnitude",
    ]


def test_runs_of_a_sweep_write_their_steps(swept):
    lines = (swept / "reinit-seed0" / "steps.jsonl").read_text().splitlines()
    assert {json.loads(line)["round"] for line in lines} == {1, 2}


def test_names_are_folders_and_ids(place, tmp_path):
    shared = Experiment.load(place / "recipe.toml").changed({"ticket.rounds": 0})
    grid = {"data.tasks": [["denoise", "blur:1-3 + jpeg:50"]], "data.root": [str(place / "data")]}
    sweep = Sweep.of(shared.changed({"evaluate": None}), {r"a/b\\c": {}, "d": {}}, grid=grid)
    for run in sweep.runs:
        assert not set(run.name) & set("/\\#?%:")
    sweep.run(tmp_path, progress=False)
    assert sorted(path.parent.name for path in tmp_path.glob("*/run.json")) == sorted(
        run.name for run in sweep.runs
    )
    assert set(results(tmp_path)["method"]) == {r"a/b\\c", "d"}


def test_paths_of_a_sweep_are_seen_from_its_folder(place, tmp_path):
    (tmp_path / "sweep.toml").write_text(
        f'recipe = "{place / "recipe.toml"}"\n[methods.a]\nevaluate.root = "x"\n'
        'ticket.masks_of = "parent"\n[grid]\ndata.root = ["y"]'
    )
    (run,) = Sweep.load(tmp_path / "sweep.toml").runs
    experiment = run.experiment
    assert experiment.evaluate["root"] == str(tmp_path / "x")
    assert experiment.ticket["masks_of"] == str(tmp_path / "parent")
    assert experiment.data["root"] == str(tmp_path / "y")
    assert run.name == "a-root=y-seed0"
    (tmp_path / "recipe.toml").write_text(
        RECIPE.replace("rounds = 2", 'rounds = 2\nmasks_of = "parent"')
    )
    alone = Experiment.load(tmp_path / "recipe.toml")
    assert alone.ticket["masks_of"] == experiment.ticket["masks_of"]


def test_a_damaged_run_lets_the_others_go_on(place, tmp_path):
    shared = Experiment.load(place / "recipe.toml").changed({"ticket.rounds": 0, "evaluate": None})
    (tmp_path / "a-seed0").mkdir()
    (tmp_path / "a-seed0" / "run.json").write_text("{")
    with pytest.raises(
        RuntimeError, match=r"1 of 2 runs failed\na-seed0: FormatError: .*run\.json"
    ):
        Sweep.of(shared, {"a": {}, "b": {}}).run(tmp_path, progress=False)
    assert (tmp_path / "b-seed0" / "record.jsonl").exists()


def test_what_tells_a_run_apart_stays_where_another_is_refused(place, tmp_path):
    shared = Experiment.load(place / "recipe.toml").changed({"ticket.rounds": 0, "evaluate": None})
    Sweep.of(shared, {"a": {}}).run(tmp_path, progress=False)
    told = tmp_path / "a-seed0" / "run.json"
    before = told.read_bytes()
    other = Sweep.of(shared.changed({"ticket.lr": 1e-5}), {"a": {}})
    with pytest.raises(RuntimeError, match="holds another run"):
        other.run(tmp_path, progress=False)
    assert told.read_bytes() == before
    # More rounds are no other run.
    more = shared.changed({"ticket.rounds": 1})
    Sweep.of(more, {"a": {}}).run(tmp_path, progress=False)
    assert json.loads(told.read_text())["hash"] == more.hash()


def test_a_run_that_fails_leaves_its_traceback_until_it_does_not(place, tmp_path):
    shared = Experiment.load(place / "recipe.toml").changed({"ticket.rounds": 0, "evaluate": None})
    told = tmp_path / "a-seed0" / "error.txt"
    told.parent.mkdir()
    (told.parent / "recipe.json").write_text("{")
    with pytest.raises(RuntimeError, match=r"\na-seed0: .*\nerror\.txt in the folder of a run has"):
        Sweep.of(shared, {"a": {}}).run(tmp_path, progress=False)
    lines = told.read_text().splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert any("find_ticket(" in line for line in lines)
    assert lines[-1].startswith("mirl.errors.FormatError: ")
    (told.parent / "recipe.json").unlink()
    Sweep.of(shared, {"a": {}}).run(tmp_path, progress=False)
    assert not told.exists()


def test_a_cluster_that_is_not_there_is_named(place, tmp_path, monkeypatch):
    """Where Ray itself would end the process."""

    class Ray:
        @staticmethod
        def init(**settings):
            raise SystemExit(15)

    monkeypatch.setitem(sys.modules, "ray", Ray)
    with pytest.raises(ConnectionError, match="nosuch:1: no Ray cluster"):
        Sweep.load(place / "sweep.toml").run(tmp_path, address="nosuch:1", progress=False)


@pytest.mark.parametrize("package", ["pandas", "pyarrow", "scipy"])
def test_what_tables_need_is_looked_for_first(place, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is not installed: .*mirl\[lab\]"):
        mirl_command("sweep", place / "sweep.toml", "-o", place / "none")
    assert not (place / "none").exists()
