"""Experiments and sweeps: what their files say, and that every run comes to its end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mirl
from command import mirl_command
from dataset import write_dataset
from mirl.lottery import (
    Experiment,
    Sweep,
    differences,
    mask_stability,
    report,
    results,
    save_results,
    summary,
)
from mirl.lottery.figures import quality_figure
from same import assert_same_state

RECIPE = """
[network]
dim = 8
num_blocks = [1, 1, 1, 1]
num_refinement_blocks = 1
prompt_dims = [8, 16, 40]
prompt_sizes = [8, 4, 2]

[data]
root = "data"
patch_size = 16
batch_size = 2

[ticket]
rounds = 2
amount = 0.5
lr = 1e-3

[evaluate]
images = 1
crop = 32
"""

SWEEP = """
recipe = "recipe.toml"
seeds = [0, 1]

[methods.mir-l]

[methods.reinit]
after = "mir-l"
ticket.control = "reinit"

[methods.bad]
ticket.rewind = 1000
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, a recipe and a sweep."""
    folder = tmp_path_factory.mktemp("lab")
    write_dataset(folder / "data")
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "sweep.toml").write_text(SWEEP)
    return folder


@pytest.fixture(scope="module")
def swept(place):
    """The folder of the sweep, run one by one."""
    with pytest.raises(
        RuntimeError, match="2 of 6 runs failed\nbad-seed0: ValueError: rewind must be"
    ):
        Sweep.load(place / "sweep.toml").run(place / "runs", progress=False)
    return place / "runs"


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


def test_what_is_measured_may_lie_elsewhere(tmp_path):
    for evaluate, root in (({}, "photos"), ({"root": "others"}, "others")):
        tables = {"data": {"root": "photos"}, "evaluate": evaluate}
        found = Experiment.from_tables(tables, tmp_path / "recipe.toml")
        assert found.evaluate == {"root": str(tmp_path.resolve() / root)}
        assert found.data == {"root": str(tmp_path.resolve() / "photos")}


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
        ("[data]\nroot = 'x'\n[tickets]\nrounds = 1", "unknown: tickets"),
        ("recipe = 'x.toml'", "a sweep, not a recipe"),
        ("[ticket]\nrounds = 1", "must name its root"),
        ("data = 3", "data must be a table"),
        ("[data]\nroot = 'x'\n[ticket]\nrouns = 1", "unknown in ticket: rouns"),
        ("[data]\nroot = 'x'\n[ticket]\nout = 'y'", "unknown in ticket: out"),
        ("[data]\nroot = 'x'\nstages = []\nsize = 3", "unknown in data: size"),
        ("[data]\nroot = 'x'\n[network]\ndepth = 1", "unknown in network: depth"),
        ("evaluate = 3\n[data]\nroot = 'x'", "evaluate must be a table"),
        ("[data]\nroot = 'x'\n[ticket]\namount = '20%'", "amount must be a number, got '20%'"),
        ("[data]\nroot = 'x'\n[ticket]\nrounds = 1.5", "rounds must be a whole number"),
        ("[data]\nroot = 'x'\n[ticket]\nlr = inf", "lr must be positive and finite"),
        ("[data]\nroot = 'x'\n[ticket]\nbetas = [0.9]", "betas must be two numbers"),
        ("[data]\nroot = 'x'\n[ticket]\ninclude = 'weights'", "include must be a sequence"),
        ("[data]\nroot = 'x'\n[ticket]\ngranularity = '4:4'", "granularity: a pattern N:M keeps"),
        ("[data]\nroot = 'x'\n[ticket]\nmin_density = 1", "min_density must lie in"),
        ("[data]\nroot = 'x'\n[ticket]\nrewind_prompts = 1", "rewind_prompts must be True or"),
    ],
)
def test_a_bad_recipe_is_named(tmp_path, text, message):
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(mirl.errors.FormatError, match=message):
        Experiment.load(tmp_path / "recipe.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = [0]", "recipe must name"),
        ('recipe = "recipe.toml"\nruns = 3', "unknown: runs"),
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


def test_results_are_tidy(swept):
    table = save_results(swept)
    assert len(table) == 2 * 5 * (3 + 2)
    assert not table.isna().any(axis=None)
    keys = ["method", "seed", "round", "task"]
    assert not table.duplicated(keys).any()
    runs = list(table[["method", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    assert runs == [("mir-l", 0), ("reinit", 0), ("mir-l", 1), ("reinit", 1)]  # as they ran
    assert table.groupby(["method", "seed"])["hash"].nunique().eq(1).all()
    assert table["hash"].nunique() == 4
    from pandas import read_csv, read_parquet

    assert read_parquet(swept / "results.parquet").equals(table)
    assert list(read_csv(swept / "results.csv").columns) == list(table.columns)
    record = json.loads((swept / "mir-l-seed1" / "record.jsonl").read_text().splitlines()[2])
    line = table.query("method == 'mir-l' and seed == 1 and round == 2 and task == 'derain'")
    assert line["psnr"].item() == record["metrics"]["derain"]["psnr"]


def test_intervals_are_students(swept):
    from pandas import concat
    from scipy.stats import t

    table = results(swept)
    means = summary(table).set_index(["method", "round", "task"])
    found = means.loc[("reinit", 1, "dehaze")]
    values = table.query("method == 'reinit' and round == 1 and task == 'dehaze'")["psnr"]
    assert found["psnr"] == pytest.approx(values.mean())
    low, high = t.interval(0.95, 1, values.mean(), values.std(ddof=1) / 2**0.5)
    assert found["psnr_interval"] == pytest.approx((high - low) / 2)
    assert found["runs"] == 2
    # Of a third run that has not measured it nothing is taken.
    other = table[table["seed"] == 1].assign(seed=2, psnr=float("nan"))
    more = summary(concat([table, other])).set_index(["method", "round", "task"])
    more = more.loc[("reinit", 1, "dehaze")]
    assert more["runs"] == 3
    assert more["psnr_interval"] == pytest.approx(found["psnr_interval"])
    assert more["ssim_interval"] != pytest.approx(found["ssim_interval"])


def test_bands_are_the_intervals_around_the_means(swept):
    means = summary(results(swept))
    axis = quality_figure(means, "psnr").axes[0]
    line = means[(means["method"] == "mir-l") & (means["task"] == means["task"].iloc[0])]
    (path,) = axis.collections[0].get_paths()
    drawn = path.vertices[:, 1]
    for sign, end in ((-1, drawn.min()), (1, drawn.max())):
        ends = line["psnr"] + sign * line["psnr_interval"]
        assert end == pytest.approx(ends.min() if sign < 0 else ends.max())


def test_a_report_is_of_the_psnr_if_there_is_one():
    from pandas import DataFrame

    measure = sys.modules["mirl.lottery.report"]._measure
    table = DataFrame({"lpips": [0.1], "psnr": [30.0]})
    assert measure(table, None) == "psnr"
    assert measure(table[["lpips"]], None) == "lpips"


def test_the_loss_is_that_of_the_last_epoch(small):
    record = {"round": 0, "density": 1.0, "density_prunable": 1.0, "loss": [0.5, 0.25]}
    record |= {"metrics": {}, "seconds": 1.0, "versions": {}, "seed": {"model": 3, "data": 4}}
    table = results(mirl.Result(small, [record]))
    assert table[["loss", "seed_model", "seed_data"]].to_numpy().tolist() == [[0.25, 3, 4]]


def test_differences_are_paired_by_seed(swept):
    from scipy.stats import ttest_rel

    table = results(swept)
    ahead = differences(table, "mir-l").set_index(["method", "round", "task"])
    assert {method for method, *_ in ahead.index} == {"reinit"}
    assert {round_ for _, round_, _ in ahead.index} == {1, 2}
    psnr = table.query("round == 2 and task == 'dehaze'").pivot_table(
        index="seed", columns="method", values="psnr"
    )
    line = ahead.loc[("reinit", 2, "dehaze")]
    interval = ttest_rel(psnr["mir-l"], psnr["reinit"]).confidence_interval(0.95)
    assert line["psnr"] == pytest.approx((psnr["mir-l"] - psnr["reinit"]).mean())
    assert line["psnr_interval"] == pytest.approx((interval.high - interval.low) / 2)
    with pytest.raises(ValueError, match="there is no method 'x'"):
        differences(table, "x")


def test_a_report_is_a_page_and_its_figures(swept, tmp_path):
    page = report(swept, tmp_path / "page.html")
    text = page.read_text()
    for name in ("quality", "layers", "overlap", "stability", "seconds"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert text.count("data:image/png;base64,") == 5
    psnr = summary(results(swept)).query("method == 'reinit' and round == 2 and task == 'derain'")
    assert f"{psnr['psnr'].item():.2f} ± {psnr['psnr_interval'].item():.2f}" in text


def test_masks_are_compared_round_by_round(swept):
    ticket, control, other = (
        swept / name for name in ("mir-l-seed0", "reinit-seed0", "mir-l-seed1")
    )
    same = mask_stability(ticket, control)
    assert list(same) == [1, 2]
    assert all(overlap.jaccard == 1 for overlap in same.values())
    for overlap in mask_stability(ticket, other).values():
        assert overlap.jaccard == pytest.approx(overlap.chance, abs=0.05)
    with pytest.raises(FileNotFoundError, match="nothing"):
        mask_stability(ticket, swept / "nothing")


def test_a_report_tells_places_in_the_grid_apart(place, tmp_path):
    grid = {"ticket.amount": [0.2, 0.5], "network.heads": [[1, 1, 1, 1]]}
    Sweep.of(
        Experiment.load(place / "recipe.toml").changed({"ticket.rounds": 1}),
        {"mir-l": {}},
        [0],
        grid,
    ).run(tmp_path, progress=False)
    page = report(tmp_path, tmp_path)
    assert page == tmp_path / "report.html"
    text = page.read_text()
    for amount in ("0.2", "0.5"):
        assert f"<summary>mir-l amount={amount} heads=[1, 1, 1, 1]</summary>" in text
    assert "Round 1: 50 to 80 % of the prunable weights" in text
    with pytest.raises(ValueError, match=r"page\.pdf: a report ends with \.html"):
        report(tmp_path, tmp_path / "page.pdf")
    record = tmp_path / "mir-l-amount=0.5-heads=[1, 1, 1, 1]-seed0" / "record.jsonl"
    record.write_text(record.read_text()[:-20])
    with pytest.raises(mirl.errors.FormatError, match=r"record\.jsonl: no record of a run"):
        report(tmp_path)


def test_no_workers_are_refused(place):
    sweep = Sweep.load(place / "sweep.toml")
    for wrong in ({"workers": 0}, {"threads": 0}):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            sweep.run(place / "none", **wrong)
    assert not (place / "none").exists()


def test_one_run_has_a_report_too(swept, tmp_path):
    page = report(swept / "mir-l-seed0", tmp_path / "page.html")
    assert page.read_text().count("data:image/png;base64,") == 3


def test_nothing_to_report_is_said(place, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run is in this folder"):
        report(tmp_path)
    with pytest.raises(FileNotFoundError, match="nope: no such folder"):
        report(tmp_path / "nope")
    experiment = Experiment.load(place / "recipe.toml").changed({"evaluate": None})
    experiment.run(tmp_path / "run", loggers=())
    with pytest.raises(ValueError, match="no run has measured"):
        report(tmp_path)
    table = save_results(tmp_path)
    assert list(table["round"]) == [0, 1, 2]
    assert {"method", "seed", "density", "loss", "seconds"} <= set(table) - {"task", "psnr"}
    for compared in (summary, lambda table: differences(table, "run")):
        with pytest.raises(ValueError, match="the runs were not evaluated"):
            compared(table)


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
    with pytest.raises(TypeError, match=r"ticket\.criterion: a TOML file cannot hold <function"):
        experiment.changed({"ticket.criterion": sharpness}).save(tmp_path / "saved.toml")
    assert (tmp_path / "saved.toml").read_text() == saved


def test_a_run_can_be_made_again_from_its_folder(place, swept, tmp_path):
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


def test_runs_of_a_sweep_write_their_steps(swept):
    lines = (swept / "reinit-seed0" / "steps.jsonl").read_text().splitlines()
    assert {json.loads(line)["round"] for line in lines} == {1, 2}


def test_json_is_no_recipe(swept):
    with pytest.raises(mirl.errors.FormatError, match=r"recipe\.json: no TOML, as recipes and sw"):
        Experiment.load(swept / "mir-l-seed0" / "recipe.json")


def measured(model):
    """A measure of one's own, and one with the name of a column."""
    value = float(np.abs(model(np.full((1, 3, 16, 16), 0.5, np.float32))).mean())
    return {"derain": {"lpips.alex": value, "loss": 2 * value}}


@pytest.fixture(scope="module")
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


def test_runs_of_ones_own_are_compared_by_method(own, tmp_path):
    folders, found = own
    table = results(folders)
    assert results(found).drop(columns="hash").equals(table.drop(columns="hash"))
    assert list(table["method"].unique()) == ["ticket", "random"]
    for column in ("seed", "seed_model", "seed_data"):
        assert list(table[column]) == [0, 0, 1, 1] * 2
    assert (table["loss_measured"] == 2 * table["lpips.alex"]).all()
    means = summary(table).set_index(["method", "round"])
    assert (means["runs"] == 2).all()
    lines = table.query("method == 'random' and round == 1")["lpips.alex"]
    assert means.loc[("random", 1), "lpips.alex"] == pytest.approx(lines.mean())
    assert means.loc[("random", 1), "lpips.alex_interval"] > 0
    assert means.loc[("random", 1), "loss_measured"] == pytest.approx(2 * lines.mean())
    ahead = differences(table, "ticket").set_index("round")
    assert ahead.loc[0, "lpips.alex"] == 0
    assert ahead.loc[1, "lpips.alex"] != 0
    text = report(folders, tmp_path / "page.html", measure="loss_measured").read_text()
    assert "Runs of ticket, random" in text
    assert f"{means.loc[('random', 1), 'loss_measured']:.4g} ± " in text
    assert "lpips.alex</h2>" in report(folders, tmp_path).read_text()
    with pytest.raises(
        ValueError, match=r"no run has measured 'psnr'; there are lpips\.alex, loss_"
    ):
        report(folders, tmp_path, measure="psnr")
    with pytest.raises(ValueError, match="page must say where"):
        report(folders)
    with pytest.raises(TypeError, match="a Result in memory has none"):
        report(found, tmp_path)
    with pytest.raises(ValueError, match="x: a method without runs"):
        results({"x": []})
    assert list(results(found["ticket"][0])["method"].unique()) == ["run"]


def test_runs_of_one_seed_are_no_replicates(own):
    folders, _ = own
    table = results({"ticket": [folders["ticket"][0]] * 2, "random": folders["random"]})
    with pytest.warns(UserWarning, match="several runs of ticket have one seed"):
        means = summary(table)
    assert list(means.query("method == 'ticket'")["runs"]) == [2, 2]
    with pytest.raises(ValueError, match="several runs of ticket have one seed: which to pair"):
        differences(table, "random")


def test_a_run_may_have_measured_less(swept):
    table = results(swept)
    lacking = (table["method"] == "mir-l") & (table["seed"] == 1)
    table.loc[lacking, "ssim"] = np.nan
    line = summary(table).query("method == 'mir-l' and round == 2 and task == 'derain'")
    assert line["runs"].item() == 2
    assert line["psnr_interval"].notna().item()
    assert line["ssim_interval"].isna().item()


def test_a_table_is_a_place_in_the_grid_too(place, tmp_path):
    shared = Experiment.load(place / "recipe.toml").changed({"ticket.rounds": 0})
    networks = [shared.network, shared.network | {"dim": 16}]
    Sweep.of(shared, {"a": {}}, grid={"network": networks}).run(tmp_path, progress=False)
    assert (summary(results(tmp_path))["runs"] == 1).all()


def test_a_run_need_not_tell_its_number(swept, tmp_path):
    shutil.copytree(swept / "mir-l-seed0", tmp_path / "copied")
    (tmp_path / "copied" / "run.json").write_text(
        '{"method": "mine", "seed": 7, "note": "by hand"}'
    )
    table = results(tmp_path)
    assert set(table["method"]) == {"mine"}
    assert set(table["seed"]) == {7}


def test_the_commands(place, tmp_path):
    table = mirl_command("train", place / "recipe.toml", "-o", tmp_path / "run", "--quiet")
    assert "25.0" in table
    with pytest.raises(ValueError, match=r"--lr: a recipe .* --set ticket\.lr=0\.0001$"):
        mirl_command("train", place / "recipe.toml", "-o", tmp_path / "other", "--lr", 1e-4)
    (place / "one.toml").write_text('recipe = "recipe.toml"')
    said = mirl_command("sweep", place / "one.toml", "-o", tmp_path / "runs", "--quiet")
    assert "1 runs, results.csv" in said
    assert (tmp_path / "runs" / "results.parquet").exists()
    assert "report.html" in mirl_command("report", tmp_path / "runs")
    assert (tmp_path / "runs" / "report.html").exists()
    mirl_command("report", tmp_path / "runs", "-o", tmp_path / "ssim.html", "--measure", "ssim")
    assert "<h2>SSIM</h2>" in (tmp_path / "ssim.html").read_text()


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


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_data_may_lie_in_a_folder_of_any_name(place, tmp_path):
    """Even of one that no TOML file can hold."""
    data = write_dataset(tmp_path / os.fsdecode(b"d\xfcta"))
    experiment = Experiment.load(place / "recipe.toml").changed(
        {"data.root": str(data), "evaluate": None, "ticket.rounds": 0}
    )
    assert len(experiment.run(tmp_path / "run", loggers=()).rounds) == 1
    assert not (tmp_path / "run" / "experiment.toml").exists()


def test_functions_need_not_measure_the_input(place, tmp_path):
    """Results, their means and a report, of what `find_ticket` says that a function returns."""
    shared = Experiment.load(place / "recipe.toml")
    sizes, data = shared.network, mirl.Loader.from_folder(place / "data", patch_size=16)
    for number, measured in enumerate(({"psnr": 30.0, "ssim": 0.9}, {"psnr": 31.0})):
        mirl.find_ticket(
            mirl.PromptIR(seed=0, **sizes),
            data,
            rounds=0,
            evaluate=lambda _, measured=measured: {"derain": measured},
            out=tmp_path / f"run{number}",
            loggers=(),
        )
    means = summary(results(tmp_path)).set_index("method")
    assert "psnr_input" not in means
    assert means.loc["run1", "psnr"] == 31.0
    assert differences(results(tmp_path), "run1")["psnr"].item() == 1.0
    assert "31.00" in report(tmp_path).read_text()


def test_a_report_leaves_infinite_quality_out_of_its_picture(place, tmp_path):
    """As of an image that is compared with itself."""

    def perfect(model):
        return {"same": {"psnr": np.inf}, "rain": {"psnr": 30.0, "psnr_input": np.inf}}

    sizes = Experiment.load(place / "recipe.toml").network
    folders = [tmp_path / f"run{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        mirl.find_ticket(
            mirl.PromptIR(seed=seed, **sizes),
            mirl.Loader.from_folder(place / "data", patch_size=16, seed=seed),
            rounds=1,
            evaluate=perfect,
            out=folder,
            loggers=(),
        )
    page = report({"ticket": folders}, tmp_path / "page.html")
    assert "30.00" in page.read_text()


@pytest.mark.parametrize("text", ["[]", "5"])
def test_what_no_sweep_has_written_is_named(swept, tmp_path, text):
    shutil.copytree(swept / "mir-l-seed0", tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(text)
    with pytest.raises(mirl.errors.FormatError, match=r"run\.json: nothing that a sweep"):
        results(tmp_path)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_is_not_batches(small, kind):
    with pytest.raises(TypeError, match=r"batches, as of mirl\.Loader\.from_folder\(.*mini"):
        mirl.find_ticket(small, kind("mini"))


def test_a_cluster_that_is_not_there_is_named(place, tmp_path, monkeypatch):
    """Where Ray itself would end the process."""

    class Ray:
        @staticmethod
        def init(**settings):
            raise SystemExit(15)

    monkeypatch.setitem(sys.modules, "ray", Ray)
    with pytest.raises(ConnectionError, match="nosuch:1: no Ray cluster"):
        Sweep.load(place / "sweep.toml").run(tmp_path, address="nosuch:1", progress=False)


def test_a_report_compares_networks_of_one_size(place, tmp_path):
    """And methods that count other layers as prunable."""
    shared = Experiment.load(place / "recipe.toml").changed({"ticket.rounds": 1})
    methods = {
        "paper": {"ticket.preset": "paper-code"},
        "plain": {},
        "wide": {"network.dim": 16, "network.num_blocks": [1, 1, 1, 2]},
    }
    Sweep.of(shared, methods).run(tmp_path, progress=False)
    text = report(tmp_path).read_text()
    assert text.count("data:image/png;base64,") == 5
    assert "networks of other sizes are left out" in text
    alone = report(tmp_path / "plain-seed0", tmp_path / "plain.html").read_text()
    assert "left out" not in alone


@pytest.mark.parametrize("package", ["pandas", "pyarrow", "scipy"])
def test_what_tables_need_is_looked_for_first(place, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is not installed: .*mirl\[lab\]"):
        mirl_command("sweep", place / "sweep.toml", "-o", place / "none")
    assert not (place / "none").exists()
