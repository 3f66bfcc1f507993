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
    assert ax.get_ylabel() == "PSNR on test images (dB)"
    left, right = ax.get_xlim()
    assert left > 100 > right
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels[0] == "100"
    assert len(labels) <= 6
    (upper,) = ax.child_axes
    labels = [label.get_text() for label in upper.get_xticklabels()]
    assert labels[:2] == ["100", f"{100 * 0.8**3:.3g}"]


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
    with pytest.raises(ValueError, match="records with metrics"):
        ticket_curve(unmeasured)


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


def test_a_grid_needs_rows():
    with pytest.raises(ValueError, match="at least one row"):
        image_grid([])


def test_a_figure_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="nonsense"):
        save_figure(Figure(), tmp_path / "grid.nonsense")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="missing"):
        save_figure(Figure(), tmp_path / "missing" / "grid.png")
