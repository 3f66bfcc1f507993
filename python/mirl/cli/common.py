"""What all commands share: options, and one line for an error or a warning."""

from __future__ import annotations

import errno
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirl.errors import DeviceError, DivergenceError
from mirl.terminal import printable, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

EXPECTED = (
    OSError,
    ValueError,
    OverflowError,
    TypeError,  # of a value in a recipe, which is looked at where it is used
    ImportError,
    MemoryError,
    DeviceError,
    DivergenceError,
)
"""What wrong input, a full disk or a missing package raise; anything else is a bug of ours."""

INTERRUPTED = 130
"""Exit status of a shell command that Ctrl-C stopped."""

Network = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="A network: .safetensors, .ckpt or .pth.", show_default=False
    ),
]
Precision = Annotated[
    str, typer.Option(help="float32, or bfloat16: faster on a GPU, with AMX or AMD's AVX-512.")
]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]
IMAGES = typer.Argument(
    metavar="IMAGE", help="Image files, or folders of them.", show_default=False
)
PROJECT = typer.Option(help="Project of Weights & Biases that is told, too.", show_default=False)
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


def one_line(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Tell what is expected to go wrong in one line, and all else with its traceback."""
    if not issubclass(kind, EXPECTED):
        sys.__excepthook__(kind, error, traceback)
        return
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = "\n".join([message, *getattr(error, "__notes__", ())])
    typer.echo(f"error: {printable(lines)}", err=True)


def warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Tell a warning in one line: where in the code it was given is of no use here."""
    text = str(message).replace("\n", " ")
    say(f"warning: {printable(text)}")


def results_folder(path: Path | None) -> Path | None:
    """Refuse a file where results go to a folder."""
    if path is not None and path.is_file():
        raise NotADirectoryError(errno.ENOTDIR, "is a file, not a folder", str(path))
    return path


@contextmanager
def resumable() -> Iterator[None]:
    """Tell what Ctrl-C leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from the last checkpoint", err=True)
        raise typer.Exit(INTERRUPTED) from None
