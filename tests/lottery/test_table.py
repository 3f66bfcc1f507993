import pytest

import mirl
from mirl.lottery.table import rounds_table


def record(round_, tasks):
    metrics = {
        task: {"psnr": 30.5, "ssim": 0.9, "psnr_input": 20.25, "ssim_input": 0.5} for task in tasks
    }
    density = 0.8**round_
    return {
        "round": round_,
        "density": 0.1 + 0.9 * density,
        "density_prunable": density,
        "metrics": metrics,
        "loss": [0.5, 0.125],
    }


@pytest.mark.parametrize("count", [1, 5, 7])
def test_all_tasks_fit_80_columns(count):
    tasks = [f"denoise_{sigma}" for sigma in range(15, 15 + count)]
    table = rounds_table([record(round_, tasks) for round_ in range(16)])
    assert max(map(len, table.splitlines())) <= 80
    assert all(f"noise σ {sigma}" in table for sigma in range(15, 15 + count))
    assert table.count("30.50 0.900") == 16 * count
    assert table.count("20.25 0.500") == count
    assert table.splitlines()[4].split()[:3] == ["1", "82.0", "80.0"]


def test_long_names_have_the_room_that_is_left():
    chains = ["blur:1-3 + noise:10", "blur:1-3 + jpeg:30-70"]
    table = rounds_table([record(0, chains)]).splitlines()
    assert table[1] == f"round   all prun. {chains[0]} {chains[1]}"
    assert table[-1] == f"    0 100.0 100.0 {'30.50 0.900':>19} {'30.50 0.900':>21}"
    long = "blur:1-3 + noise:10 + jpeg:30-70"
    assert rounds_table([record(0, ["denoise", long])]).splitlines()[1].endswith(f"noise {long}")


def test_names_without_room_go_on_below():
    chains = [f"blur:1-3 + noise:{sigma} + jpeg:30-70" for sigma in (10, 20)]
    table = rounds_table([record(0, [*chains, "derain", "dehaze", "denoise_25"])]).splitlines()
    assert [line.split() for line in table[1:3]] == [
        ["blur:1-3", "+", "blur:1-3", "+"],
        ["noise:10", "+", "noise:20", "+"],
    ]
    assert table[3].split()[3:] == ["jpeg:30-70", "jpeg:30-70", "rain", "haze", "noise", "σ", "25"]
    assert max(map(len, table)) <= 80
    for name in ("x" * 300, "", "a\nb"):
        table = rounds_table([record(0, [name])]).splitlines()
        assert max(map(len, table)) <= 80
        assert table[-1].endswith("30.50 0.900")


def test_noise_of_any_sigma_is_noise():
    assert rounds_table([record(0, ["denoise"])]).splitlines()[1].split()[-1] == "noise"


def test_without_metrics_the_last_loss_is_shown():
    assert rounds_table([record(0, [])]).splitlines()[-1].split() == [
        "0",
        "100.0",
        "100.0",
        "0.12500",
    ]


def test_results_are_short_and_show_tables_in_notebooks(small):
    result = mirl.Result(small, [record(0, ["derain"]), record(1, ["derain"])])
    assert repr(result) == "Result(round 1, 82.00% of all parameters alive)"
    assert result._repr_html_() == f"<pre>{result.table()}</pre>"
    report = mirl.prune(small, 0.5)
    assert "of the prunable" in repr(report)
    assert len(repr(report)) < 200
    assert len(str(report).splitlines()) == len(report.layers) + 1


def test_measures_of_ones_own_are_shown_by_their_names():
    own = [record(0, []) | {"metrics": {"x": {"lpips": 0.3, "lpips_input": 0.45678, "dists": 2.0}}}]
    first, head, unchanged, last = rounds_table(own).splitlines()
    assert first.split() == ["density", "in", "%", "lpips"]
    assert head.split()[-1] == "x"
    assert unchanged.split()[-1] == "0.4568"
    assert last.split() == ["0", "100.0", "100.0", "0.3"]
    assert rounds_table(own, "dists").splitlines()[-1].split()[-1] == "2"
    long = [record(0, []) | {"metrics": {"x": {"y" * 99: 0.3}}}]
    assert max(map(len, rounds_table(long).splitlines())) <= 80


def test_what_is_shown_can_be_chosen():
    mixed = [record(0, ["derain"])]
    mixed[0]["metrics"]["x"] = {"lpips": 0.3}
    assert rounds_table(mixed).splitlines()[1].split()[-1] == "rain"
    table = rounds_table(mixed, "ssim").splitlines()
    assert table[0].split()[-1] == "SSIM"
    assert table[-1].split() == ["0", "100.0", "100.0", "0.900"]
    with pytest.raises(ValueError, match="no round has measured 'mse'; there are psnr, ssim"):
        rounds_table(mixed, "mse")


def test_layers_of_a_report_go_by_name(small):
    report = mirl.prune(small, 0.5)
    assert len(report) == len(report.layers)
    assert report["output.weight"].name == "output.weight"
    with pytest.raises(KeyError, match=r"output\.bias"):
        report["output.bias"]
