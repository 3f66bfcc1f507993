"""The published network and recipe on a GPU, in many short rounds.

Trains PromptIR of the published sizes on BSD333 (noise of σ 15, 25 and 50; rain and haze synthesised),
removes 20 % of the surviving weights and rewinds the rest, fifteen times; every round's network is
measured on CBSD68, Rain100L and SOTS-mini. Continues where it was stopped (Ctrl-C, or
`timeout -s INT`).

    python benchmarks/real_ticket.py --data ../shared/data --out benchmarks/results/real-ticket
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mirl
from ticket import find_and_measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    loader = mirl.Loader.from_folder(
        arguments.data,
        synthesize=("derain", "dehaze"),
        repeats={"derain": 3, "dehaze": 2},
        patch_size=128,
        batch_size=8,
        seed=1,
    )
    find_and_measure(
        mirl.PromptIR(seed=1, device=arguments.device),
        loader,
        arguments.data,
        arguments.out,
        rounds=arguments.rounds,
        amount=0.2,
        epochs=arguments.epochs,
        lr=2e-4,
        clip_grad_norm=0.1,
    )


if __name__ == "__main__":
    main()
