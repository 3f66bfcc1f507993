"""The rounds of a run as a table."""

from __future__ import annotations

from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from mirl.tasks import task_name
from mirl.terminal import WIDTH, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TASKS_A_LINE = 5
"""As many as 80 columns hold."""
BEFORE = 17
"""Columns of the round and its densities."""
CELL = 11
"""Columns of what was measured."""


def rounds_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Density, and PSNR in dB and SSIM of every task, of every round; at most 80 columns wide.

    Parameters
    ----------
    records
        The rounds of a run: `Result.rounds`, or the lines of its ``record.jsonl``. Without metrics,
        their last loss is shown.

    Returns
    -------
    str
        A line for the input unchanged, then one for each round; what was not measured is left
        empty. More than five tasks continue below.
    """
    # Of a run that was resumed with another `evaluate`, rounds have measured different tasks.
    tasks = list(dict.fromkeys(task for record in records for task in record["metrics"]))
    blocks = [tasks[start : start + TASKS_A_LINE] for start in range(0, len(tasks), TASKS_A_LINE)]
    return "\n\n".join(_block(records, block) for block in blocks or [[]])


def _block(records: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> str:
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
        first += f"  {'PSNR in dB, SSIM':^{sum(widths) + len(widths) - 1}}"
    last, *above = zip_longest(*(reversed(head) for head in heads), fillvalue="")
    lines = [first.rstrip(), *(line("", part) for part in reversed(above))]
    lines.append(line(f"{'round':>5} {'all':>5} {'prun.':>5}", last))
    unchanged = [_cell(_measured(records, task), "_input") for task in tasks]
    if "".join(unchanged).strip():
        lines.append(line("input unchanged", unchanged))
    for record in records:
        density = f"{100 * record['density']:>5.1f} {100 * record['density_prunable']:>5.1f}"
        cells = [_cell(record["metrics"].get(task, {})) for task in tasks]
        lines.append(
            line(f"{record['round']:>5} {density}", cells or [f"{record['loss'][-1]:.5f}"])
        )
    return "\n".join(lines)


def _measured(records: Sequence[Mapping[str, Any]], task: str) -> Mapping[str, float]:
    """What the first round that has measured a task has found."""
    found: Mapping[str, float] = next(
        record["metrics"][task] for record in records if task in record["metrics"]
    )
    return found


def _cell(measured: Mapping[str, float], of: str = "") -> str:
    """PSNR and SSIM, as far as they were measured."""
    psnr, ssim = measured.get(f"psnr{of}"), measured.get(f"ssim{of}")
    return f"{'' if psnr is None else f'{psnr:.2f}':>5} {'' if ssim is None else f'{ssim:.3f}':>5}"
