"""Results of runs: tidy tables, means with their intervals, and differences."""

import json
import shutil

import numpy as np
import pytest

import mirl
from mirl.lottery import Experiment, Sweep, differences, report, results, save_results, summary


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


def test_runs_of_ones_own_are_compared_by_method(own):
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


@pytest.mark.parametrize("text", ["[]", "5"])
def test_what_no_sweep_has_written_is_named(swept, tmp_path, text):
    shutil.copytree(swept / "mir-l-seed0", tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(text)
    with pytest.raises(mirl.errors.FormatError, match=r"run\.json: nothing that a sweep"):
        results(tmp_path)


@pytest.mark.parametrize("runs", [["a", "b"], {"t": 3}, {"t": [3]}, 3, None])
def test_what_are_no_runs_is_told_what_are(runs):
    with pytest.raises(TypeError, match=r"find_ticket\(out=\.\.\.\), or a mirl\.Result; .* got "):
        results(runs)
