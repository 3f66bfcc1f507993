"""Commands that take images: measuring, restoring and degrading them."""

from pathlib import Path
from typing import Annotated

import typer

import mirl
from mirl.cli.common import IMAGES, Device, Force, Precision, Quiet, results_folder
from mirl.evaluate import check_place, places_of
from mirl.io import check_absent


def evaluate(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Folder in the published layout.", show_default=False),
    ],
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="A network; without one, the input unchanged."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help='denoise, derain, dehaze, your own, or "jpeg:20"; once for each (by default what'
            " DATA has of the first three).",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="The folder of DATA to measure.")] = "test",
    precision: Precision = "float32",
    device: Device = "cpu",
    save: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Also write the table: .json (each image, too) or .csv; once for each.",
            show_default=False,
        ),
    ] = None,
    save_images: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the restored images.", show_default=False, callback=results_folder
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Measure PSNR and SSIM by the published protocol."""
    tables = [check_place(path) for path in save or ()]
    sets = mirl.test_sets(data, split=split, tasks=tuple(task) if task else None)
    if not force:
        check_absent([*tables, *(places_of(sets, save_images) if save_images else ())])
    if model is None and (precision, device) != ("float32", "cpu"):
        raise ValueError("--precision and --device are of a network: --model is missing")
    network = None if model is None else mirl.load(model).to(device)
    if network is not None:
        network.precision = precision
    evaluation = mirl.evaluate(network, sets, save_images=save_images, progress=not quiet)
    typer.echo(evaluation.table())
    for path in tables:
        evaluation.save(path)


def restore(
    images: Annotated[list[Path], IMAGES],
    model: Annotated[Path, typer.Option("--model", "-m", help="The network.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for the restored images.", callback=results_folder
        ),
    ],
    tile: Annotated[
        int | None,
        typer.Option(
            help="Height and width of tiles; by default as memory allows.", show_default=False
        ),
    ] = None,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring tiles share.")] = 32,
    batch_size: Annotated[int, typer.Option(help="Images of one size at once, at most.")] = 1,
    precision: Precision = "float32",
    device: Device = "cpu",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Restore photos."""
    network = mirl.load(model).to(device)
    network.precision = precision
    mirl.restore_files(
        network,
        images,
        out,
        tile=tile,
        overlap=overlap,
        force=force,
        batch_size=batch_size,
        progress=not quiet,
    )


def degrade(
    images: Annotated[list[Path], IMAGES],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder of data sets in the published layout.",
            callback=results_folder,
        ),
    ],
    task: Annotated[
        str, typer.Option(help="Folder of the task: derain, dehaze, or a name of your own.")
    ],
    degradation: Annotated[
        str | None,
        typer.Option(
            "--by", help='"blur:1-3 + jpeg:50"; by default as the task says.', show_default=False
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
    name: Annotated[str, typer.Option(help="Of the data set.")] = "synthetic",
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Degrade photos and write the pairs in the published layout."""
    written = mirl.data.write_pairs(
        images,
        out,
        task,
        degradation=degradation,
        split=split,
        name=name,
        seed=seed,
        force=force,
        progress=not quiet,
    )
    typer.echo(f"{len(written)} pairs: {written[0].parent.parent}")
