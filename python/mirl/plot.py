"""Figures of a run: quality against density, and pictures side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.io import atomic
from mirl.lottery.table import task_name

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from mirl.lottery import Result

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
"""Distinct for colour-blind readers too (Okabe & Ito 2008, Color Universal Design)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

MOST_TICKS = 6
"""As many density labels as fit beside each other."""


def ticket_curve(records: Result | Sequence[Mapping[str, Any]], ax: Axes | None = None) -> Axes:
    """Draw quality against density, one line a task, the input's own quality dashed.

    Parameters
    ----------
    records
        A `Result`, its `Result.rounds`, or the lines of its ``record.jsonl``. Each round needs
        ``density``, ``density_prunable`` and ``metrics``.
    ax
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        PSNR in dB over the density of all parameters in % (logarithmic, falling to the right); the
        upper axis is the density of the prunable ones.

    Raises
    ------
    ValueError
        No record, or none with metrics.
    ImportError
        matplotlib is not installed.
    """
    records = list(records.rounds if hasattr(records, "rounds") else records)
    if not records or not records[0]["metrics"]:
        raise ValueError("a ticket curve needs records with metrics: evaluate every round")
    if ax is None:
        _need_matplotlib()
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(7.5, 4.5), layout="constrained")[1]
    density = [100 * record["density"] for record in records]
    unchanged: dict[str, Any] = {"linestyle": (0, (4, 3)), "linewidth": 1, "mfc": "white"}
    for index, (task, metrics) in enumerate(records[0]["metrics"].items()):
        style: dict[str, Any] = {
            "color": COLORS[index % len(COLORS)],
            "marker": MARKERS[index % len(MARKERS)],
            "markersize": 5,
        }
        psnr = [record["metrics"][task]["psnr"] for record in records]
        ax.plot(density, psnr, label=task_name(task), **style)
        if "psnr_input" in metrics:
            ends = [density[0], density[-1]]
            ax.plot(ends, [metrics["psnr_input"]] * 2, **style | unchanged)
    ax.plot([], [], color="0.3", marker="o", markersize=5, label="input unchanged", **unchanged)

    ax.set_xscale("log")
    ax.set_xlim(max(density) * 1.08, min(density) / 1.08)
    ax.set_xlabel("density of all parameters (%)")
    ax.set_ylabel("PSNR on test images (dB)")
    ax.grid(alpha=0.25)
    every = -(-len(records) // MOST_TICKS)
    ticked = range(0, len(records), every)
    places = [density[index] for index in ticked]
    density_ticks(ax, places, places)
    upper = ax.secondary_xaxis("top")
    upper.set_xlabel("density of the prunable parameters (%)")
    prunable = [100 * records[index]["density_prunable"] for index in ticked]
    density_ticks(upper, places, prunable)
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
    return ax


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
        No rows.
    ImportError
        matplotlib is not installed.
    """
    from mirl.metrics import psnr

    if not rows:
        raise ValueError("an image grid needs at least one row")
    _need_matplotlib()
    from matplotlib.figure import Figure

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
    for axis, title in zip(axes[0], ("input", "restored", "clean"), strict=True):
        axis.set_title(title, fontsize=11)
    if path is not None:
        save_figure(figure, path)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file, which appears whole or not at all.

    Parameters
    ----------
    figure
        What to write.
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
        figure.savefig(temporary, dpi=150, bbox_inches="tight")


def density_ticks(axis: Any, places: Sequence[float], densities: Sequence[float]) -> None:
    """Label the rounds' densities; the decades of a logarithmic axis would be one tick or none."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_locator(FixedLocator(list(places)))
    axis.xaxis.set_major_formatter(FixedFormatter([f"{value:.3g}" for value in densities]))


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('matplotlib is not installed: pip install "mirl[plot]"') from error
