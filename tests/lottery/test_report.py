"""Reports: pages, their figures, and what they are of."""

import itertools
import sys

import numpy as np
import pytest

import mirl
from mirl.lottery import Experiment, Sweep, differences, report, results, save_results, summary
from mirl.lottery.figures import layers_figure, quality_figure, seconds_figure, stability_figure


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


def test_a_report_is_a_page_and_its_figures(swept, tmp_path):
    page = report(swept, tmp_path / "page.html")
    text = page.read_text()
    for name in ("quality", "layers", "overlap", "stability", "seconds"):
        assert (tmp_path / f"page-{name}.png").stat().st_size > 10_000
    assert text.count("data:image/png;base64,") == 5
    psnr = summary(results(swept)).query("method == 'reinit' and round == 2 and task == 'derain'")
    assert f"{psnr['psnr'].item():.2f} ± {psnr['psnr_interval'].item():.2f}" in text


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


def test_one_run_has_a_report_too(swept, tmp_path):
    page = report(swept / "mir-l-seed0", tmp_path / "page.html")
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 3
    assert "left out" not in text


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


def test_a_report_of_runs_of_ones_own(own, tmp_path):
    folders, found = own
    means = summary(results(folders)).set_index(["method", "round"])
    text = report(folders, tmp_path / "page.html", measure="loss_measured").read_text()
    assert "Runs of ticket, random" in text
    assert f"{means.loc[('random', 1), 'loss_measured']:.4g} ± " in text
    with pytest.raises(
        ValueError, match=r"no run has measured 'psnr'; there are lpips\.alex, loss_"
    ):
        report(folders, tmp_path, measure="psnr")
    with pytest.raises(ValueError, match="page must say where"):
        report(folders)
    with pytest.raises(TypeError, match="a Result in memory has none"):
        report(found, tmp_path)


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


def test_a_report_compares_networks_of_one_size(place, tmp_path):
    """And methods that count other layers as prunable."""
    shared = Experiment.load(place / "recipe.toml").changed({"ticket.rounds": 1})
    methods = {
        "paper": {"ticket.preset": "paper-code"},
        "plain": {},
        "wide": {"network.dim": 16, "network.num_blocks": [1, 1, 1, 2]},
    }
    Sweep.of(shared, methods).run(tmp_path, progress=False)
    page = report(tmp_path)
    assert page == tmp_path / "report.html"
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 5
    assert "networks of other sizes are left out" in text


LONG = tuple(
    f"magnitude with late rewinding lr=0.00{number} heads=[1, 1, 2, 4]" for number in "123"
)


def apart(figure, texts):
    """Whether what is drawn beside each other, from left to right, does not overlap."""
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts]
    return all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_long_names_above_panels_do_not_overlap():
    profile = [{"round": round_, "layers": {"a.weight": 0.5**round_}} for round_ in range(2)]
    figure = layers_figure(dict.fromkeys(LONG, profile))
    titles = [axis.title for axis in figure.axes[: len(LONG)]]
    assert [title.get_text().replace("\n", " ") for title in titles] == list(LONG)
    assert apart(figure, titles)


@pytest.fixture
def table():
    """Three methods and two tasks, whose names are long."""
    from pandas import DataFrame

    tasks = (
        "blur:1-3 + noise:10 + jpeg:30-70 + derain",
        "blur:1-3 + noise:20 + jpeg:30-70 + derain",
    )
    return DataFrame(
        {"method": method, "task": task, "seed": 0, "round": round_, "seconds": 10 - round_}
        | {"density_prunable": 0.8**round_, "psnr": 30.0, "psnr_interval": 0.1, "runs": 2}
        for method in LONG
        for task in tasks
        for round_ in range(4)
    )


def test_long_tasks_above_panels_do_not_overlap(table):
    figure = quality_figure(table, "psnr")
    assert apart(figure, [axis.title for axis in figure.axes[:2]])


def test_the_legend_of_seconds_lies_beside_them(table):
    figure = seconds_figure(table)
    (axis,), (legend,) = figure.axes, figure.legends
    assert apart(figure, [axis.patch, legend])
    assert [text.get_text().replace("\n", " ") for text in legend.get_texts()] == list(LONG)
    assert axis.get_window_extent().width > figure.bbox.width / 2


def test_chance_is_seen_in_a_single_round():
    figure = stability_figure({"seed 1": [(0.5, 0.42, 0.42)]})
    ((found, chance), (legend,)) = figure.axes[0].lines[:2], figure.legends
    assert found.get_markersize() < chance.get_markersize()
    assert chance.get_marker() == "o"
    assert chance.get_markerfacecolor() == "none"
    assert [text.get_text() for text in legend.get_texts()] == ["seed 1", "by chance"]


def test_a_report_of_results_in_memory_asks_for_their_folders(small, tmp_path):
    metrics = {"derain": {"psnr": 30.0}}
    record = {
        **{"round": 0, "density": 1.0, "density_prunable": 1.0, "loss": [0.1]},
        **{
            "layers": {"output.weight": 1.0},
            "metrics": metrics,
            "seconds": 1.0,
            "seed": {"model": 0, "data": 0},
            "versions": {},
        },
    }
    with pytest.raises(TypeError, match=r"give the folder of the run, find_ticket\(out=\.\.\.\)"):
        report({"t": mirl.Result(small, [record])}, tmp_path / "page.html")
