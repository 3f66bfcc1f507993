import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

import mirl
from mirl.plot import image_grid, save_figure, ticket_curve

TASKS = ("denoise_15", "denoise_25", "denoise_50", "derain", "dehaze")


def records(rounds=4):
    return [
        {
            "round": round_,
            "density": 0.1 + 0.9 * 0.8**round_,
            "density_prunable": 0.8**round_,
            "metrics": {
                task: {"psnr": 30 + index - round_ / 4, "psnr_input": 15.0 + index}
                for index, task in enumerate(TASKS)
            },
        }
        for round_ in range(rounds + 1)
    ]


@pytest.fixture
def ax():
    return Figure(figsize=(7.5, 4.5), layout="constrained").subplots()


def test_every_task_has_its_curve_and_its_baseline(ax):
    assert ticket_curve(records(), ax) is ax
    curves = {line.get_label(): line for line in ax.lines if len(line.get_xdata()) == 5}
    assert list(curves) == ["noise σ 15", "noise σ 25", "noise σ 50", "rain", "haze"]
    rain = curves["rain"]
    np.testing.assert_allclose(rain.get_xdata()[:2], [100, 82])
    np.testing.assert_allclose(rain.get_ydata(), [33, 32.75, 32.5, 32.25, 32])
    (baseline,) = (
        line
        for line in ax.lines
        if line.get_color() == rain.get_color() and line.get_linestyle() == "--"
    )
    assert set(baseline.get_ydata()) == {18.0}
    assert len({line.get_color() for line in curves.values()}) == len(TASKS)
    assert len({line.get_marker() for line in curves.values()}) == len(TASKS)


def test_axes_tell_what_they_show(ax):
    ticket_curve(records(15), ax)
    ax.figure.draw_without_rendering()
    assert ax.get_xlabel() == "density of all parameters (%)"
    assert ax.get_ylabel() == "PSNR (dB)"
    left, right = ax.get_xlim()
    assert left > 100 > right
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels[0] == "100"
    assert len(labels) <= 8
    (upper,) = ax.child_axes
    labels = [label.get_text() for label in upper.get_xticklabels()]
    assert labels[:2] == ["100", f"{100 * 0.8**2:.3g}"]


def test_legend_lies_beside_the_data(ax):
    ticket_curve(records(), ax)
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().x0 >= ax.get_window_extent().x1
    assert ax.get_legend().get_window_extent().x1 <= ax.figure.bbox.x1


def test_a_curve_makes_its_own_figure():
    from matplotlib import pyplot

    with pyplot.rc_context({"backend": "agg"}):
        ax = ticket_curve(records())
        assert ax.figure is pyplot.gcf()
        pyplot.close(ax.figure)


def test_a_result_is_drawn_as_its_rounds(ax):
    result = mirl.Result(model=None, rounds=records())
    assert len(ticket_curve(result, ax).lines) == 2 * len(TASKS) + 1


@pytest.mark.parametrize("unmeasured", [[], [{"metrics": {}, "density": 1.0}]])
def test_a_curve_needs_metrics(unmeasured):
    with pytest.raises(ValueError, match="no round has measured 'psnr'; evaluate every round"):
        ticket_curve(unmeasured)


def curves_of(ax):
    return [line for line in ax.lines if len(line.get_xdata()) > 2]


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_runs_by_name_have_colours_and_their_tasks_markers(ax):
    ticket_curve({"ticket": records(), "random": records(6)}, ax)
    names = ["noise σ 15", "noise σ 25", "noise σ 50", "rain", "haze"]
    assert entries(ax) == ["ticket", "random", *names, "input unchanged"]
    assert len({line.get_color() for line in curves_of(ax)}) == 2
    assert len({line.get_marker() for line in curves_of(ax)}) == len(TASKS)
    # The input is the same for both.
    assert sum(line.get_linestyle() == "--" and len(line.get_xdata()) for line in ax.lines) == 10
    assert ax.get_xlim()[1] < 100 * records(6)[-1]["density"]


@pytest.mark.parametrize("named", [True, False])
def test_a_second_curve_lies_beside_the_first(ax, named):
    for name, rounds in (("ticket", 8), ("random", 4)):
        one_task = [
            record | {"metrics": {"derain": record["metrics"]["derain"]}}
            for record in records(rounds)
        ]
        ticket_curve({name: one_task} if named else one_task, ax)
    first, second = curves_of(ax)
    assert first.get_color() != second.get_color()
    assert ax.get_xlim()[1] < first.get_xdata()[-1]
    assert ax.get_ylabel() == ("PSNR (dB), rain" if named else "PSNR (dB)")
    methods = ["ticket", "random"] if named else ["rain", "rain"]
    assert sorted(entries(ax)) == sorted([*methods, "input unchanged"])
    (upper,) = ax.child_axes
    ax.figure.draw_without_rendering()
    shown = [label.get_text() for label in upper.get_xticklabels()]
    assert shown[0] == "100"
    assert float(shown[-1]) < 100 * 0.8**5


def test_many_lines_look_different(ax):
    for task in range(49):
        ticket_curve([record | {"metrics": {f"t{task}": {"psnr": 30}}} for record in records()], ax)
    looks = {(line.get_color(), line.get_marker()) for line in curves_of(ax)}
    assert len(looks) == 49


@pytest.mark.parametrize("at_once", [True, False])
def test_many_runs_look_different(ax, at_once):
    runs = {f"run {number}": records() for number in range(21)}
    for drawn in [runs] if at_once else [{name: run} for name, run in runs.items()]:
        ticket_curve(drawn, ax)
    curves = [line for line in curves_of(ax) if line.get_marker() == "o"]
    shown = [(line.get_color(), line.get_linestyle()) for line in curves]
    assert len(set(shown)) == 21
    named = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in ax.lines}
    assert shown == [named[name] for name in runs]


def test_lines_of_ones_own_may_stay(ax):
    ax.axhline(30)
    ticket_curve(records(), ax)
    assert ax.get_xlim()[1] > 40


def test_rounds_need_not_have_measured_the_same(ax):
    found = records()
    found[0]["metrics"] = {}
    found[1]["metrics"] = {"derain": {"psnr": 20.0, "lpips": 0.3}}
    found[2]["metrics"] = {"derain": {"lpips": 0.2}, "dehaze": {"psnr": 21.0}}
    ticket_curve(found[:3], ax)
    assert {line.get_label(): list(line.get_ydata()) for line in ax.lines} == {
        "rain": [20.0],
        "haze": [21.0],
    }


def test_what_was_measured_can_be_chosen(ax):
    found = [record | {"metrics": {"derain": {"lpips": 0.1}}} for record in records()]
    ticket_curve(found, ax, measure="lpips")
    assert ax.get_ylabel() == "lpips"
    assert entries(ax) == ["rain"]
    with pytest.raises(ValueError, match="'psnr'; there are lpips"):
        ticket_curve(found, ax)
    with pytest.raises(ValueError, match="b: no round has measured 'lpips'; there are psnr, psnr_"):
        ticket_curve({"a": found, "b": records()}, ax, measure="lpips")


@pytest.mark.parametrize("draw", [lambda: ticket_curve(records()), lambda: image_grid([0])])
def test_what_figures_need_is_named(monkeypatch, draw):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'matplotlib is not installed: pip .* "mirl\[plot\]"'):
        draw()


@pytest.fixture
def rows():
    clean = np.random.default_rng(0).random((3, 24, 32), dtype=np.float32)
    return [("rain", clean * np.float32(0.5), clean - np.float32(0.1), clean)] * 2


def test_a_grid_shows_images_and_their_psnr(rows, tmp_path):
    figure = image_grid(rows, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert len(figure.axes) == 6
    assert [axis.get_title() for axis in figure.axes[:3]] == ["input", "restored", "clean"]
    assert figure.axes[0].get_ylabel() == "rain"
    from mirl.metrics import psnr

    _, degraded, _, clean = rows[0]
    assert figure.axes[0].get_xlabel() == f"{psnr(degraded, clean):.2f} dB"
    shown = figure.axes[2].images[0].get_array()
    np.testing.assert_array_equal(shown, clean.transpose(1, 2, 0))


def test_a_grid_measures_what_it_shows():
    clean = np.full((3, 16, 16), 0.5, np.float32)
    clean[:, 8:] = 1
    figure = image_grid([("bright", clean / 2, np.where(clean == 1, 3, 0.6).astype("f4"), clean)])
    shown = np.where(clean == 1, 1, 0.6).astype("f4")
    assert figure.axes[1].get_xlabel() == f"{mirl.psnr(shown, clean):.2f} dB"


def test_a_grid_needs_rows():
    with pytest.raises(ValueError, match="at least one row"):
        image_grid([])


def test_a_grid_needs_images_with_their_channels_first(rows):
    label, degraded, restored, clean = rows[0]
    last = restored.transpose(1, 2, 0)
    wrong = r"rain, restored: expected shape \(3, H, W\), got \(24, 32, 3\)"
    with pytest.raises(ValueError, match=wrong):
        image_grid([rows[0], (label, degraded, last, clean)])
    with pytest.raises(ValueError, match=r"rain, clean: .*got \(24, 32\)"):
        image_grid([(label, degraded, restored, clean[0])])


def test_a_part_of_a_figure_is_saved_with_it(tmp_path):
    figure = Figure()
    part, _ = figure.subfigures(1, 2)
    axes = part.subplots()
    axes.plot([1, 2])
    for name, which in (("whole", figure), ("part", axes.figure)):
        save_figure(which, tmp_path / f"{name}.png")
    assert (tmp_path / "part.png").read_bytes() == (tmp_path / "whole.png").read_bytes()


def test_a_figure_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="nonsense"):
        save_figure(Figure(), tmp_path / "grid.nonsense")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="missing"):
        save_figure(Figure(), tmp_path / "missing" / "grid.png")


@pytest.mark.parametrize("runs", ["folder", {"t": "folder"}, [[records()]], {"t": 3}, 3])
def test_what_has_no_rounds_is_told_how_to_get_them(ax, runs):
    with pytest.raises(TypeError, match=r"of a mirl\.Result, .* mirl\.Result\.load\(folder\)"):
        ticket_curve(runs, ax)
