"""Commands that find tickets beside ``mirl train``: the demo, sweeps and their report."""

from pathlib import Path
from typing import Annotated

import typer

import mirl
from mirl import demo as demonstration
from mirl.cli.common import PROJECT, Quiet, results_folder, resumable
from mirl.errors import FormatError
from mirl.lottery import Sweep, save_results
from mirl.lottery.results import check_pandas


def demo(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder of the results; by default mirl-demo, or mirl-demo-quick.",
            show_default=False,
            callback=results_folder,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A minute, for a first look.")] = False,
    quiet: Quiet = False,
) -> None:
    """Find a first ticket on photos that scikit-image ships."""
    with resumable():
        demonstration.demo(out, quick=quick, progress=not quiet)


def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="SWEEP", help="A sweep (.toml).", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder of the runs; those begun are resumed.",
            callback=results_folder,
        ),
    ],
    workers: Annotated[int, typer.Option(help="Runs at once (several: with Ray).")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(help="Of each run; by default they share the cores.", show_default=False),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, or auto.", show_default=False)
    ] = None,
    wandb: Annotated[str | None, PROJECT] = None,
    quiet: Quiet = False,
) -> None:
    """Run a grid of experiments; repeat it to resume."""
    check_pandas()
    runs = Sweep.load(file)
    failures = []
    with resumable():
        try:
            runs.run(
                out,
                workers=workers,
                threads=threads,
                address=address,
                wandb=wandb,
                progress=not quiet,
            )
        except RuntimeError as failed:  # it names the runs
            failures.append(f"error: {failed}")
        finally:
            try:
                if any(out.glob("*/record.jsonl")):
                    save_results(out)
            except FormatError as damaged:
                failures.append(f"error: no results.csv: {damaged}")
    if failures:
        raise SystemExit("\n".join(failures))
    typer.echo(f"{len(runs.runs)} runs, results.csv and results.parquet: {out}")


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Folder of a sweep, or of a run.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The page; by default report.html in FOLDER."),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(help="What the quality is: psnr, ssim, or your own; by default the PSNR."),
    ] = None,
) -> None:
    """Draw what runs have come to: figures, and one HTML page."""
    page = mirl.lottery.report(folder, out, measure=measure)
    typer.echo(f"{page}, and its figures as .png beside it")
