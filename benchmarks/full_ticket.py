"""Tickets of the published network at the densities that the speed of sparse networks is told at.

Trains PromptIR of the published sizes on BSD333 in short rounds, prunes and rewinds it as MIR-L does
(`mirl.prune`, global magnitude, and `mirl.rewind`), and keeps the trained network of each density of
the prunable weights: 100, 50, 20, 10 and 3.52 %. Too short for good images, long enough for weights
that training has shaped. Continues with the first density that is missing.

    python benchmarks/full_ticket.py --data ../shared/data --out /tmp/tickets
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from tqdm.auto import tqdm

import mirl
from mirl.optim import linear_warmup_cosine

DENSITIES = (1.0, 0.5, 0.2, 0.1, 0.0352)
LR = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150, help="of each round")
    arguments = parser.parse_args()
    loader = mirl.Loader.from_folder(
        arguments.data,
        synthesize=("derain", "dehaze"),
        repeats={"derain": 3, "dehaze": 2},
        patch_size=64,
        batch_size=2,
        seed=1,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    initial = mirl.PromptIR(seed=1).snapshot()
    model = mirl.PromptIR(seed=1)
    for density in DENSITIES:
        path = path_of(arguments.out, density)
        if path.exists():
            model = mirl.load(path)
            continue
        if density < 1:
            mirl.prune(model, 1 - density / model.density().prunable)
            mirl.rewind(model, initial)
        train(model, loader, arguments.steps)
        model.save(path)
        print(path, model.density(), flush=True)


def path_of(folder: Path, density: float) -> Path:
    return folder / f"{100 * density:g}.mirl.safetensors"


def train(model: mirl.PromptIR, loader: mirl.Loader, steps: int) -> None:
    trainer = mirl.Trainer(model, lr=LR, clip_grad_norm=0.1)
    losses = []
    for step, (degraded, clean) in enumerate(tqdm(islice(loader.epoch(0), steps), total=steps)):
        trainer.lr = linear_warmup_cosine(step, steps, warmup=steps // 8, lr=LR, min_lr=0)
        losses.append(trainer.step(degraded, clean))
    print(
        f"loss {sum(losses[: steps // 5]) * 5 / steps:.4f} at first,"
        f" {sum(losses[-steps // 5 :]) * 5 / steps:.4f} at last"
    )


if __name__ == "__main__":
    main()
