"""PromptIR of the published sizes on this GPU, beside PyTorch.

Every contestant has a process of its own that holds the same weights. mirl and one other take turns,
since all at once would not fit into a GPU's memory. Images come from and go to the processor's memory
for all of them. Operands of matrix products are rounded to TF32 on both sides, or activations to
bfloat16 (autocast in PyTorch). Needs PyTorch with CUDA.

    python benchmarks/gpu.py --out benchmarks/results/gpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import machine
import mirl
from cpu import torch_network, weights
from mirl.io import write_text
from worker import Part, Worker, measure, serve_step

if TYPE_CHECKING:
    from collections.abc import Callable

INFERENCE = ((1, 3, 256, 256), (1, 3, 1024, 1024))
TRAINING = ((8, 3, 128, 128), (8, 3, 64, 64))
OPTIMIZER = (1, 3, 8, 8)
"""Its time depends on the parameters alone."""
TOLERANCE = 0.05
"""Largest difference between the images that contestants restore, bfloat16 included."""

COMPILED = {"compile": "default", "reduce-overhead": "reduce-overhead"}
"""Modes of `torch.compile`; the second one has CUDA graphs."""
TORCH = ("eager", "channels_last", *COMPILED)
PRECISIONS = ("tf32", "bf16")
PRUNED = [f"mirl tf32 {scope} {d}" for scope in ("global", "layerwise") for d in (0.2, 0.1, 0.0352)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=None, help="JSON of the results")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--torch", nargs="+", choices=TORCH, default=TORCH, help="of these modes only"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.work)
        return
    says = mirl.devices()["cuda"]
    if says.startswith("not there"):
        print(f"Left out: CUDA is {says}.")
        return
    peers = [f"torch {mode} {p}" for mode in arguments.torch for p in PRECISIONS]
    rows = [compare(arguments, "infer", shape, peers) for shape in INFERENCE]
    rows += [compare(arguments, "train", shape, peers) for shape in TRAINING]
    rows += [compare(arguments, "infer-pruned", shape, PRUNED) for shape in INFERENCE]
    rows += [compare(arguments, "train-pruned", TRAINING[0], PRUNED)]
    rows += [compare(arguments, "adamw", OPTIMIZER, ["torch eager tf32", "copy"])]
    print(table(rows))
    if arguments.out is not None:
        result = {
            "machine": machine.describe() | {"cuda": says},
            "peers": machine.peer_versions("torch"),
            "rows": rows,
        }
        write_text(arguments.out, json.dumps(result, indent=2) + "\n")


def compare(
    arguments: argparse.Namespace, kind: str, shape: tuple[int, ...], peers: list[str]
) -> dict[str, Any]:
    """Medians of mirl and of each peer, taken in turns; one that fails says so in its place."""
    name = f"{kind} {'x'.join(map(str, shape))}"
    return {"work": name, "peers": {peer: turns(arguments, name, peer) for peer in peers}}


def turns(arguments: argparse.Namespace, name: str, peer: str) -> dict[str, Any]:
    """Both of one precision; the copy has none."""
    own = f"mirl {'bf16' if peer.endswith('bf16') else 'tf32'}"
    both = {"mirl": Worker(own, "--work", name), "peer": Worker(peer, "--work", name)}
    ready = {who: worker for who, worker in both.items() if is_ready(worker)}
    if name.startswith("infer ") and len(ready) == 2:
        ours, theirs = (np.load(worker.ask("output")) for worker in ready.values())
        difference = np.abs(ours - theirs).max()
        assert difference < TOLERANCE, f"{peer} differs by {difference}"
    result = dict.fromkeys(both, "failed") | measure(ready, arguments.repeats, warm_up=0)
    for worker in both.values():
        worker.stop()
    return result


def is_ready(worker: Worker) -> bool:
    """Warm up: compilation, graphs, memory. Not every PyTorch compiles, nor does all fit everywhere."""
    try:
        for _ in range(3):
            worker.ask("run")
        worker.ask("reset")
    except RuntimeError:
        return False
    return True


def work(peer: str, name: str) -> None:
    """Answer the questions of the process that measures."""
    kind, sizes = name.split()
    shape = tuple(int(size) for size in sizes.split("x"))
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    memory: Callable[[], int]
    reset: Callable[[], None]
    if peer.startswith("mirl"):
        _, precision, *pruned = peer.split()
        step = mirl_step(kind, image, precision, pruned)
        memory, reset = mirl._mirl.gpu_peak, mirl._mirl.reset_gpu_peak
    else:
        import torch

        if peer == "copy":
            step = torch_copy()
        else:
            _, mode, precision = peer.split()
            step = torch_step(kind, image, mode, precision)
        memory, reset = torch.cuda.max_memory_allocated, torch.cuda.reset_peak_memory_stats

    serve_step(peer, step, memory=memory, reset=reset)


def mirl_step(kind: str, image: Any, precision: str, pruned: list[str]) -> Any:
    # What cannot be recorded is an error, not a figure of something else. Steps that are replayed do
    # not know their parts.
    os.environ["MIRL_CUDA_GRAPHS"] = "0" if kind == "adamw" else "1"
    network = weights().to("cuda")
    if pruned:
        scope, density = pruned
        mirl.prune(network, 1 - float(density), scope)
    precision = {"tf32": "float32", "bf16": "bfloat16"}[precision]
    if kind.startswith("infer"):
        network.precision = precision
        return lambda: network(image)
    trainer = mirl.Trainer(network, precision=precision)
    clean = image * np.float32(0.9)

    def step() -> Part | None:
        trainer.step(image, clean)
        return Part(trainer.seconds.optimizer) if kind == "adamw" else None

    return step


def torch_step(kind: str, image: Any, mode: str, precision: str) -> Any:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    layout = torch.channels_last if mode == "channels_last" else torch.contiguous_format
    network = torch_network().to("cuda", memory_format=layout)
    run = torch.compile(network, mode=COMPILED[mode]) if mode in COMPILED else network
    host = torch.from_numpy(image)

    def autocast() -> Any:
        return torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")

    if kind == "infer":

        def infer() -> Any:
            with torch.inference_mode(), autocast():
                images = host.to("cuda", memory_format=layout)
                return run(images).float().cpu().numpy()

        return infer

    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4, fused=True)

    def step() -> Any:
        optimizer.zero_grad()
        images = host.to("cuda", memory_format=layout)
        with autocast():
            loss = (run(images) - images * 0.9).abs().mean()
        loss.backward()
        if kind != "adamw":
            optimizer.step()
            return loss.item()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        optimizer.step()
        torch.cuda.synchronize()
        return Part(time.perf_counter() - begin)

    return step


def torch_copy() -> Any:
    """The bytes of one read of p, g, m, v and one write of p, m, v, as a copy."""
    import torch

    source = torch.ones(weights().num_parameters * 7 // 2, device="cuda")
    target = torch.zeros_like(source)

    def step() -> Part:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        return Part(time.perf_counter() - begin)

    return step


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'work':26}{'peer':26}{'mirl ms':>10}{'peer ms':>10}{'ratio':>7}{'mirl GB':>9}{'GB':>7}"
    ]
    for row in rows:
        for peer, found in row["peers"].items():
            if "failed" in found.values():
                who = " and ".join(who for who, result in found.items() if result == "failed")
                lines.append(f"{row['work']:26}{peer:26}  {who} failed")
                continue
            (ours, gb), (theirs, their_gb) = (
                (found[who]["seconds"], found[who]["peak_bytes"] / 1e9) for who in ("mirl", "peer")
            )
            lines.append(
                f"{row['work']:26}{peer:26}{ours * 1e3:10.2f}{theirs * 1e3:10.2f}"
                f"{ours / theirs:7.2f}{gb:9.2f}{their_gb:7.2f}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
