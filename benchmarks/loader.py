"""Patches a second of `mirl.Loader`, beside a PyTorch DataLoader that does the same work.

Noisy patches of the photos of BSD333. Every contestant has a process of its own with as many
threads or DataLoader workers as the others; they take turns. Files are in the system's cache for
all of them: what counts as cold is the decoding. Needs the peers: pip install ".[bench]".

    python benchmarks/loader.py --data ../shared/data --out benchmarks/results/loader.json
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import machine
import mirl
from mirl.io import write_text
from worker import Worker, serve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Epochs = Iterator[Iterable[tuple[Any, Any]]]

DATA = Path(__file__).parents[2] / "shared" / "data"
PHOTOS = Path("train", "denoise", "BSD333")
BATCH_SIZE, PATCH_SIZE, SIGMA = 8, 128, 25
EPOCHS = 3
"""Of a turn: an epoch shows every photo once."""

CONTESTANTS = {
    "mirl, decoding": "no cache: every patch decodes its photo",
    "mirl, first epoch": "as it comes, but a loader of its own for every epoch, made in time",
    "mirl, later epochs": "as it comes: decoded photos are kept",
    "torch, decoding": "DataLoader as published: every patch decodes its photo",
    "torch, in memory": "DataLoader that was given the decoded photos",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder that holds {PHOTOS}")
    parser.add_argument("--out", type=Path, default=None, help="JSON of the results")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2, help="of mirl; workers of DataLoader")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (arguments.data / PHOTOS).is_dir():
        print(f"The loader is left out: {arguments.data / PHOTOS} is not there (--data).")
        return
    if arguments.worker:
        work(arguments.worker, arguments.data, arguments.threads)
        return
    rows = compare(arguments)
    print(table(rows))
    if arguments.out is not None:
        result = {
            "machine": machine.describe(),
            "peers": machine.peer_versions("torch", "pillow"),
            "threads": arguments.threads,
            "photos": len(photos(arguments.data)),
            "batch_size": BATCH_SIZE,
            "patch_size": PATCH_SIZE,
            "sigma": SIGMA,
            "rows": rows,
        }
        write_text(arguments.out, json.dumps(result, indent=2) + "\n")


def photos(data: Path) -> list[Path]:
    return sorted((data / PHOTOS).iterdir())


def compare(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Medians of all contestants, taken in turns."""
    options = ("--data", str(arguments.data), "--threads", str(arguments.threads))
    workers = [Worker(name, *options) for name in CONTESTANTS]
    # Also a warm-up: whoever keeps photos has them now.
    memory = [int(worker.ask("memory")) for worker in workers]
    noise = [float(worker.ask("noise")) for worker in workers]
    assert max(noise) < 1.01 * min(noise), f"not the same work: {noise}"
    rates: list[list[float]] = [[] for _ in workers]
    for _ in range(arguments.repeats):
        for worker, taken in zip(workers, rates, strict=True):
            taken.append(float(worker.ask("run")))
    for worker in workers:
        worker.stop()
    return [
        {
            "contestant": name,
            "about": about,
            "patches_per_second": median(taken),
            "all": taken,
            "peak_bytes": peak,
        }
        for (name, about), taken, peak in zip(CONTESTANTS.items(), rates, memory, strict=True)
    ]


def work(contestant: str, data: Path, threads: int) -> None:
    """Answer the questions of the process that measures."""
    epochs = mirl_epochs if contestant.startswith("mirl") else torch_epochs
    source = epochs(contestant, data, threads)

    def run() -> float:
        start = time.perf_counter()
        patches = sum(len(noisy) for _ in range(EPOCHS) for noisy, _ in next(source))
        return patches / (time.perf_counter() - start)

    def noise() -> float:
        """Mean deviation between the patches of a pair over an epoch."""
        means = [
            np.abs(np.asarray(noisy) - np.asarray(clean)).mean() for noisy, clean in next(source)
        ]
        return float(np.mean(means))

    serve({"run": run, "noise": noise, "memory": lambda: machine.peak_memory_with_children(run)})


def mirl_epochs(contestant: str, data: Path, threads: int) -> Epochs:
    mirl.set_num_threads(threads)

    def loader() -> mirl.Loader:
        return mirl.Loader.from_folder(
            data,
            tasks=["denoise"],
            sigmas=[SIGMA],
            batch_size=BATCH_SIZE,
            patch_size=PATCH_SIZE,
            augment="paper-code",
            **({"cache_mb": 0} if contestant == "mirl, decoding" else {}),
        )

    if contestant == "mirl, first epoch":
        while True:
            yield loader()
    yield from repeat(loader())


def torch_epochs(contestant: str, data: Path, threads: int) -> Epochs:
    from peers.patches import batches

    return repeat(
        batches(
            photos(data),
            patch_size=PATCH_SIZE,
            sigma=SIGMA,
            batch_size=BATCH_SIZE,
            workers=threads,
            keep=contestant == "torch, in memory",
        )
    )


def table(rows: list[dict[str, Any]]) -> str:
    peers = [row for row in rows if row["contestant"].startswith("torch")]
    heads = "".join(f"{'/ ' + peer['contestant']:>20}" for peer in peers)
    lines = [f"{'contestant':20}{'patches/s':>10}{heads}{'GB':>7}"]
    for row in rows:
        rate = row["patches_per_second"]
        ratios = "".join(f"{rate / peer['patches_per_second']:20.2f}" for peer in peers)
        lines.append(f"{row['contestant']:20}{rate:10.0f}{ratios}{row['peak_bytes'] / 1e9:7.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
