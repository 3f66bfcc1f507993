"""Commands that take one network: what is in it, as another file, how fast it is."""

import json
from pathlib import Path
from typing import Annotated

import typer

import mirl
from mirl import bench as benching
from mirl.cli.common import Device, Force, Network, Precision
from mirl.export import WRITERS
from mirl.io import check_absent


def inspect(
    file: Network,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what is in a file, layer by layer."""
    inspection = mirl.inspect(file)
    typer.echo(json.dumps(inspection.to_dict(), indent=2) if as_json else inspection.table())


def export(
    file: Network,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help=".mirl.safetensors (packed), .safetensors (dense), .pth or .onnx.",
            show_default=False,
        ),
    ],
    dtype: Annotated[
        str, typer.Option(help="Of packed files: float32, float16 or bfloat16.")
    ] = "float32",
    unused: Annotated[
        bool, typer.Option("--unused", help="Pack what the network never uses too.")
    ] = False,
    force: Force = False,
) -> None:
    """Write a network, or a packed ticket, as another kind of file."""
    ours = out.suffix == ".safetensors"
    if not ours:
        if out.suffix not in WRITERS:
            raise ValueError(f"{out}: must end with {', '.join(WRITERS)} or .safetensors")
        if dtype != "float32" or unused:
            raise ValueError(f"{out}: --dtype and --unused are for packed files")
    if not force:
        check_absent([out])
    model = mirl.load(file)
    if ours:
        model.save(out, {"exported_from": file.name}, dtype=dtype, unused=unused)
    else:
        mirl.export(model, out)
    density = model.density()
    typer.echo(
        f"{out.name}: {out.stat().st_size / 1e6:.1f} MB (was {file.stat().st_size / 1e6:.1f} MB),"
        f" {density.all:.2%} of all parameters"
    )


def bench(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A network; by default PromptIR of the published sizes.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Images to restore: height and width.")] = 256,
    patch_size: Annotated[int, typer.Option(help="Images to train on: height and width.")] = 128,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 1,
    repeats: Annotated[int, typer.Option(help="Calls to take the median of.")] = 5,
    precision: Precision = "float32",
    device: Device = "cpu",
) -> None:
    """Time restoring and a training step on this machine."""
    network = (mirl.PromptIR() if model is None else mirl.load(model)).to(device)
    network.precision = precision
    timings = benching.bench(
        network, size=size, patch_size=patch_size, batch_size=batch_size, repeats=repeats
    )
    typer.echo(f"{network.num_parameters:,} parameters, {network.density().all:.2%} alive")
    typer.echo(mirl.devices()[device])
    typer.echo(benching.table(timings))
