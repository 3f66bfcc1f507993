"""Figures of a sweep."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.extras import need
from mirl.plot import DASHED, GREY, density_axis, style
from mirl.tasks import measure_name, task_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from pandas import DataFrame

MOST_LABELS = 45
"""Names of layers that fit beside a picture of their densities."""
TASK_LETTERS = 33
METHOD_LETTERS = 17
LEGEND_LETTERS = 40
"""A line of what stands above the quality of a task, above the layers of a method, or in a legend."""
BEYOND = 0.15
"""What is drawn above and below all means, of the range between them."""
MOST_NUMBERS = 14
"""Rows of a matrix whose numbers can be read."""


def quality_figure(means: DataFrame, measure: str) -> Figure:
    """Draw a measure against density, a panel a task and a line a method, with intervals.

    Parameters
    ----------
    means
        As `mirl.lottery.summary` gives them.
    measure
        Its column.
    """
    tasks = list(dict.fromkeys(means["task"]))
    figure, axes = _panels(len(tasks) + 1, width=3.6, height=3.1)
    methods = _methods(means)
    for axis, task in zip(axes, tasks, strict=False):
        of_task = means[means["task"] == task]
        for index, method in enumerate(methods):
            line = of_task[of_task["method"] == method].sort_values("round")
            if line.empty:
                continue
            densities, values = 100 * line["density_prunable"], line[measure]
            axis.plot(densities, values, **style(index), ms=4)
            low, high = (values + sign * line[f"{measure}_interval"].fillna(0) for sign in (-1, 1))
            axis.fill_between(densities, low, high, color=style(index)["color"], alpha=0.15, lw=0)
        unchanged = list(of_task.get(f"{measure}_input", of_task[measure][:0]).dropna().head(1))
        # A few runs have intervals far wider than all that is to be seen between their means.
        # The PSNR of an image with itself is infinite, and beyond every picture.
        shown = [value for value in (*unchanged, *of_task[measure]) if np.isfinite(value)]
        if shown:
            lowest, highest = min(shown), max(shown)
            beyond = BEYOND * (highest - lowest) or 1.0
            axis.set_ylim(lowest - beyond, highest + beyond)
        axis.set_title(fill(task_name(task), TASK_LETTERS), fontsize=11)
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=8)
        for value in unchanged:
            axis.axhline(value, color=GREY, **DASHED)
        density_axis(axis)
    legend = axes[len(tasks)]
    for index, method in enumerate(methods):
        legend.plot([], [], **style(index), ms=5, label=fill(method, LEGEND_LETTERS))
    if f"{measure}_input" in means:
        legend.plot([], [], color=GREY, **DASHED, label="input unchanged")
    legend.legend(loc="center", frameon=False)
    legend.axis("off")
    runs = int(means["runs"].max())
    figure.supxlabel("density of the prunable weights (%)", fontsize=10)
    of = f", mean of {runs} runs and its 95 % interval" if runs > 1 else ""
    figure.supylabel(f"{measure_name(measure)}{of}", fontsize=10)
    return figure


def seconds_figure(table: DataFrame) -> Figure:
    """Draw what a round takes, relative to round 0 of all runs, against its density."""
    figure, (axis,) = _panels(1, width=8, height=3.6)
    rounds = table.drop_duplicates(["method", "seed", "round"])
    whole = rounds[rounds["round"] == 0]["seconds"].median()
    for index, method in enumerate(_methods(table)):
        line = rounds[rounds["method"] == method].groupby("round")
        densities = 100 * line["density_prunable"].mean()
        share = line["seconds"].median() / whole
        axis.plot(densities, share, **style(index), ms=5, label=fill(method, LEGEND_LETTERS))
    density_axis(axis)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("density of the prunable weights (%)")
    axis.set_ylabel("time of a round / dense")
    axis.grid(alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def layers_figure(profiles: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draw the density of every layer in every round, a panel a method.

    Parameters
    ----------
    profiles
        By method the records of a run.
    """
    # Methods may differ in what they prune, and in the size of the network.
    names = list(
        dict.fromkeys(
            name for records in profiles.values() for record in records for name in record["layers"]
        )
    )
    figure, axes = _panels(
        len(profiles), width=1.7, height=max(4.0, 0.14 * min(len(names), MOST_LABELS) + 1), rows=1
    )
    figure.set_figwidth(figure.get_figwidth() + 3)
    for place, (axis, (method, records)) in enumerate(zip(axes, profiles.items(), strict=True)):
        density = np.array(
            [[record["layers"].get(name, np.nan) for record in records] for name in names]
        )
        picture = axis.imshow(100 * density, aspect="auto", vmin=0, vmax=100, cmap="viridis")
        axis.set_title(fill(method, METHOD_LETTERS), fontsize=9)
        axis.set_xticks(range(len(records)), [record["round"] for record in records], fontsize=8)
        axis.set_xlabel("round", fontsize=9)
        every = -(-len(names) // MOST_LABELS)
        shown = range(0, len(names), every) if place == 0 else ()
        axis.set_yticks(list(shown), [names[index] for index in shown], fontsize=6)
    figure.colorbar(picture, ax=list(axes), label="density (%)", fraction=0.05)
    return figure


def overlap_figure(names: Sequence[str], matrix: NDArray[np.float64]) -> Figure:
    """Draw a matrix of Jaccard indices.

    Parameters
    ----------
    names
        Of the rows and columns.
    matrix
        As `mirl.lottery.overlap_matrix` gives it.
    """
    size = max(4.0, 0.34 * len(names) + 2.2)
    figure, (axis,) = _panels(1, width=size + 1, height=size)
    others = matrix[~np.eye(len(names), dtype=bool)]
    most = float(others.max()) if others.size else 1.0
    picture = axis.imshow(matrix, vmin=0, vmax=most, cmap="viridis")
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    if len(names) <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(matrix):
            shade = "black" if value > 0.6 * most else "white"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, c=shade)
    figure.colorbar(picture, ax=axis, label="survivors of both / of either", fraction=0.05)
    return figure


def stability_figure(pairs: Mapping[str, Sequence[tuple[float, float, float]]]) -> Figure:
    """Draw what the masks of pairs of runs have in common, round by round.

    Parameters
    ----------
    pairs
        By the name of a pair, for each round the density of the prunable weights, the Jaccard index,
        and the one that is expected by chance, each in [0, 1].
    """
    figure, (axis,) = _panels(1, width=8, height=3.6)
    for index, (name, rounds) in enumerate(pairs.items()):
        density, jaccard, chance = np.array(rounds).T
        label = fill(name, LEGEND_LETTERS)
        axis.plot(100 * density, jaccard, **style(index), ms=5, label=label)
        # A ring: of a single round there is no line, and both may be the same.
        axis.plot(100 * density, chance, **style(index), **DASHED, ms=8, mfc="none")
    axis.plot([], [], color=GREY, marker="o", **DASHED, ms=8, mfc="none", label="by chance")
    density_axis(axis)
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("density of the prunable weights (%)")
    axis.set_ylabel("survivors of both / of either")
    axis.grid(alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _methods(table: DataFrame) -> list[str]:
    return list(dict.fromkeys(table["method"]))


def _panels(
    count: int, *, width: float, height: float, rows: int | None = None
) -> tuple[Figure, Any]:
    """A figure and its axes, in three columns unless in so many rows; those left over are off."""
    need("plot", "matplotlib")
    from matplotlib.figure import Figure

    columns = -(-count // rows) if rows else min(count, 3)
    lines = -(-count // columns)
    figure = Figure(figsize=(columns * width, lines * height), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.axis("off")
    return figure, axes[:count]
