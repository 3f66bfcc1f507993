"""A run of `mirl.find_ticket` that measures every round's network: table, record and plot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

import mirl
from mirl.io import write_text
from mirl.lottery.table import rounds_table
from mirl.plot import save_figure, ticket_curve

if TYPE_CHECKING:
    from pathlib import Path


def find_and_measure(
    model: mirl.PromptIR, loader: mirl.Loader, data: Path, out: Path, **options: Any
) -> None:
    """Find a ticket in `out`/run, or go on; then measure all rounds that are not yet."""
    run = out / "run"
    result = mirl.find_ticket(model, loader, out=run, **options)
    measured = [_measured(data, out, record, model.device) for record in result.rounds]
    lines = "".join(json.dumps(record) + "\n" for record in measured)
    write_text(out / "record.jsonl", lines)
    machine = mirl.machine.versions() | {model.device: mirl.devices()[model.device]}
    write_text(out / "machine.json", json.dumps(machine, indent=2) + "\n")
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    ticket_curve(measured, figure.subplots())
    save_figure(figure, out / "quality.png")
    print(rounds_table(measured))


def _measured(data: Path, out: Path, record: dict[str, Any], device: str) -> dict[str, Any]:
    """The record with what its round's network is worth on the test sets, measured once."""
    path = out / f"evaluation_{record['round']:02d}.json"
    if not path.exists():
        file = out / "run" / f"round_{record['round']:02d}.mirl.safetensors"
        measured = mirl.evaluate(mirl.load(file).to(device), data)
        print(f"round {record['round']}, {record['density_prunable']:.1%} of the prunable weights")
        print(measured.table(), flush=True)
        measured.save(path)
    return record | {"metrics": json.loads(path.read_text())["metrics"]}
