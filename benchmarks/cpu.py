"""A network of the published sizes on this CPU, beside PyTorch, ONNX Runtime and OpenVINO.

Every library has a process of its own that holds the same weights; they take turns, so that what
else the machine does meets all of them. Needs the peers: pip install ".[bench]".

    python benchmarks/cpu.py --out benchmarks/results/cpu.json
    python benchmarks/cpu.py --network Restormer --out benchmarks/results/cpu-restormer.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import machine
import mirl
from mirl.io import write_text
from peers.plain_norm import plain_norms
from worker import Part, Worker, measure, name_of, serve_step, work_of

INFERENCE = (1, 3, 256, 256)
TRAINING = ((1, 3, 128, 128), (2, 3, 128, 128))
SMALLEST = (1, 3, 8, 8)
"""What the optimizer's gradients come from: its time depends on the parameters alone."""
NETWORK = "MIRL_BENCH_NETWORK"
"""The variable that tells the processes of the peers which network is meant."""
GROWTH = (128, 256, 512, 1024)
"""Heights and widths of the images that show how time and memory grow."""

TOLERANCES = {"infer": 1e-3, "bf16": 5e-2}
"""Largest difference between the images that the peers restore."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=None, help="JSON of the results")
    parser.add_argument(
        "--network", default="PromptIR", help="PromptIR, Restormer, DyNet or SymUNet"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--onnx", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.work, arguments.threads, arguments.onnx)
        return
    os.environ[NETWORK] = arguments.network
    with tempfile.TemporaryDirectory() as onnx:
        export(weights(), Path(onnx))
        rows = [compare(arguments, onnx, "infer", INFERENCE, ["onnxruntime", "openvino", "torch"])]
        rows += [compare(arguments, onnx, "train", shape, ["torch"]) for shape in TRAINING]
        rows += [compare(arguments, onnx, "bf16", INFERENCE, ["openvino", "torch"])]
        rows += [compare(arguments, onnx, "train-bf16", shape, ["torch"]) for shape in TRAINING]
        rows += [compare(arguments, onnx, "recompute", shape, []) for shape in TRAINING]
        rows += [compare(arguments, onnx, "adamw", SMALLEST, ["torch", "copy"])]
        growth = [grow(arguments, size) for size in GROWTH]
    print(table(rows, growth))
    if arguments.out is not None:
        result = {
            "machine": machine.describe(),
            "network": arguments.network,
            "threads": arguments.threads,
            "peers": machine.peer_versions("torch", "onnxruntime", "openvino"),
            "rows": rows,
            "growth": growth,
        }
        write_text(arguments.out, json.dumps(result, indent=2) + "\n")


def weights() -> mirl.Network:
    network: type[mirl.Network] = getattr(mirl, os.environ.get(NETWORK, "PromptIR"))
    return network(seed=0)


def torch_network() -> Any:
    import torch

    from peers.dynet import DyNet
    from peers.promptir import PromptIR
    from peers.restormer import Restormer
    from peers.symunet import SymUNet

    network = weights()
    peers = {"PromptIR": PromptIR, "Restormer": Restormer, "DyNet": DyNet, "SymUNet": SymUNet}
    peer = peers[type(network).__name__](network.config)
    state = {name: torch.from_numpy(values) for name, values in network.state_dict().items()}
    peer.load_state_dict({name: state[name] for name in peer.state_dict()})
    return peer


def export(network: mirl.Network, folder: Path) -> None:
    """Write the network as ONNX, in the form that each peer runs fastest."""
    mirl.export(network, folder / "onnxruntime.onnx")
    with plain_norms():
        mirl.export(network, folder / "openvino.onnx")


def compare(
    arguments: argparse.Namespace, onnx: str, kind: str, shape: tuple[int, ...], peers: list[str]
) -> dict[str, Any]:
    """Medians of all peers, taken in turns."""
    name = name_of(kind, shape)
    workers = [start(peer, name, arguments.threads, onnx) for peer in ["mirl", *peers]]
    if kind in TOLERANCES:
        outputs = [worker.ask("output") for worker in workers]
        for worker, output in zip(workers[1:], outputs[1:], strict=True):
            difference = abs(np.load(output) - np.load(outputs[0])).max()
            assert difference < TOLERANCES[kind], f"{worker.peer} differs by {difference}"
    result = measure({worker.peer: worker for worker in workers}, arguments.repeats)
    for worker in workers:
        worker.stop()
    return {"work": name, "results": result}


def grow(arguments: argparse.Namespace, size: int) -> dict[str, Any]:
    """Time and memory of mirl alone at one size, with all threads and with one."""
    taken: dict[str, Any] = {"size": size}
    for threads in sorted({1, arguments.threads}):
        worker = start("mirl", name_of("infer", (1, 3, size, size)), threads, "")
        runs = [float(worker.ask("run")) for _ in range(4 if size <= 512 else 2)]
        taken[f"seconds_{threads}"] = median(runs[1:])
        taken[f"peak_bytes_{threads}"] = int(worker.ask("memory"))
        worker.stop()
    return taken


def start(peer: str, name: str, threads: int, onnx: str) -> Worker:
    return Worker(peer, "--work", name, "--onnx", onnx, threads=threads)


def work(peer: str, name: str, threads: int, onnx: str) -> None:
    """Answer the questions of the process that measures."""
    kind, image = work_of(name)
    step = {
        ("mirl", "infer"): mirl_inference,
        ("mirl", "bf16"): partial(mirl_inference, precision="bfloat16"),
        ("mirl", "train"): mirl_training,
        ("mirl", "train-bf16"): partial(mirl_training, precision="bfloat16"),
        ("mirl", "recompute"): partial(mirl_training, recompute="block"),
        ("mirl", "adamw"): mirl_adamw,
        ("torch", "infer"): torch_inference,
        ("torch", "bf16"): torch_bf16,
        ("torch", "train"): torch_training,
        ("torch", "train-bf16"): partial(torch_training, precision="bfloat16"),
        ("torch", "adamw"): torch_adamw,
        ("copy", "adamw"): torch_copy,
        ("onnxruntime", "infer"): onnxruntime_inference,
        ("openvino", "infer"): openvino_inference,
        ("openvino", "bf16"): partial(openvino_inference, precision="bf16"),
    }[peer, kind](image, threads, onnx)

    serve_step(peer, step, memory=machine.peak_memory)


def mirl_inference(image: Any, threads: int, onnx: str, precision: str = "float32") -> Any:
    network = weights()
    network.precision = precision
    return lambda: network(image)


def mirl_training(image: Any, threads: int, onnx: str, **options: Any) -> Any:
    trainer = mirl.Trainer(weights(), **options)
    clean = image * np.float32(0.9)
    return lambda: trainer.step(image, clean)


def mirl_adamw(image: Any, threads: int, onnx: str) -> Any:
    trainer = mirl.Trainer(weights())

    def step() -> Part:
        trainer.step(image, image)
        return Part(trainer.seconds.optimizer)

    return step


def torch_inference(image: Any, threads: int, onnx: str) -> Any:
    import torch

    network, tensor = torch_network().eval(), torch.from_numpy(image)

    def run() -> Any:
        with torch.inference_mode():
            return network(tensor)

    return run


def torch_bf16(image: Any, threads: int, onnx: str) -> Any:
    import torch

    run = torch_inference(image, threads, onnx)

    def rounded() -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return run().float()

    return rounded


def torch_training(image: Any, threads: int, onnx: str, precision: str = "float32") -> Any:
    import torch

    network = torch_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4)
    tensor = torch.from_numpy(image)
    clean = tensor * 0.9

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = (network(tensor) - clean).abs().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_adamw(image: Any, threads: int, onnx: str) -> Any:
    import torch

    network = torch_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4, fused=True)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    return optimizer.step


def torch_copy(image: Any, threads: int, onnx: str) -> Any:
    """The bytes of one read of p, g, m, v and one write of p, m, v, as a copy."""
    import torch

    source = torch.ones(weights().num_parameters * 7 // 2)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source)


def onnxruntime_inference(image: Any, threads: int, onnx: str | Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    graph = str(Path(onnx, "onnxruntime.onnx"))
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": image})[0]


def openvino_inference(image: Any, threads: int, onnx: str | Path, precision: str = "f32") -> Any:
    import openvino

    core = openvino.Core()
    hints = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = core.compile_model(str(Path(onnx, "openvino.onnx")), "CPU", hints)
    return lambda: model([image])[0]


def table(rows: list[dict[str, Any]], growth: list[dict[str, Any]]) -> str:
    lines = [f"{'work':24}{'library':14}{'seconds':>9}{'ratio':>8}{'GB':>8}"]
    for row in rows:
        own = row["results"]["mirl"]
        for peer, result in row["results"].items():
            ratio = own["seconds"] / result["seconds"]
            memory = result["peak_bytes"] / 1e9
            lines.append(
                f"{row['work']:24}{peer:14}{result['seconds']:9.3f}{ratio:8.2f}{memory:8.2f}"
            )
    lines.append("")
    for row in growth:
        values = "  ".join(
            f"{key} {value / 1e9:.2f} GB" if "bytes" in key else f"{key} {value:.3f}"
            for key, value in row.items()
            if key != "size"
        )
        lines.append(f"infer {row['size']}: {values}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
