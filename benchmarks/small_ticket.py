"""A small but real experiment: three tasks, several rounds of pruning, on photos.

Trains a PromptIR of 1.75 M parameters on BSD333 (noise of σ 15, 25 and 50; rain and haze synthesised),
prunes and rewinds it round by round, and measures every round's network on CBSD68, Rain100L and
SOTS-mini. Takes about an hour on two cores and continues where it was stopped.

    python benchmarks/small_ticket.py --data ../shared/data --out benchmarks/results/small-ticket
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mirl
from ticket import find_and_measure

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
    find_and_measure(
        model,
        loader,
        arguments.data,
        arguments.out,
        rounds=arguments.rounds,
        amount=arguments.amount,
        epochs=arguments.epochs,
        lr=2e-3,
        betas=(0.9, 0.99),
        clip_grad_norm=0.1,
    )


if __name__ == "__main__":
    main()
