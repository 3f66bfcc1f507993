"""The command line."""

from __future__ import annotations

import sys
import warnings
from io import TextIOWrapper
from typing import Annotated

import typer

import mirl
from mirl.cli.common import one_line, warn
from mirl.cli.images import degrade, evaluate, restore
from mirl.cli.lottery import demo, report, sweep
from mirl.cli.networks import bench, export, inspect
from mirl.cli.train import train

app = typer.Typer(
    help="All-in-one image restoration networks pruned by the lottery-ticket recipe of MIR-L.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (demo, train, sweep, report, evaluate, restore, degrade, inspect, export, bench):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    # A table is worth more than its sigma, where the output's encoding has none.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    # For options that end before a command begins. Calling the app itself would put typer's there.
    sys.excepthook = one_line
    warnings.showwarning = warn
    typer.main.get_command(app)(prog_name="mirl")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mirl {mirl.__version__}")
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Prepare what all commands share: one line for an error, without a traceback."""
    sys.excepthook = sys.__excepthook__ if debug else one_line
