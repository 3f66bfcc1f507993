"""A sweep as one page: tables and figures."""

from __future__ import annotations

import html
import json
from base64 import b64encode
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirl.io import write_text
from mirl.lottery.analysis import mask_overlap, mask_stability, overlap_matrix
from mirl.lottery.figures import (
    layers_figure,
    overlap_figure,
    quality_figure,
    seconds_figure,
    stability_figure,
)
from mirl.lottery.results import about, differences, point_of, results, run_folders, summary
from mirl.lottery.table import task_name
from mirl.plot import save_figure

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from pandas import DataFrame

    from mirl.lottery.folder import RunFolder

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; font-size: 0.85em; margin: 1em 0; }}
th, td {{ padding: 0.15em 0.7em; text-align: right; border-bottom: 1px solid #ddd; }}
th:first-child, td:first-child {{ text-align: left; }}
img {{ max-width: 100%; }}
pre {{ background: #f5f5f5; padding: 1em; overflow-x: auto; font-size: 0.8em; }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def report(out: str | os.PathLike[str], page: str | os.PathLike[str] | None = None) -> Path:
    """Write figures and an HTML page of a sweep, as far as it has come.

    Quality against density with intervals, a panel a task; the density of every layer; what the
    last masks have in common; the time of a round; the numbers; and the recipes.

    Parameters
    ----------
    out
        The folder of a sweep, or of one run.
    page
        Where the page goes, ``NAME.html`` or a folder; by default ``report.html`` in `out`. The
        figures lie beside it as PNG, and in it.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    FileNotFoundError
        There is no run in the folder.
    ValueError
        No run has measured a PSNR: they have no `evaluate`; or `page` ends with something else.
    ImportError
        pandas, pyarrow, scipy or matplotlib is not installed.
    """
    page = Path(out if page is None else page)
    if page.is_dir():
        page /= "report.html"
    if page.suffix not in (".html", ".htm"):
        raise ValueError(f"{page}: a report ends with .html")
    table = results(out)
    if "psnr" not in table:
        raise ValueError(f"{out}: no run has measured the PSNR of a round yet")
    table = table.dropna(subset=["psnr"])
    means = _by_series(summary(table))
    runs = [run for run in run_folders(out) if run.records()]
    examples = _examples(runs)
    figures = {
        "quality": (
            "Quality against density",
            "Dashed: the input left unchanged. Bands: 95 % confidence intervals over the seeds; those"
            " of a few seeds may reach beyond the picture.",
            quality_figure(means),
        ),
        "layers": (
            "Density of the layers",
            f"One run of each method, seed {about(runs[0])['seed']}.",
            layers_figure({series: run.records() for series, run in examples.items()}),
        ),
        **_overlaps(runs),
        **_stability(_alike(runs)),
        "seconds": (
            "Time of a round",
            "Median over the seeds. Only as good as the machine was quiet: for claims about time see"
            " the benchmarks.",
            seconds_figure(_by_series(table)),
        ),
    }
    page.parent.mkdir(parents=True, exist_ok=True)
    densities = {
        round_: _density(group["density_prunable"]) for round_, group in means.groupby("round")
    }
    parts = []
    for name, (title, text, figure) in figures.items():
        path = page.with_name(f"{name}.png")
        save_figure(figure, path)
        image = b64encode(path.read_bytes()).decode()
        parts.append(
            f'<h2>{title}</h2><p>{text}</p><img alt="{title}" src="data:image/png;base64,{image}">'
        )
    parts += [
        f"<h2>PSNR in dB</h2>{_numbers(means, densities)}",
        _ahead(table, densities),
        _recipes(examples),
    ]
    title = f"Runs of {Path(out).resolve().name}"
    write_text(page, PAGE.format(title=html.escape(title), body="\n".join(parts)))
    return page


def _series(method: str, point: Mapping[str, Any]) -> str:
    """The method with its place in the grid, where there is one."""
    return " ".join(
        [method, *(f"{name.rpartition('.')[2]}={_word(value)}" for name, value in point.items())]
    )


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, Real) and not isinstance(value, bool) else str(value)


def _by_series(table: DataFrame) -> DataFrame:
    """The table with methods told apart by their places in the grid."""
    points = [name for name in table.columns if "." in name]
    series = [
        _series(method, dict(zip(points, values, strict=True)))
        for method, *values in zip(table["method"], *(table[name] for name in points), strict=True)
    ]
    return table.assign(method=series)


def _density(values: Any) -> str:
    """Densities in percent: one, or where methods or places in the grid differ, from where to where."""
    low, high = (f"{100 * value:.3g}" for value in (min(values), max(values)))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _examples(runs: list[RunFolder]) -> dict[str, RunFolder]:
    """A run of each method and place in the grid, all of the first one's seed."""
    seed = about(runs[0])["seed"]
    told = [(about(run), run) for run in runs]
    return {
        _series(each["method"], point_of(each)): run for each, run in told if each["seed"] == seed
    }


def _alike(runs: list[RunFolder]) -> list[RunFolder]:
    """Those with a network of the first one's sizes: masks of others cannot be compared."""
    network = runs[0].description()["network"]
    return [run for run in runs if run.description()["network"] == network]


def _overlaps(runs: list[RunFolder]) -> dict[str, tuple[str, str, Any]]:
    """The last masks of all runs that came to the same round, in one matrix."""
    alike = _alike(runs)
    last = max(run.records()[-1]["round"] for run in alike)
    ended = [run for run in alike if run.records()[-1]["round"] == last]
    if last == 0 or len(ended) < 2:
        return {}
    networks = {run.path.name: run.network(last) for run in ended}
    first, second, *_ = networks.values()
    chance = mask_overlap(first, second).chance
    figure = overlap_figure(list(networks), overlap_matrix(networks))
    text = (
        f"Survivors of both over survivors of either, after round {last}. Masks of the layer"
        f" densities of the first two runs would have {chance:.2f} if they were drawn."
        + (" Runs with networks of other sizes are left out." if len(alike) < len(runs) else "")
    )
    return {"overlap": ("What masks have in common", text, figure)}


def _stability(runs: list[RunFolder]) -> dict[str, tuple[str, str, Any]]:
    """The first run's masks beside those of the other methods, and of the other seeds of its own."""
    first, *others = runs
    mine = about(first)
    pairs: dict[str, list[tuple[float, float, float]]] = {}
    for other in others:
        told = about(other)
        same = told["method"] == mine["method"]
        if told["point"] != mine["point"] or (told["seed"] == mine["seed"]) == same:
            continue
        name = f"seed {told['seed']}" if same else told["method"]
        found = mask_stability(first.path, other.path)
        densities = {record["round"]: record["density_prunable"] for record in first.records()}
        if any(overlap.jaccard < 1 for overlap in found.values()):
            pairs[name] = [
                (densities[round_], overlap.jaccard, overlap.chance)
                for round_, overlap in found.items()
            ]
    if not pairs:
        return {}
    text = (
        f"Masks of {_series(mine['method'], point_of(mine))}, seed {mine['seed']}, beside those of the"
        " other methods of that seed that do not have the same, and of its own method from other seeds."
        " Dashed: masks of the same layer densities that are drawn."
    )
    return {"stability": ("Masks round by round", text, stability_figure(pairs))}


def _ahead(table: DataFrame, densities: Mapping[Any, str]) -> str:
    """What the first method is ahead of the others."""
    first = table["method"].iloc[0]
    if table["method"].nunique() == 1:
        return ""
    text = (
        f"PSNR of {first} minus that of the others at the same place in the grid, in dB: the mean over"
        " runs of the same seed, which share initial values and data."
    )
    tables = _numbers(_by_series(differences(table, first)), densities)
    return f"<h2>{html.escape(first)} beside the others</h2><p>{html.escape(text)}</p>{tables}"


def _numbers(means: DataFrame, densities: Mapping[Any, str]) -> str:
    """PSNR of every method, round and task."""
    parts = []
    for round_, group in means.groupby("round"):
        cells = group.assign(
            task=[task_name(task) for task in group["task"]],
            cell=[
                f"{psnr:.2f}" + (f" ± {half:.2f}" if half == half else "")
                for psnr, half in zip(group["psnr"], group["psnr_interval"], strict=True)
            ],
        )
        grid = cells.pivot_table(
            index="method", columns="task", values="cell", aggfunc="first", sort=False
        )
        grid.index.name = grid.columns.name = None
        parts.append(f"<h3>Round {round_}: {densities[round_]} of the prunable weights</h3>")
        parts.append(grid.to_html(border=0, na_rep=""))
    return "\n".join(parts)


def _recipes(runs: Mapping[str, RunFolder]) -> str:
    parts = []
    for series, run in runs.items():
        described = run.description()
        described.pop("initial", None)
        described.pop("masks_of", None)
        text = html.escape(f"{run.path.name}\n{json.dumps(described, indent=1)}")
        parts.append(
            f"<details><summary>{html.escape(series)}</summary><pre>{text}</pre></details>"
        )
    first, *_ = runs.values()
    versions, machine = first.records()[0]["versions"], about(first)["machine"]
    return (
        "<h2>Recipes</h2>"
        + "\n".join(parts)
        + f"<p>{html.escape(json.dumps(versions))}<br>{html.escape(str(machine))}</p>"
    )
