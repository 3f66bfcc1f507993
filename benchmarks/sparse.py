"""Tickets of published sizes beside dense peers: time by density, training, sizes, first image.

The tickets are those of full_ticket.py: masks by global magnitude, pruned and rewound as MIR-L does. As
such short training leaves whole layers without a weight, the trained dense network is measured pruned
layer by layer too, which keeps every layer at the density. ONNX Runtime and OpenVINO get the dense
network in the form that each runs fastest. All take turns in processes of their own. With `--precision
bfloat16` the network runs and trains in it, and OpenVINO runs the dense one in it, too.

    python benchmarks/full_ticket.py --data ../shared/data --out /tmp/tickets
    python benchmarks/sparse.py --tickets /tmp/tickets --out benchmarks/results/sparse.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import machine
import mirl
from cpu import export, onnxruntime_inference, openvino_inference
from full_ticket import DENSITIES, path_of
from mirl.io import write_text
from mirl.plot import save_figure
from worker import Worker, measure, serve_step

IMAGE = (1, 3, 256, 256)
BATCH = (1, 3, 128, 128)
PEERS = {
    "float32": ("onnxruntime", "openvino"),
    "bfloat16": ("onnxruntime", "openvino", "openvino-bf16"),
}
"""Dense ones, by the precision that the tickets have."""
SCOPES = ("global", "layerwise")
ROUNDS = 16
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest difference between the images that the peers restore."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tickets", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=None, help="JSON of the results, and a plot")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--precision", choices=PEERS, default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--graphs", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    networks = [f"{scope} {density}" for scope in SCOPES for density in DENSITIES[1:]]
    with tempfile.TemporaryDirectory() as folder:
        arguments.graphs = Path(folder)
        trained = mirl.load(path_of(arguments.tickets, 1.0))
        export(trained, arguments.graphs)
        dense = f"global {DENSITIES[0]}"
        peers = PEERS[arguments.precision]
        inference = compare(arguments, "infer", [*peers, dense, *networks])
    training = compare(arguments, "train", [dense, *networks])
    rounds = experiment(arguments)
    files = [file(arguments, density) for density in DENSITIES]
    result = {
        "network": type(trained).__name__,
        "machine": machine.describe(),
        "threads": arguments.threads,
        "precision": arguments.precision,
        "peers": machine.peer_versions("onnxruntime", "openvino"),
        "inference": inference,
        "training": training,
        "rounds": rounds,
        "files": files,
    }
    print(table(result))
    if arguments.out is not None:
        write_text(arguments.out, json.dumps(result, indent=2) + "\n")
        plot(result, arguments.out.with_suffix(".png"))


def network(tickets: Path, name: str) -> mirl.Network:
    scope, density = name.split()
    if scope == "global":
        return mirl.load(path_of(tickets, float(density)))
    model = mirl.load(path_of(tickets, 1.0))
    mirl.prune(model, 1 - float(density), "layerwise")
    return model


def compare(arguments: argparse.Namespace, kind: str, names: list[str]) -> dict[str, Any]:
    """Medians of all, taken in turns."""
    workers = [start(arguments, kind, name) for name in names]
    if kind == "infer":
        peers = len(PEERS[arguments.precision])
        outputs = [np.load(worker.ask("output")) for worker in workers[: peers + 1]]
        for output in outputs[:-1]:
            assert abs(output - outputs[-1]).max() < TOLERANCES[arguments.precision]
    result = measure(dict(zip(names, workers, strict=True)), arguments.repeats)
    for worker in workers:
        worker.stop()
    return result


def start(arguments: argparse.Namespace, kind: str, name: str) -> Worker:
    options = ("--tickets", str(arguments.tickets), "--precision", arguments.precision)
    graphs = () if arguments.graphs is None else ("--graphs", str(arguments.graphs))
    return Worker(f"{kind} {name}", *options, *graphs, threads=arguments.threads)


def work(arguments: argparse.Namespace) -> None:
    """Answer the questions of the process that measures."""
    kind, name = arguments.worker.split(maxsplit=1)
    shape = IMAGE if kind == "infer" else BATCH
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    if name == "onnxruntime":
        step = onnxruntime_inference(image, arguments.threads, arguments.graphs)
    elif name.startswith("openvino"):
        precision = "bf16" if name == "openvino-bf16" else "f32"
        step = openvino_inference(image, arguments.threads, arguments.graphs, precision)
    elif kind == "infer":
        model = network(arguments.tickets, name)
        model.precision = arguments.precision
        step = lambda: model(image)  # noqa: E731
    else:
        model = network(arguments.tickets, name)
        trainer = mirl.Trainer(model, lr=1e-6, precision=arguments.precision)
        step = lambda: trainer.step(image, image * np.float32(0.9))  # noqa: E731

    serve_step(name, step, memory=machine.peak_memory)


def experiment(arguments: argparse.Namespace) -> list[dict[str, float]]:
    """A step of every round of 20 %, each in turn with a dense one; masks of the trained network."""
    image = np.random.default_rng(0).random(BATCH, dtype=np.float32)
    clean = image * np.float32(0.9)
    precision = arguments.precision
    dense = mirl.load(path_of(arguments.tickets, 1.0))
    dense = mirl.Trainer(dense, lr=1e-6, precision=precision)
    model = mirl.load(path_of(arguments.tickets, 1.0))
    rounds = []
    for number in range(ROUNDS):
        if number > 0:
            mirl.prune(model, 0.2)
        sparse = mirl.Trainer(model, lr=1e-6, precision=precision)
        seconds: dict[str, list[float]] = {"dense": [], "sparse": []}
        for repeat in range(4):
            for name, trainer in (("dense", dense), ("sparse", sparse)):
                begin = time.perf_counter()
                trainer.step(image, clean)
                if repeat > 0:
                    seconds[name].append(time.perf_counter() - begin)
        medians = {name: median(values) for name, values in seconds.items()}
        rounds.append({"density": model.density().prunable, **medians})
    return rounds


FIRST_IMAGE = """
import sys, time
import numpy as np
image = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)
begin = time.perf_counter()
import mirl
model = mirl.load(sys.argv[1])
model.precision = sys.argv[2]
loaded = time.perf_counter()
model(image)
first = time.perf_counter()
later = []
for _ in range(3):
    start = time.perf_counter()
    model(image)
    later.append(time.perf_counter() - start)
print(loaded - begin, first - begin, min(later))
"""
"""Seconds from nothing to the network and to its first image, and those of a later image."""


def file(arguments: argparse.Namespace, density: float) -> dict[str, Any]:
    """Sizes of one ticket in all forms, and how long the first image takes in a new process."""
    model = mirl.load(path_of(arguments.tickets, density))
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float32", "float16", "bfloat16"):
            path = Path(folder, f"{dtype}.mirl.safetensors")
            model.save(path, dtype=dtype)
            sizes[dtype] = path.stat().st_size
        path = Path(folder, "dense.safetensors")
        model.save(path)
        sizes["dense"] = path.stat().st_size
        path = Path(folder, "float32.mirl.safetensors")
        command = [sys.executable, "-c", FIRST_IMAGE, str(path), arguments.precision]
        runs = []
        for _ in range(arguments.repeats):
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            runs.append([float(value) for value in said.split()])
    loaded, first, again = (median(column) for column in zip(*runs, strict=True))
    return {
        "density": density,
        "bytes": sizes,
        "seconds_to_load": loaded,
        "seconds_to_first_image": first,
        "seconds_of_image": again,
    }


def table(result: dict[str, Any]) -> str:
    inference, training = result["inference"], result["training"]
    fastest = min(inference[peer]["seconds"] for peer in PEERS[result["precision"]])
    lines = [f"{'inference 1x3x256x256':28}{'seconds':>9}{'of fastest peer':>17}{'GB':>8}"]
    for name, found in inference.items():
        ratio = found["seconds"] / fastest
        memory = found["peak_bytes"] / 1e9
        lines.append(f"{name:28}{found['seconds']:9.3f}{ratio:17.2f}{memory:8.2f}")
    dense = training[f"global {DENSITIES[0]}"]["seconds"]
    lines += ["", f"{'training 1x3x128x128':28}{'seconds':>9}{'of dense':>17}{'GB':>8}"]
    for name, found in training.items():
        ratio = found["seconds"] / dense
        memory = found["peak_bytes"] / 1e9
        lines.append(f"{name:28}{found['seconds']:9.3f}{ratio:17.2f}{memory:8.2f}")
    sums = {kind: sum(row[kind] for row in result["rounds"]) for kind in ("sparse", "dense")}
    lines += ["", f"{ROUNDS} rounds of 20 %: {sums['sparse'] / sums['dense']:.2f} of dense ones"]
    lines += ["", f"{'MB':>12}{'float32':>10}{'float16':>10}{'dense':>10}{'load':>9}{'more':>9}"]
    for found in result["files"]:
        sizes = [found["bytes"][kind] / 1e6 for kind in ("float32", "float16", "dense")]
        more = found["seconds_to_first_image"] - found["seconds_of_image"]
        columns = "".join(f"{size:10.2f}" for size in sizes)
        lines.append(
            f"{found['density']:12.2%}{columns}{found['seconds_to_load']:8.2f}s{more:8.2f}s"
        )
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """Time against density, the dense peers as lines."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    inference = result["inference"]
    for scope, marker in zip(SCOPES, "os", strict=True):
        names = ["global 1.0", *(f"{scope} {density}" for density in DENSITIES[1:])]
        seconds = [inference[name]["seconds"] for name in names]
        axes.plot([100 * d for d in DENSITIES], seconds, marker=marker, label=f"mirl, {scope}")
    peers = PEERS[result["precision"]]
    for peer, style in zip(peers, ("--", ":", "-.")[: len(peers)], strict=True):
        seconds = inference[peer]["seconds"]
        axes.axhline(seconds, linestyle=style, color="gray", label=f"{peer}, dense")
    axes.set(
        xscale="log",
        xlabel="density of the prunable weights, %",
        ylabel="seconds",
        title=f"{result['network']}: inference, 1x3x256x256, {result['precision']}",
        ylim=(0, 1.4 * max(found["seconds"] for found in inference.values())),
    )
    axes.set_xticks([100 * density for density in DENSITIES])
    axes.set_xticklabels([f"{100 * density:g}" for density in DENSITIES])
    axes.legend(loc="upper left", ncols=2)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
