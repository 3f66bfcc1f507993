"""PromptIR of the published sizes on this GPU, beside PyTorch.

Every contestant has a process of its own that holds the same weights. mirl and one other take turns,
since all at once would not fit into a GPU's memory. Images come from and go to the processor's memory
for all of them. Operands of matrix products are rounded to TF32 on both sides, or activations to
bfloat16 (autocast in PyTorch). Needs PyTorch with CUDA.

A line is printed and `--out` written after each measurement. One that fails, differs or takes too long
says so, the others go on, and the exit status is 1. What `--deadline` cuts off is no failure.

    python benchmarks/gpu.py --out benchmarks/results/gpu.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import machine
import mirl
from cpu import torch_network, weights
from mirl.io import write_text
from worker import Part, Worker, WorkerError, measure, name_of, serve_step, work_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DENSE = {
    "infer": ((1, 3, 256, 256), (1, 3, 1024, 1024)),
    "train": ((8, 3, 128, 128), (8, 3, 64, 64)),
}
PRUNED = {"infer-pruned": DENSE["infer"], "train-pruned": DENSE["train"][:1]}
OPTIMIZER = (1, 3, 8, 8)
"""Its time depends on the parameters alone."""
KINDS = (*DENSE, "adamw", *PRUNED)

COMPILED = {"compile": "default", "reduce-overhead": "reduce-overhead"}
"""Modes of `torch.compile`; the second one has CUDA graphs."""
TORCH = ("eager", "channels_last", *COMPILED)
PRECISIONS = ("tf32", "bf16")
DENSITIES = (0.2, 0.1, 0.0352)
TICKETS = [f"mirl tf32 {scope} {d}" for scope in ("global", "layerwise") for d in DENSITIES]

COPIES = {"copy": (4, 3), "copy and norm": (5, 3)}
"""How often AdamW reads and writes a number for each parameter: p, g, m, v and p, m, v. The norm, which
is in mirl's and PyTorch's time, reads g once more."""

TOLERANCE = 0.05
"""Largest difference between the images that contestants restore, bfloat16 included."""
LIMIT = 300.0
"""Seconds that a peer has, from its start to the last turn, compilation included."""
NOT_MEASURED = "not measured"


class Case(NamedTuple):
    """What mirl does, and the peers it is measured beside."""

    kind: str
    shape: tuple[int, ...]
    precision: str
    peers: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=None, help="JSON of the results")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--deadline", type=float, default=math.inf, help="seconds after which the rest is left out"
    )
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, help="of this work only")
    parser.add_argument(
        "--torch", nargs="+", choices=TORCH, default=TORCH, help="of these modes only"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.work)
        return
    deadline = time.monotonic() + arguments.deadline
    says = mirl.devices()["cuda"]
    if says.startswith("not there"):
        sys.exit(f"CUDA is {says}")
    about = {
        "machine": machine.describe() | {"cuda": says},
        "peers": machine.peer_versions("torch"),
    }
    rows: list[dict[str, Any]] = []
    print(HEADER, flush=True)
    for case in plan(arguments.torch):
        if case.kind not in arguments.only:
            continue
        for row in compare(case, arguments.repeats, deadline):
            rows.append(row)
            print(line(row), flush=True)
            if arguments.out is not None:
                write_text(arguments.out, json.dumps(about | {"rows": rows}, indent=2) + "\n")
    sys.exit(any(row.get("error", NOT_MEASURED) != NOT_MEASURED for row in rows))


def plan(modes: Sequence[str]) -> Iterator[Case]:
    """What matters most comes first: a deadline may cut off the rest, and compilation takes longest."""

    def dense(*wanted: str) -> Iterator[Case]:
        for kind, shapes in DENSE.items():
            for shape in shapes:
                for p in PRECISIONS:
                    peers = [f"torch {mode} {p}" for mode in wanted if mode in modes]
                    yield Case(kind, shape, p, peers)

    yield from dense("eager", "channels_last")
    yield Case("adamw", OPTIMIZER, "tf32", ["torch eager tf32", *COPIES])
    for kind, shapes in PRUNED.items():
        for shape in shapes:
            yield Case(kind, shape, "tf32", TICKETS)
    yield from dense(*COMPILED)


def compare(case: Case, repeats: int, deadline: float) -> Iterator[dict[str, Any]]:
    """A row for each peer: mirl takes turns with one after the other."""
    name, own, why = name_of(case.kind, case.shape), None, ""
    for peer in case.peers:
        row: dict[str, Any] = {"work": name, "peer": peer}
        why = NOT_MEASURED if time.monotonic() >= deadline else why
        if why:
            yield row | {"error": why}
            continue
        own = own or Worker(f"mirl {case.precision}", "--work", name)
        other = Worker(peer, "--work", name)
        own.until = other.until = min(deadline, time.monotonic() + LIMIT)
        try:
            row |= turns(own, other, case.kind, repeats)
        except (WorkerError, ValueError) as error:  # the latter from what is no answer
            row["error"] = NOT_MEASURED if time.monotonic() >= deadline else str(error)
            why = row["error"] if own.is_stopped else ""
        other.stop()
        yield row
    if own is not None:
        own.stop()


def turns(own: Worker, other: Worker, kind: str, repeats: int) -> dict[str, Any]:
    """Medians of both, and by how much their images differ."""
    both = {"mirl": own, "theirs": other}
    for worker in both.values():
        for _ in range(3):  # compilation, graphs, memory
            worker.ask("run")
        worker.ask("reset")
    result: dict[str, Any] = {}
    if kind == "infer":
        ours, theirs = (np.load(worker.ask("output")) for worker in both.values())
        result["difference"] = difference = float(np.abs(ours - theirs).max())
        if not difference <= TOLERANCE:  # nor is NaN
            result["error"] = f"images differ by {difference:.3g}"
    result |= measure(both, repeats, warm_up=0)
    if "reduce-overhead" in other.peer:
        # What CUDA graphs hold, PyTorch's allocator does not count once they are recorded.
        del result["theirs"]["peak_bytes"]
    return result


def work(peer: str, name: str) -> None:
    """Answer the questions of the process that measures."""
    kind, image = work_of(name)
    memory: Callable[[], int]
    reset: Callable[[], None]
    if peer.startswith("mirl"):
        _, precision, *pruned = peer.split()
        step = mirl_step(kind, image, precision, pruned)
        memory, reset = mirl._mirl.gpu_peak, mirl._mirl.reset_gpu_peak
    else:
        import torch

        if peer in COPIES:
            step = torch_copy(*COPIES[peer])
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
    network = torch_network().to("cuda")
    parameters = list(network.parameters())
    for parameter in parameters:
        if parameter.ndim == 4:  # Prompts have five, which channels_last is not for.
            parameter.data = parameter.data.to(memory_format=layout)
    run = torch.compile(network, mode=COMPILED[mode]) if mode in COMPILED else network
    host = torch.from_numpy(image)
    host_clean = host * 0.9

    def autocast() -> Any:
        return torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")

    if kind == "infer":

        def infer() -> Any:
            with torch.inference_mode(), autocast():
                images = host.to("cuda", memory_format=layout)
                return run(images).float().cpu().numpy()

        return infer

    optimizer = torch.optim.AdamW(parameters, lr=2e-4, fused=True)

    def step() -> Any:
        optimizer.zero_grad()
        images = host.to("cuda", memory_format=layout)
        clean = host_clean.to("cuda", memory_format=layout)
        with autocast():
            loss = (run(images) - clean).abs().mean()
        loss.backward()
        if kind != "adamw":
            optimizer.step()
            return loss.item()
        gradients = [parameter.grad for parameter in parameters]
        torch.cuda.synchronize()
        begin = time.perf_counter()
        torch.nn.utils.get_total_norm(gradients)
        optimizer.step()
        torch.cuda.synchronize()
        return Part(time.perf_counter() - begin)

    return step


def torch_copy(reads: int, writes: int) -> Any:
    """As many bytes as that moves for all parameters that are trained, as a copy."""
    import torch

    trained = sum(p.numel() for p in torch_network().parameters())
    source = torch.ones(trained * (reads + writes) // 2, device="cuda")
    target = torch.zeros_like(source)

    def step() -> Part:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        return Part(time.perf_counter() - begin)

    return step


HEADER = f"{'work':28}{'peer':28}{'mirl ms':>10}{'peer ms':>10}{'ratio':>7}{'mirl GB':>9}{'GB':>7}"


def line(row: dict[str, Any]) -> str:
    said = f"{row['work']:28}{row['peer']:28}"
    if "mirl" in row:
        both = (row["mirl"], row["theirs"])
        ours, theirs = (result["seconds"] for result in both)
        gb, their_gb = (result.get("peak_bytes", math.nan) / 1e9 for result in both)
        said += f"{ours * 1e3:10.2f}{theirs * 1e3:10.2f}{ours / theirs:7.2f}"
        said += f"{gb:9.2f}{their_gb:7.2f}"
    return said + (f"  {row['error']}" if "error" in row else "")


if __name__ == "__main__":
    main()
