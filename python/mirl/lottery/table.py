"""The rounds of a run as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mirl.terminal import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TASKS_A_LINE = 5
"""As many as 80 columns hold."""

TASK_NAMES = {"denoise": "noise σ {}", "derain": "rain", "dehaze": "haze"}


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
        A line for the input unchanged, then one for each round. More than five tasks continue
        below.
    """
    tasks = list(records[0]["metrics"]) if records else []
    blocks = [tasks[start : start + TASKS_A_LINE] for start in range(0, len(tasks), TASKS_A_LINE)]
    return "\n\n".join(_block(records, block) for block in blocks or [[]])


def task_name(task: str) -> str:
    """Name a task in words: ``"denoise_25"`` is noise σ 25, ``"derain"`` rain."""
    kind, _, sigma = task.partition("_")
    return TASK_NAMES.get(kind, task).format(sigma)


def _block(records: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> str:
    first = f"{'':<5} {'density in %':^11}"
    second = f"{'round':>5} {'all':>5} {'prun.':>5}"
    if tasks:
        first += f"  {'PSNR in dB, SSIM':^{12 * len(tasks) - 1}}"
        second += "".join(f" {shortened(task_name(task), 11):>11}" for task in tasks)
        metrics = records[0]["metrics"]
    else:
        second += f" {'loss':>11}"
    lines = [first.rstrip(), second]
    if tasks and all("psnr_input" in metrics[task] for task in tasks):
        cells = [_cell(metrics[task]["psnr_input"], metrics[task]["ssim_input"]) for task in tasks]
        lines.append(f"{'input unchanged':<17}" + "".join(cells))
    for record in records:
        density = f"{100 * record['density']:>5.1f} {100 * record['density_prunable']:>5.1f}"
        if tasks:
            quality = [record["metrics"][task] for task in tasks]
            cells = [_cell(each["psnr"], each["ssim"]) for each in quality]
        else:
            cells = [f" {record['loss'][-1]:>11.5f}"]
        lines.append(f"{record['round']:>5} {density}" + "".join(cells))
    return "\n".join(lines)


def _cell(psnr: float, ssim: float) -> str:
    return f" {psnr:>5.2f} {ssim:>5.3f}"
