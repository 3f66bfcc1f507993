"""The rounds of a run as a table."""

from __future__ import annotations

from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from mirl.tasks import check_measured, measure_name, measured, task_name
from mirl.terminal import WIDTH, printable, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TASKS_A_LINE = 5
"""As many as 80 columns hold."""
BEFORE = 17
"""Columns of the round and its densities."""
CELL = 11
"""Columns of what was measured."""
PUBLISHED = ("psnr", "ssim")
"""What is shown where it was measured, both in one cell."""
DIGITS = {"psnr": ".2f", "ssim": ".3f"}
"""Of a measure; of others four."""


def rounds_table(records: Sequence[Mapping[str, Any]], measure: str | None = None) -> str:
    """Density, and PSNR in dB and SSIM of every task, of every round; at most 80 columns wide.

    Parameters
    ----------
    records
        The rounds of a run: `Result.rounds`, or the lines of its ``record.jsonl``. Without metrics,
        their last loss is shown.
    measure
        What is shown in the place of PSNR and SSIM; by default, where there is no PSNR, the first
        measure that there is.

    Returns
    -------
    str
        A line for the input unchanged, then one for each round; what was not measured is left
        empty. More than five tasks continue below.

    Raises
    ------
    ValueError
        No round has the measure.
    """
    shown = _shown(records, measure)
    # Of a run that was resumed with another `evaluate`, rounds have measured different tasks.
    tasks = list(
        dict.fromkeys(
            task
            for record in records
            for task, found in record["metrics"].items()
            if not found.keys().isdisjoint(shown)
        )
    )
    blocks = [tasks[start : start + TASKS_A_LINE] for start in range(0, len(tasks), TASKS_A_LINE)]
    return "\n\n".join(_block(records, block, shown) for block in blocks or [[]])


def _shown(records: Sequence[Mapping[str, Any]], measure: str | None) -> tuple[str, ...]:
    """The measures that are shown."""
    if measure is not None:
        check_measured(records, measure, "a table")
        return (measure,)
    there = [name for name in measured(records) if not name.endswith("_input")]
    return PUBLISHED if "psnr" in there else tuple(there[:1])


def _block(
    records: Sequence[Mapping[str, Any]], tasks: Sequence[str], shown: tuple[str, ...]
) -> str:
    titles = [printable(task_name(task)) for task in tasks] or ["loss"]
    widths = [max(CELL, len(title)) for title in titles]
    while sum(widths) + len(widths) > WIDTH - BEFORE:
        widths[widths.index(max(widths))] -= 1
    # What is too long goes on below: cut off, two may be the same.
    heads = [
        wrap(title, width, break_on_hyphens=False) or [""]
        for title, width in zip(titles, widths, strict=True)
    ]
    widths = [max(CELL, *map(len, head)) for head in heads]

    def line(begin: str, cells: Iterable[str]) -> str:
        columns = (f" {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"{begin:<{BEFORE}}{''.join(columns)}".rstrip()

    first = f"{'':<5} {'density in %':^11}"
    if tasks:
        title = "PSNR in dB, SSIM" if shown == PUBLISHED else measure_name(shown[0])
        title = shortened(title, WIDTH - len(first) - 2)
        first += f"  {title:^{sum(widths) + len(widths) - 1}}"
    last, *above = zip_longest(*(reversed(head) for head in heads), fillvalue="")
    lines = [first.rstrip(), *(line("", part) for part in reversed(above))]
    lines.append(line(f"{'round':>5} {'all':>5} {'prun.':>5}", last))
    unchanged = [_cell(_first(records, task), shown, "_input") for task in tasks]
    if "".join(unchanged).strip():
        lines.append(line("input unchanged", unchanged))
    for record in records:
        density = f"{100 * record['density']:>5.1f} {100 * record['density_prunable']:>5.1f}"
        cells = [_cell(record["metrics"].get(task, {}), shown) for task in tasks]
        lines.append(
            line(f"{record['round']:>5} {density}", cells or [f"{record['loss'][-1]:.5f}"])
        )
    return "\n".join(lines)


def _first(records: Sequence[Mapping[str, Any]], task: str) -> Mapping[str, float]:
    """What the first round that has measured a task has found."""
    found: Mapping[str, float] = next(
        record["metrics"][task] for record in records if task in record["metrics"]
    )
    return found


def _cell(found: Mapping[str, float], shown: Sequence[str], of: str = "") -> str:
    """The measures that are shown, as far as they were found."""
    values = {name: found.get(f"{name}{of}") for name in shown}
    words = (
        "" if value is None else f"{value:{DIGITS.get(name, '.4g')}}"
        for name, value in values.items()
    )
    return " ".join(f"{word:>5}" for word in words)
