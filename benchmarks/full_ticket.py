"""Tickets at the densities that the speed of sparse networks is told at, of the published sizes.

Trains a network, PromptIR by default, on BSD333 in short rounds, prunes and rewinds it as MIR-L does
(`mirl.prune`, global magnitude, and `mirl.rewind`), and keeps the trained network of each density of
the prunable weights: 100, 50, 20, 10 and 3.52 %. Or, without more training between, prunes the trained
dense network to each of them. Continues where it was stopped.

    python benchmarks/full_ticket.py --data ../shared/data --out /tmp/tickets
    python benchmarks/full_ticket.py --data ../shared/data --out /tmp/long --steps 10000 --at-once
"""

from __future__ import annotations

import argparse
import json
from itertools import chain, count
from pathlib import Path

from tqdm.auto import trange

import mirl
from mirl.models import NETWORKS
from mirl.optim import linear_warmup_cosine

DENSITIES = (1.0, 0.5, 0.2, 0.1, 0.0352)
LR = 1e-3
CHECKPOINT_STEPS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="PromptIR")
    parser.add_argument("--steps", type=int, default=150, help="of each round")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--at-once", action="store_true", help="train the dense network alone")
    arguments = parser.parse_args()
    loader = mirl.Loader.from_folder(
        arguments.data,
        synthesize=("derain", "dehaze"),
        repeats={"derain": 3, "dehaze": 2},
        patch_size=64,
        batch_size=arguments.batch_size,
        seed=1,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.out / "checkpoint.safetensors"
    model = NETWORKS[arguments.network](seed=1)
    initial = model.snapshot()
    for density in DENSITIES:
        path = path_of(arguments.out, density)
        if path.exists():
            model = mirl.load(path)
            continue
        if density < 1:
            mirl.prune(model, 1 - density / model.density().prunable)
        if density == 1 or not arguments.at_once:
            mirl.rewind(model, initial)
            train(model, loader, arguments.steps, checkpoint)
        model.save(path)
        checkpoint.unlink(missing_ok=True)
        print(path, model.density(), flush=True)


def path_of(folder: Path, density: float) -> Path:
    return folder / f"{100 * density:g}.mirl.safetensors"


def train(model: mirl.Network, loader: mirl.Loader, steps: int, checkpoint: Path) -> None:
    trainer = mirl.Trainer(model, lr=LR, clip_grad_norm=0.1)
    losses: list[float] = []
    if checkpoint.exists():
        losses = json.loads(trainer.load_checkpoint(checkpoint))
    epoch, start = divmod(len(losses), len(loader))
    batches = chain.from_iterable(
        loader.epoch(number, start if number == epoch else 0) for number in count(epoch)
    )
    for step in trange(len(losses), steps):
        trainer.lr = linear_warmup_cosine(step, steps, warmup=steps // 8, lr=LR, min_lr=0)
        losses.append(trainer.step(*next(batches)))
        if step % CHECKPOINT_STEPS == CHECKPOINT_STEPS - 1:
            trainer.save_checkpoint(checkpoint, json.dumps(losses))
    print(
        f"loss {sum(losses[: steps // 5]) * 5 / steps:.4f} at first,"
        f" {sum(losses[-steps // 5 :]) * 5 / steps:.4f} at last"
    )


if __name__ == "__main__":
    main()
