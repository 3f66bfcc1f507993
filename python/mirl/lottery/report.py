"""A sweep as one page: tables and figures."""

from __future__ import annotations

import html
import json
from base64 import b64encode
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirl.data.folder import existing
from mirl.extras import need
from mirl.io import write_text
from mirl.lottery.analysis import mask_overlap, mask_stability, overlap_matrix
from mirl.lottery.figures import (
    layers_figure,
    overlap_figure,
    quality_figure,
    seconds_figure,
    stability_figure,
)
from mirl.lottery.results import (
    Listed,
    check_pandas,
    differences,
    listed,
    measures,
    points,
    repeated,
    summary,
    tabled,
)
from mirl.plot import save_figure
from mirl.tasks import measure_name, task_name

if TYPE_CHECKING:
    import os

    from pandas import DataFrame

    from mirl.lottery.results import Folders

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


def report(
    out: Folders, page: str | os.PathLike[str] | None = None, *, measure: str | None = None
) -> Path:
    """Write figures and an HTML page of a sweep, as far as it has come.

    Quality against density with intervals, a panel a task; the density of every layer; what the
    last masks have in common; the time of a round; the numbers; and the recipes.

    Parameters
    ----------
    out
        The folder of a sweep, or of one run; or folders of runs by method, ``{"ticket": ["a", "b"],
        "random": "c"}``.
    page
        Where the page goes, ``NAME.html`` or a folder; by default ``report.html`` in `out`. The
        figures lie beside it, as ``NAME-quality.png`` and so on, and in it.
    measure
        What the quality is, of all that `evaluate` has measured; by default the PSNR; where that was
        not measured, the first measure that was.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or no run in it.
    ValueError
        No run has measured anything: they have no `evaluate`; or not `measure`. `page` ends with
        something else, or is missing where there are several folders.
    TypeError
        Runs without a folder: masks lie there.
    ImportError
        pandas, pyarrow, scipy or matplotlib is not installed.
    """
    check_pandas()
    need("plot", "matplotlib")
    if not isinstance(out, Mapping):
        existing(Path(out))
    page = _page(out, page)
    runs = [run for run in listed(out) if run.records]
    table = tabled(runs)
    measure = _measure(table, measure)
    table = table.dropna(subset=[measure])
    means = _by_series(summary(table))
    examples = _examples(runs)
    figures = {
        "quality": (
            "Quality against density",
            "Dashed: the input left unchanged. Bands: 95 % confidence intervals over the seeds; those"
            " of a few seeds may reach beyond the picture.",
            quality_figure(means, measure),
        ),
        "layers": (
            "Density of the layers",
            "The first run of each method.",
            layers_figure({series: run.records for series, run in examples.items()}),
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
        path = page.with_name(f"{page.stem}-{name}.png")
        save_figure(figure, path)
        image = b64encode(path.read_bytes()).decode()
        parts.append(
            f'<h2>{title}</h2><p>{text}</p><img alt="{title}" src="data:image/png;base64,{image}">'
        )
    parts += [
        f"<h2>{html.escape(measure_name(measure))}</h2>{_numbers(means, measure, densities)}",
        _ahead(table, measure, densities),
        _recipes(examples),
    ]
    title = f"Runs of {', '.join(out) if isinstance(out, Mapping) else Path(out).resolve().name}"
    write_text(page, PAGE.format(title=html.escape(title), body="\n".join(parts)))
    return page


def _page(out: Folders, page: str | os.PathLike[str] | None) -> Path:
    """Where the page goes."""
    if page is None:
        if isinstance(out, Mapping):
            raise ValueError("page must say where a report of several folders goes")
        page = out
    page = Path(page)
    if page.is_dir():
        page /= "report.html"
    if page.suffix not in (".html", ".htm"):
        raise ValueError(f"{page}: a report ends with .html")
    return page


def _measure(table: DataFrame, measure: str | None) -> str:
    """What the report is about."""
    there = measures(table)
    if not there:
        raise ValueError("no run has measured a round yet: there is no quality to report")
    if measure is None:
        return "psnr" if "psnr" in there else there[0]
    if measure not in there:
        raise ValueError(f"no run has measured {measure!r}; there are {', '.join(there)}")
    return measure


def _series(method: str, place: Mapping[str, Any]) -> str:
    """The method with its place in the grid, where there is one."""
    return " ".join(
        [method, *(f"{name.rpartition('.')[2]}={_word(value)}" for name, value in place.items())]
    )


def _series_of(run: Listed) -> str:
    return _series(run.about.method, run.place)


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, Real) and not isinstance(value, bool) else str(value)


def _by_series(table: DataFrame) -> DataFrame:
    """The table with methods told apart by their places in the grid."""
    places = points(table)
    series = [
        _series(method, dict(zip(places, values, strict=True)))
        for method, *values in zip(table["method"], *(table[name] for name in places), strict=True)
    ]
    return table.assign(method=series)


def _density(values: Any) -> str:
    """Densities in percent: one, or where methods or places in the grid differ, from where to where."""
    low, high = (f"{100 * value:.3g}" for value in (min(values), max(values)))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _examples(runs: list[Listed]) -> dict[str, Listed]:
    """The first run of each method and place in the grid."""
    examples: dict[str, Listed] = {}
    for run in runs:
        examples.setdefault(_series_of(run), run)
    return examples


def _alike(runs: list[Listed]) -> list[Listed]:
    """Those with a network of the first one's sizes: masks of others cannot be compared."""
    network = runs[0].held.description()["network"]
    return [run for run in runs if run.held.description()["network"] == network]


def _overlaps(runs: list[Listed]) -> dict[str, tuple[str, str, Any]]:
    """The last masks of all runs that came to the same round, in one matrix."""
    alike = _alike(runs)
    last = max(run.records[-1]["round"] for run in alike)
    ended = [run for run in alike if run.records[-1]["round"] == last]
    if last == 0 or len(ended) < 2:
        return {}
    # By number: runs that were named may share method and seed.
    networks = {str(number): run.held.network(last) for number, run in enumerate(ended)}
    chance = mask_overlap(networks["0"], networks["1"]).chance
    names = [f"{_series_of(run)} seed {run.about.seed}" for run in ended]
    figure = overlap_figure(names, overlap_matrix(networks))
    text = (
        f"Survivors of both over survivors of either, after round {last}. Masks of the layer"
        f" densities of the first two runs would have {chance:.2f} if they were drawn."
        + (" Runs with networks of other sizes are left out." if len(alike) < len(runs) else "")
    )
    return {"overlap": ("What masks have in common", text, figure)}


def _stability(runs: list[Listed]) -> dict[str, tuple[str, str, Any]]:
    """The first run's masks beside those of the other methods, and of the other seeds of its own."""
    first, *others = runs
    mine = first.about
    densities = {record["round"]: record["density_prunable"] for record in first.records}
    pairs: dict[str, list[tuple[float, float, float]]] = {}
    for other in others:
        told = other.about
        same = told.method == mine.method
        if told.point != mine.point or (told.seed == mine.seed) == same:
            continue
        name = f"seed {told.seed}" if same else told.method
        found = mask_stability(first.held.path, other.held.path)
        if any(overlap.jaccard < 1 for overlap in found.values()):
            pairs[name] = [
                (densities[round_], overlap.jaccard, overlap.chance)
                for round_, overlap in found.items()
            ]
    if not pairs:
        return {}
    text = (
        f"Masks of {_series_of(first)}, seed {mine.seed}, beside those of the"
        " other methods of that seed that do not have the same, and of its own method from other seeds."
        " Dashed: masks of the same layer densities that are drawn."
    )
    return {"stability": ("Masks round by round", text, stability_figure(pairs))}


def _ahead(table: DataFrame, measure: str, densities: Mapping[Any, str]) -> str:
    """What the first method is ahead of the others, where it is clear which runs to pair."""
    first = table["method"].iloc[0]
    ahead = table[:0] if repeated(table) else differences(table, first)
    if ahead.empty:
        return ""
    text = (
        f"{measure_name(measure)} of {first} minus that of the others at the same place in the grid:"
        " the mean over runs of the same seed, which share initial values and data."
    )
    tables = _numbers(_by_series(ahead), measure, densities)
    return f"<h2>{html.escape(first)} beside the others</h2><p>{html.escape(text)}</p>{tables}"


def _numbers(means: DataFrame, measure: str, densities: Mapping[Any, str]) -> str:
    """A measure of every method, round and task."""
    digits = ".2f" if measure == "psnr" else ".4g"
    parts = []
    for round_, group in means.groupby("round"):
        cells = group.assign(
            task=[task_name(task) for task in group["task"]],
            cell=[
                f"{value:{digits}}" + (f" ± {half:{digits}}" if half == half else "")
                for value, half in zip(group[measure], group[f"{measure}_interval"], strict=True)
            ],
        )
        grid = cells.pivot_table(
            index="method", columns="task", values="cell", aggfunc="first", sort=False
        )
        grid.index.name = grid.columns.name = None
        parts.append(f"<h3>Round {round_}: {densities[round_]} of the prunable weights</h3>")
        parts.append(grid.to_html(border=0, na_rep=""))
    return "\n".join(parts)


def _recipes(runs: Mapping[str, Listed]) -> str:
    parts = []
    for series, run in runs.items():
        described = run.held.description()
        described.pop("initial", None)
        described.pop("masks_of", None)
        text = html.escape(f"{run.held.path.name}\n{json.dumps(described, indent=1)}")
        parts.append(
            f"<details><summary>{html.escape(series)}</summary><pre>{text}</pre></details>"
        )
    first, *_ = runs.values()
    versions, machine = first.records[0]["versions"], first.about.machine
    return (
        "<h2>Recipes</h2>"
        + "\n".join(parts)
        + f"<p>{html.escape(json.dumps(versions))}<br>{html.escape(str(machine))}</p>"
    )
