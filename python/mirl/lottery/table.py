"""The rounds of a run as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mirl.tasks import task_name
from mirl.terminal import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TASKS_A_LINE = 5
"""As many as 80 columns hold."""


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
    first = f"{'':<5} {'density in %':^11}"
    second = f"{'round':>5} {'all':>5} {'prun.':>5}"
    if tasks:
        first += f"  {'PSNR in dB, SSIM':^{12 * len(tasks) - 1}}"
        second += "".join(f" {shortened(task_name(task), 11):>11}" for task in tasks)
    else:
        second += f" {'loss':>11}"
    lines = [first.rstrip(), second]
    unchanged = "".join(_cell(_measured(records, task), "_input") for task in tasks)
    if unchanged.strip():
        lines.append(f"{'input unchanged':<17}{unchanged}".rstrip())
    for record in records:
        density = f"{100 * record['density']:>5.1f} {100 * record['density_prunable']:>5.1f}"
        if tasks:
            cells = [_cell(record["metrics"].get(task, {})) for task in tasks]
        else:
            cells = [f" {record['loss'][-1]:>11.5f}"]
        lines.append(f"{record['round']:>5} {density}" + "".join(cells).rstrip())
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
    return f" {'' if psnr is None else f'{psnr:.2f}':>5} {'' if ssim is None else f'{ssim:.3f}':>5}"
