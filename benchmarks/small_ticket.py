"""A small but real experiment: three tasks, several rounds of pruning, on photos.

Trains a PromptIR of 1.7 M parameters on BSD333 (noise of σ 15, 25 and 50; rain and haze synthesised),
prunes and rewinds it round by round, and measures every round's network on CBSD68, Rain100L and
SOTS-mini. Takes about an hour on two cores and continues where it was stopped.

    python benchmarks/small_ticket.py --data ../shared/data --out benchmarks/results/small-ticket
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

import mirl
from mirl.io import write_text
from mirl.lottery.table import rounds_table
from mirl.plot import save_figure, ticket_curve

SIZES = {
    "dim": 16,
    "num_blocks": (1, 2, 2, 2),
    "num_refinement_blocks": 1,
    "prompt_dims": (16, 32, 80),
    "prompt_sizes": (16, 8, 4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--amount", type=float, default=0.5)
    arguments = parser.parse_args()
    loader = mirl.Loader.from_folder(
        arguments.data,
        synthesize=("derain", "dehaze"),
        repeats={"derain": 4, "dehaze": 2},
        patch_size=64,
        batch_size=4,
        seed=1,
    )
    model = mirl.PromptIR(seed=1, **SIZES)
    run = arguments.out / "run"
    result = mirl.find_ticket(
        model,
        loader,
        rounds=arguments.rounds,
        amount=arguments.amount,
        epochs=arguments.epochs,
        lr=2e-3,
        betas=(0.9, 0.99),
        clip_grad_norm=0.1,
        out=run,
    )
    measured = [measure(arguments, run, record) for record in result.rounds]
    lines = "".join(json.dumps(record) + "\n" for record in measured)
    write_text(arguments.out / "record.jsonl", lines)
    machine = mirl.machine.versions() | {"cpu": mirl.devices()["cpu"]}
    write_text(arguments.out / "machine.json", json.dumps(machine, indent=2) + "\n")
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    ticket_curve(measured, figure.subplots())
    save_figure(figure, arguments.out / "quality.png")
    print(rounds_table(measured))


def evaluation(arguments: argparse.Namespace, round_: int) -> Path:
    return arguments.out / f"evaluation_{round_:02d}.json"


def measure(arguments: argparse.Namespace, run: Path, record: dict) -> dict:
    """The record with what its round's network is worth on the test sets, measured once."""
    path = evaluation(arguments, record["round"])
    if not path.exists():
        network = mirl.load(run / f"round_{record['round']:02d}.mirl.safetensors")
        measured = mirl.evaluate(network, arguments.data)
        print(f"round {record['round']}, {record['density_prunable']:.1%} of the prunable weights")
        print(measured.table(), flush=True)
        measured.save(path)
    return record | {"metrics": json.loads(path.read_text())["metrics"]}


if __name__ == "__main__":
    main()
