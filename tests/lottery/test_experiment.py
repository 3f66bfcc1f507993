"""Experiments: what a recipe says is what is run, and it is saved as it is loaded."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mirl
from dataset import write_dataset
from mirl.lottery import Experiment
from same import assert_same_state


def test_a_recipe_is_the_run_that_it_says(place, tmp_path):
    experiment = Experiment.load(place / "recipe.toml").changed({"seed": 3})
    result = experiment.run(tmp_path / "run", loggers=())
    sizes = dict(experiment.network)
    data = mirl.Loader.from_folder(place / "data", patch_size=16, batch_size=2, seed=3)
    again = mirl.find_ticket(
        mirl.PromptIR(seed=3, **sizes),
        data,
        rounds=2,
        amount=0.5,
        lr=1e-3,
        seed=3,
        evaluate=mirl.test_sets(place / "data", images=1, crop=32),
        loggers=(),
    )
    assert json.loads((tmp_path / "run/recipe.json").read_text())["recipe"]["seed"] == 3
    assert_same_state(result.model.state_dict(), again.model.state_dict())
    assert [record["metrics"] for record in again.rounds] == [
        record["metrics"] for record in result.rounds
    ]


def test_parts_may_have_seeds_of_their_own(place, tmp_path):
    seeds = {"network.seed": 5, "data.seed": 6, "ticket.seed": 7, "ticket.rounds": 0}
    result = Experiment.load(place / "recipe.toml").changed(seeds).run(tmp_path, loggers=())
    assert result.rounds[0]["seed"] == {"model": 5, "data": 6}
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"]["seed"] == 7


def measured_at(experiment, monkeypatch):
    """The folder whose test sets a run would measure."""
    asked = []

    def stop(root, **_):
        asked.append(root)
        raise OSError("stop")

    monkeypatch.setattr("mirl.lottery.experiment.test_sets", stop)
    monkeypatch.setattr("mirl.Loader.from_folder", lambda **_: None)
    with pytest.raises(OSError, match="stop"):
        experiment.run("nowhere", loggers=())
    monkeypatch.undo()
    return asked[0]


def test_what_is_measured_may_lie_elsewhere(tmp_path, monkeypatch):
    for evaluate, root in (({}, "photos"), ({"root": "others"}, "others")):
        tables = {"data": {"root": "photos"}, "evaluate": evaluate}
        found = Experiment.from_tables(tables, tmp_path / "recipe.toml")
        assert found.data == {"root": str(tmp_path.resolve() / "photos")}
        assert measured_at(found, monkeypatch) == str(tmp_path.resolve() / root)
        moved = found.changed({"data.root": "elsewhere"})
        expected = str(tmp_path.resolve() / root) if evaluate else "elsewhere"
        assert measured_at(moved, monkeypatch) == expected


def test_changes_are_named_and_hashed(place):
    experiment = Experiment.load(place / "recipe.toml")
    other = experiment.changed({"ticket.lr": 2e-3, "seed": 1, "network": {"dim": 16}})
    assert (other.ticket["lr"], other.ticket["rounds"], other.seed) == (2e-3, 2, 1)
    assert other.network == {"dim": 16}
    assert experiment.ticket["lr"] == 1e-3
    assert experiment.hash() != other.hash()
    turned = replace(experiment, network=dict(reversed(experiment.network.items())))
    assert turned.hash() == experiment.hash()
    moved = experiment.changed({"data.root": "elsewhere", "evaluate.root": "elsewhere"})
    assert moved.hash() == experiment.hash()
    here, there, other = (
        experiment.changed({"ticket.masks_of": parent}).hash() for parent in ("a/x", "b/x", "a/y")
    )
    assert experiment.hash() != here == there != other
    with pytest.raises(ValueError, match=r"device must be one of \('cpu', 'cuda'\), got 'gpu'"):
        experiment.changed({"device": "gpu"})
    for setting in ("ticket.recompute", "data.mix"):
        assert experiment.changed({setting: None}) == experiment
    with pytest.raises(TypeError, match="lr must be a number, got None"):
        experiment.changed({"ticket.lr": None})
    # Only what all changes come to has to fit together.
    late = experiment.changed({"ticket.min_lr": 2e-3, "ticket.lr": 1e-2})
    assert (late.ticket["min_lr"], late.ticket["lr"]) == (2e-3, 1e-2)
    with pytest.raises(ValueError, match=r"tickets\.lr: an experiment has no tickets$"):
        experiment.changed({"tickets.lr": 1})
    with pytest.raises(ValueError, match=r"no tasks; data\.tasks\?; evaluate\.tasks\?$"):
        experiment.changed({"tasks": ["derain"]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data", "recipe.toml"),
        (
            "[data]\nroot = 'x'\n[tickets]\nrounds = 1",
            "unknown: tickets; known: data, network, ticket",
        ),
        ("recipe = 'x.toml'", "a sweep, not a recipe"),
        ("[ticket]\nrounds = 1", "must name its root"),
        ("data = 3", "data must be a table"),
        ("[data]\nroot = 'x'\n[ticket]\nrouns = 1", "unknown in ticket: rouns; known: rounds, "),
        ("[data]\nroot = 'x'\n[ticket]\nout = 'y'", "unknown in ticket: out"),
        ("[data]\nroot = 'x'\nstages = []\nsize = 3", "unknown in data: size"),
        ("[data]\nroot = 'x'\n[network]\ndepth = 1", r"unknown in network \(of PromptIR\): depth"),
        ("evaluate = 3\n[data]\nroot = 'x'", "evaluate must be a table"),
        ("[data]\nroot = 'x'\n[ticket]\namount = '20%'", "amount must be a number, got '20%'"),
        ("[data]\nroot = 'x'\n[ticket]\nrounds = 1.5", "rounds must be a whole number"),
        ("[data]\nroot = 'x'\n[ticket]\nlr = inf", "lr must be positive and finite"),
        ("[data]\nroot = 'x'\n[ticket]\nbetas = [0.9]", "betas must be two numbers"),
        ("[data]\nroot = 'x'\n[ticket]\ninclude = 'weights'", "include must be a sequence"),
        ("[data]\nroot = 'x'\n[ticket]\ngranularity = '4:4'", "granularity: a pattern N:M keeps"),
        ("[data]\nroot = 'x'\n[ticket]\nmin_density = 1", "min_density must lie in"),
        ("[data]\nroot = 'x'\n[ticket]\nrewind_prompts = 1", "rewind_prompts must be True or"),
        ("[data]\nroot = 'x'\n[ticket]\nprecision = 'half'", "precision must be one of"),
        ("[data]\nroot = 'x'\n[ticket]\nloss = 'charbonier'", 'loss must be "l1" or'),
        ("[data]\nroot = 'x'\n[ticket]\nrecompute = 'all'", "recompute must be None or 'block'"),
        ("[data]\nroot = 'x'\n[ticket]\nema_decay = 1", r"ema_decay must lie in \(0, 1\)"),
        ("[data]\nroot = 'x'\n[ticket]\neps = 0", "eps must be positive"),
    ],
)
def test_a_bad_recipe_is_named(tmp_path, text, message):
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(mirl.errors.FormatError, match=message):
        Experiment.load(tmp_path / "recipe.toml")


def test_patches_may_grow_in_a_recipe(place, tmp_path):
    stages = [{"epochs": 1, "patch_size": 16}, {"epochs": 1, "patch_size": 24, "batch_size": 1}]
    changes = {"data.stages": stages, "ticket.epochs": 2, "ticket.rounds": 1}
    experiment = Experiment.load(place / "recipe.toml").changed(changes)
    experiment.run(tmp_path / "run", loggers=())
    described = json.loads((tmp_path / "run" / "recipe.json").read_text())["data"]["stages"]
    assert [(one["epochs"], one["patch_size"], one["batch_size"]) for one in described] == [
        (1, 16, 2),
        (1, 24, 1),
    ]
    with pytest.raises(ValueError, match="stage 0 of stages has no epochs"):
        experiment.changed({"data.stages": [{"patch_size": 8}]}).run(tmp_path / "x", loggers=())


def test_an_experiment_is_saved_as_it_is_loaded(place, tmp_path):
    changes = {
        "data.tasks": ("denoise", 'blur:1-3 + jpeg:50 "σ"\\'),
        "data.repeats": {"derain": 3, "blur:1 + x": 1},
        "data.stages": [{"epochs": 1, "patch_size": 16}, {"epochs": np.int64(2)}],
        "ticket.loss": {"l1": 1.0, "fft-l1": 1e-5},
        "ticket.rewind_prompts": True,
        "ticket.ema_decay": None,
        "ticket.masks_of": Path("parent").resolve(),
        "seed": 3,
    }
    experiment = Experiment.load(place / "recipe.toml").changed(changes)
    experiment.save(tmp_path / "saved.toml")
    again = Experiment.load(tmp_path / "saved.toml")
    assert again == experiment
    assert again.hash() == experiment.hash()
    assert "ema_decay" not in again.ticket
    unmeasured = Experiment(data={"root": "data"})
    unmeasured.save(tmp_path / "saved.toml")
    again = Experiment.load(tmp_path / "saved.toml")
    assert again.evaluate is None
    assert again.data == {"root": str(Path("data").resolve())}
    saved = (tmp_path / "saved.toml").read_text()
    with pytest.raises(TypeError, match=r"ticket\.criterion: a TOML file cannot hold <ufunc"):
        experiment.changed({"ticket.criterion": np.abs}).save(tmp_path / "saved.toml")
    assert (tmp_path / "saved.toml").read_text() == saved


def test_a_run_can_be_made_again_from_its_folder(place, swept):
    again = Experiment.load(swept / "mir-l-seed1" / "experiment.toml")
    assert again == Experiment.load(place / "recipe.toml").changed({"seed": 1})
    told = json.loads((swept / "mir-l-seed1" / "run.json").read_text())
    assert told["hash"] == again.hash()
    # Not in the folder of another run.
    other = again.changed({"ticket.lr": 1e-4})
    kept = (swept / "mir-l-seed1" / "experiment.toml").read_text()
    with pytest.raises(ValueError, match="holds another run"):
        other.run(swept / "mir-l-seed1", loggers=())
    assert (swept / "mir-l-seed1" / "experiment.toml").read_text() == kept


def test_json_is_no_recipe(swept):
    with pytest.raises(mirl.errors.FormatError, match=r"recipe\.json: no TOML, as recipes and sw"):
        Experiment.load(swept / "mir-l-seed0" / "recipe.json")


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_data_may_lie_in_a_folder_of_any_name(place, tmp_path):
    """Even of one that no TOML file can hold."""
    data = write_dataset(tmp_path / os.fsdecode(b"d\xfcta"))
    experiment = Experiment.load(place / "recipe.toml").changed(
        {"data.root": str(data), "evaluate": None, "ticket.rounds": 0}
    )
    assert len(experiment.run(tmp_path / "run", loggers=()).rounds) == 1
    assert not (tmp_path / "run" / "experiment.toml").exists()
