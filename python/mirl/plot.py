"""Figures of a run: quality against density, and pictures side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.extras import need
from mirl.io import atomic
from mirl.metrics import psnr
from mirl.tasks import check_measured, measure_name, task_name

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from mirl.lottery import Result

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
"""Distinct for colour-blind readers too (Okabe & Ito 2008, Color Universal Design)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""One more than colours: both start anew at other places, and 56 lines differ."""
LINES = ("-", "-.", ":")
"""Of runs by name, after each turn of the colours."""
GREY = "0.3"
"""Of what belongs to no line."""
DASHED: dict[str, Any] = {"linestyle": (0, (4, 3)), "linewidth": 1}
"""What lines are to be compared with: the input left unchanged, or chance."""

IMAGES = ("input", "restored", "clean")
"""Of a row of an image grid."""

MOST_TICKS = 8
"""As many density labels as fit beside each other."""
BESIDE = 1.08
"""What an axis goes on for beyond its densities."""
PRUNABLE = "density of the prunable parameters (%)"


def ticket_curve(
    runs: Result | Sequence[Mapping[str, Any]] | Mapping[str, Result | Sequence[Mapping[str, Any]]],
    ax: Axes | None = None,
    *,
    measure: str = "psnr",
) -> Axes:
    """Draw quality against density, one line a task, the input's own quality dashed.

    Parameters
    ----------
    runs
        A `Result`, its `Result.rounds`, or the lines of its ``record.jsonl``: of each round
        ``density``, ``density_prunable`` and ``metrics``. Or several by name, ``{"ticket": a,
        "random": b}``: each has a colour then, beyond seven another line, and each task a marker.
    ax
        Where to draw, beside what an earlier call has drawn; by default a new figure.
    measure
        Which of the ``metrics``. Rounds that have not measured it are left out.

    Returns
    -------
    matplotlib.axes.Axes
        The measure over the density of all parameters in % (logarithmic, falling to the right); the
        upper axis is the density of the prunable ones.

    Raises
    ------
    ValueError
        A run of which no round has the measure.
    TypeError
        Neither a `Result` nor rounds, a folder say.
    ImportError
        matplotlib is not installed.
    """
    need("plot", "matplotlib")
    named = isinstance(runs, Mapping)
    rounds = {
        name: _records(run)
        for name, run in (runs.items() if isinstance(runs, Mapping) else [("", runs)])
    }
    for name, records in rounds.items():
        check_measured(records, measure, name or "a ticket curve")
    every = [record for records in rounds.values() for record in records]
    tasks = _tasks(every, measure)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(7.5, 4.5), layout="constrained")[1]
    # An earlier call has taken the first looks, each with an entry of the legend.
    entries = (line for line in ax.lines if not str(line.get_label()).startswith("_"))
    taken = sum(line.get_color() in COLORS for line in entries)
    if named:
        for place, name in enumerate(rounds):
            _entry(ax, name, **_run_style(taken + place))
    for index, task in enumerate(tasks):
        look = {**style(index if named else taken + index), "markersize": 5}
        for place, records in enumerate(rounds.values()):
            if named:
                look |= _run_style(taken + place)
            label = None if named else task_name(task)
            ax.plot(*_curve(records, task, measure), **look, label=label)
        if named:
            look |= {"color": GREY, "linestyle": ""}
            if len(tasks) > 1:
                _entry(ax, task_name(task), **look)
        densities, qualities = _curve(every, task, f"{measure}_input")
        if qualities:
            ends = [max(densities), min(densities)]
            ax.plot(ends, qualities[:1] * 2, **look | DASHED, mfc="white")
    if any(_tasks(records, f"{measure}_input") for records in rounds.values()):
        _entry(ax, "input unchanged", color=GREY, marker="o", markersize=5, **DASHED, mfc="white")
    alone = f", {task_name(tasks[0])}" if named and len(tasks) == 1 else ""
    ax.set_ylabel(measure_name(measure) + alone)
    ax.set_xlabel("density of all parameters (%)")
    ax.grid(alpha=0.25)
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
    _upper_axis(ax, density_axis(ax), every)
    return ax


def _records(run: Any) -> list[Mapping[str, Any]]:
    """The rounds of a run; raises TypeError for what has none."""
    rounds = getattr(run, "rounds", run)
    records = list(rounds) if isinstance(rounds, Iterable) else [rounds]
    if not all(isinstance(record, Mapping) for record in records):
        kind = type(run).__name__
        raise TypeError(
            f"a ticket curve is of a mirl.Result, or of its rounds, got a {kind}: of a folder take"
            ' mirl.Result.load(folder), several by name, {"ticket": a, "random": b}'
        )
    return records


def _tasks(records: Sequence[Mapping[str, Any]], measure: str) -> list[str]:
    """Tasks of which a round has a measure: a run may be resumed with another `evaluate`."""
    tasks = dict.fromkeys(task for record in records for task in record["metrics"])
    return [task for task in tasks if _curve(records, task, measure)[0]]


def _curve(
    records: Sequence[Mapping[str, Any]], task: str, measure: str
) -> tuple[list[float], list[float]]:
    """Densities in %, and what was measured, of the rounds that have."""
    having = [record for record in records if measure in record["metrics"].get(task, {})]
    return (
        [100 * record["density"] for record in having],
        [record["metrics"][task][measure] for record in having],
    )


def _entry(ax: Axes, label: str, **look: Any) -> None:
    """An entry of the legend that is of no one line; once."""
    if label not in ax.get_legend_handles_labels()[1]:
        ax.plot([], [], label=label, **look)


def _upper_axis(ax: Axes, ticks: Sequence[float], records: Sequence[Mapping[str, Any]]) -> None:
    """Label the ticks with densities of the prunable parameters, those of earlier calls too."""
    there = [child for child in ax.child_axes if child.get_xlabel() == PRUNABLE]
    upper = there[0] if there else ax.secondary_xaxis("top", xlabel=PRUNABLE)
    held = zip(upper.get_xticks(), upper.get_xticklabels(), strict=True) if there else ()
    labels = {place: label.get_text() for place, label in held} | {
        100 * record["density"]: f"{100 * record['density_prunable']:.3g}" for record in records
    }
    places = [place for place in ticks if place in labels]
    upper.set_xticks(places, [labels[place] for place in places])
    upper.set_xticks([], minor=True)


def image_grid(
    rows: Sequence[tuple[str, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]],
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw input, restored and clean images side by side, with the PSNR of the first two.

    Parameters
    ----------
    rows
        Each a label and the images ``(input, restored, clean)``, float32 (3, H, W) in [0, 1].
    path
        File that gets the figure, in the format of its ending; it appears whole or not at all.

    Returns
    -------
    matplotlib.figure.Figure
        One row of pictures for each of `rows`.

    Raises
    ------
    ValueError
        No rows, or an image of another shape.
    TypeError
        Images that are not floating point.
    ImportError
        matplotlib is not installed.
    """
    if not rows:
        raise ValueError("an image grid needs at least one row")
    need("plot", "matplotlib")
    from matplotlib.figure import Figure

    for label, *images in rows:
        for name, image in zip(IMAGES, images, strict=True):
            if np.ndim(image) != 3 or len(image) != 3:
                raise ValueError(
                    f"{label}, {name}: expected shape (3, H, W), got {np.shape(image)}"
                )
    _, height, width = rows[0][3].shape
    cell = 2.6
    figure = Figure(
        figsize=(3 * cell + 0.4, len(rows) * (cell * height / width + 0.3) + 0.3),
        layout="constrained",
    )
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for (label, degraded, restored, clean), line in zip(rows, axes, strict=True):
        line[0].set_ylabel(label)
        for axis, image in zip(line, (degraded, restored, clean), strict=True):
            axis.imshow(np.clip(image, 0, 1).transpose(1, 2, 0))
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if image is not clean:
                quality = psnr(np.clip(image, 0, 1), clean)
                axis.set_xlabel(f"{quality:.2f} dB", fontsize=9, labelpad=2)
    for axis, title in zip(axes[0], IMAGES, strict=True):
        axis.set_title(title, fontsize=11)
    if path is not None:
        save_figure(figure, path)
    return figure


def save_figure(figure: Figure | SubFigure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file, which appears whole or not at all.

    Parameters
    ----------
    figure
        What to write; of a part of a figure the whole.
    path
        Where to; the ending tells the format.

    Raises
    ------
    ValueError
        An ending that matplotlib does not know.
    OSError
        The file cannot be written.
    """
    with atomic(Path(path)) as temporary:
        # Constrained layout alone cuts long labels beside pictures of a fixed aspect.
        figure.figure.savefig(temporary, dpi=150, bbox_inches="tight")


def style(index: int) -> dict[str, Any]:
    """Colour and marker of a line by its number."""
    return {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}


def _run_style(index: int) -> dict[str, Any]:
    """Colour and kind of line of a run by its number: its markers tell the tasks."""
    turn, place = divmod(index, len(COLORS))
    return {"color": COLORS[place], "linestyle": LINES[turn % len(LINES)]}


def density_axis(axes: Axes) -> list[float]:
    """Make x a logarithmic axis that falls to the right, with ticks at densities of its lines.

    Parameters
    ----------
    axes
        With their lines.

    Returns
    -------
    list of float
        The ticks, in %: as many as fit beside each other. The decades of a logarithmic axis would
        be one or none.
    """
    # Not those from edge to edge, as of axhline.
    lines = (line for line in axes.lines if line.get_transform() is axes.transData)
    drawn = (np.asarray(line.get_xdata(), float).tolist() for line in lines)
    densities = sorted({density for line in drawn for density in line}, reverse=True)
    highest, lowest = densities[0], densities[-1]
    # A little less: what is equal but for rounding fits.
    apart = 0.99 * math.log(highest / lowest) / (MOST_TICKS - 1)
    ticks: list[float] = []
    for density in densities:
        if not ticks or math.log(ticks[-1] / density) >= apart:
            ticks.append(density)
    axes.set_xscale("log")
    axes.set_xlim(highest * BESIDE, lowest / BESIDE)
    axes.set_xticks(ticks, [f"{density:.3g}" for density in ticks])
    axes.set_xticks([], minor=True)
    return ticks
