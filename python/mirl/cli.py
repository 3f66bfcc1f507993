"""The command line."""

from __future__ import annotations

import errno
import json
import shlex
import sys
import warnings
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mirl
from mirl import bench as benching
from mirl import demo as demonstration
from mirl.data import TASKS
from mirl.data.folder import existing, place_of, there_of
from mirl.errors import DeviceError, DivergenceError
from mirl.evaluate import check_place
from mirl.evaluate import places_of as images_of
from mirl.export import WRITERS
from mirl.io import check_absent
from mirl.loggers import WeightsAndBiases, default_loggers
from mirl.lottery import Experiment, Sweep, save_results
from mirl.lottery.experiment import as_toml, parse_toml, places_of
from mirl.lottery.results import check_pandas
from mirl.terminal import printable, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
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

app = typer.Typer(
    help="All-in-one image restoration networks pruned by the lottery-ticket recipe of MIR-L.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

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


def main() -> None:
    """Run the command line."""
    # A table is worth more than its sigma, where the output's encoding has none.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    # For options that end before a command begins. Calling the app itself would put typer's there.
    sys.excepthook = _one_line
    warnings.showwarning = _warn
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
    sys.excepthook = sys.__excepthook__ if debug else _one_line


def _one_line(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, EXPECTED):
        sys.__excepthook__(kind, error, traceback)
        return
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = "\n".join([message, *getattr(error, "__notes__", ())])
    typer.echo(f"error: {printable(lines)}", err=True)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Tell a warning in one line: where in the code it was given is of no use here."""
    text = str(message).replace("\n", " ")
    say(f"warning: {printable(text)}")


def _folder(path: Path | None) -> Path | None:
    """Refuse a file where results go to a folder."""
    if path is not None and path.is_file():
        raise NotADirectoryError(errno.ENOTDIR, "is a file, not a folder", str(path))
    return path


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the results.", callback=_folder)
    ] = Path("mirl-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A minute, for a first look.")] = False,
    quiet: Quiet = False,
) -> None:
    """Find a first ticket on photos that scikit-image ships."""
    with _resumable():
        demonstration.demo(out, quick=quick, progress=not quiet)


@app.command()
def train(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA|RECIPE",
            help="Folder in the published layout; or a recipe (.toml), which says all else.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of the run; a run in it is resumed.", callback=_folder
        ),
    ],
    rounds: Annotated[int, typer.Option(help="How often to prune.")] = 15,
    epochs: Annotated[int, typer.Option(help="Epochs of each round.")] = 120,
    amount: Annotated[float, typer.Option(help="Share of the weights to prune each round.")] = 0.2,
    scope: Annotated[str, typer.Option(help="global, layerwise, uniform or erk.")] = "global",
    preset: Annotated[str, typer.Option(help="default or paper-code.")] = "default",
    lr: Annotated[float, typer.Option(help="Learning rate after the warm-up.")] = 2e-4,
    warmup_epochs: Annotated[
        float | None, typer.Option(help="By default an eighth of the epochs.", show_default=False)
    ] = None,
    clip_grad_norm: Annotated[
        float | None, typer.Option(help="Largest norm of the gradient.", show_default=False)
    ] = None,
    recompute: Annotated[
        bool, typer.Option(help="Less memory, more time, the same result.")
    ] = False,
    precision: Precision = "float32",
    batch_size: Annotated[int, typer.Option(help="Patches of a step.")] = 8,
    patch_size: Annotated[int, typer.Option(help="Their height and width.")] = 128,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help='denoise, derain, dehaze, your own, or "jpeg:20-60"; once for each (by default'
            " the first three).",
            show_default=False,
        ),
    ] = None,
    synthesize: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="derain, dehaze: make its pairs from the denoise photos; once for each.",
            show_default=False,
        ),
    ] = None,
    augment: Annotated[str, typer.Option(help="all, paper-code or none.")] = "all",
    on_error: Annotated[str, typer.Option(help="Bad image: raise or skip.")] = "raise",
    evaluate: Annotated[bool, typer.Option(help="Measure the test split after each round.")] = True,
    seed: Annotated[int, typer.Option(help="Of the initial values and of the data.")] = 0,
    dim: Annotated[int, typer.Option(help="Channels of the first level.")] = 48,
    num_blocks: Annotated[
        tuple[int, int, int, int],
        typer.Option(metavar="INT INT INT INT", help="Blocks of the four levels."),
    ] = (4, 6, 6, 8),
    num_refinement_blocks: Annotated[int, typer.Option(help="Blocks after the decoder.")] = 4,
    heads: Annotated[
        tuple[int, int, int, int],
        typer.Option(metavar="INT INT INT INT", help="Attention heads of the four levels."),
    ] = (1, 2, 4, 8),
    prompt_dims: Annotated[
        tuple[int, int, int],
        typer.Option(metavar="INT INT INT", help="Channels of the three prompts."),
    ] = (64, 128, 320),
    prompt_sizes: Annotated[
        tuple[int, int, int],
        typer.Option(metavar="INT INT INT", help="Height and width of the three prompts."),
    ] = (64, 32, 16),
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other setting, or another value than the recipe's, in TOML: ticket.rewind=500,"
            ' "data.repeats={derain=120}"; once for each.',
            show_default=False,
        ),
    ] = None,
    wandb: Annotated[str | None, PROJECT] = None,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Train, prune, rewind, train again; repeat it to resume."""
    if data.suffix == ".toml":
        _only(context, "data", "out", "changes", "wandb", "device", "quiet")
        experiment = Experiment.load(data)
        if _is_said(context, "device"):
            experiment = experiment.changed({"device": device})
    else:
        _check_folders(data, task, synthesize or ())
        experiment = Experiment(
            data={
                "root": data,
                "tasks": tuple(task or ("denoise", "derain", "dehaze")),
                "synthesize": tuple(synthesize or ()),
                "batch_size": batch_size,
                "patch_size": patch_size,
                "augment": augment,
                "on_error": on_error,
            },
            network={
                "dim": dim,
                "num_blocks": num_blocks,
                "num_refinement_blocks": num_refinement_blocks,
                "heads": heads,
                "prompt_dims": prompt_dims,
                "prompt_sizes": prompt_sizes,
            },
            ticket={
                "rounds": rounds,
                "amount": amount,
                "scope": scope,
                "epochs": epochs,
                "lr": lr,
                "warmup_epochs": warmup_epochs,
                "clip_grad_norm": clip_grad_norm,
                "recompute": "block" if recompute else None,
                "precision": precision,
                "preset": preset,
            },
            evaluate=_measured(data, task) if evaluate else None,
            seed=seed,
            device=device,
        )
    said = experiment
    experiment = said.changed(_values(changes or ()))
    _once(context, said, experiment)
    loggers = None
    if wandb is not None:
        identity = {"name": out.name, "id": f"{out.name}-{experiment.hash()}"}
        loggers = [*default_loggers(out, progress=not quiet), WeightsAndBiases(wandb, **identity)]
    with _resumable():
        result = experiment.run(out, loggers=loggers, progress=not quiet)
    typer.echo(result.table())
    typer.echo(f"\nticket, record and checkpoint: {out}")


@app.command()
def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="SWEEP", help="A sweep (.toml).", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of the runs; those begun are resumed.", callback=_folder
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
    try:
        with _resumable():
            runs.run(
                out,
                workers=workers,
                threads=threads,
                address=address,
                wandb=wandb,
                progress=not quiet,
            )
    except RuntimeError as failed:  # it names the runs
        raise SystemExit(f"error: {failed}") from None
    finally:
        if any(out.glob("*/record.jsonl")):
            save_results(out)
    typer.echo(f"{len(runs.runs)} runs, results.csv and results.parquet: {out}")


@app.command()
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


@app.command()
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
        typer.Option(help="Folder for the restored images.", show_default=False, callback=_folder),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Measure PSNR and SSIM by the published protocol."""
    tables = [check_place(path) for path in save or ()]
    sets = mirl.test_sets(data, split=split, tasks=tuple(task) if task else None)
    if not force:
        check_absent([*tables, *(images_of(sets, save_images) if save_images else ())])
    network = None if model is None else mirl.load(model).to(device)
    if network is not None:
        network.precision = precision
    evaluation = mirl.evaluate(network, sets, save_images=save_images, progress=not quiet)
    typer.echo(evaluation.table())
    for path in tables:
        evaluation.save(path)


@app.command()
def restore(
    images: Annotated[list[Path], IMAGES],
    model: Annotated[Path, typer.Option("--model", "-m", help="The network.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the restored images.", callback=_folder)
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


@app.command()
def degrade(
    images: Annotated[list[Path], IMAGES],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of data sets in the published layout.", callback=_folder
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


@app.command()
def inspect(
    file: Network,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what is in a file, layer by layer."""
    inspection = mirl.inspect(file)
    typer.echo(json.dumps(inspection.to_dict(), indent=2) if as_json else inspection.table())


@app.command()
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


@app.command()
def bench(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="A network; by default the published sizes.", show_default=False
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


def _check_folders(data: Path, tasks: list[str] | None, synthesize: Sequence[str]) -> None:
    """Raise where a task to train on has no folder, and tell which options do without."""
    existing(data)
    for task in tasks or TASKS:
        place, paired = place_of(data, "train", task, synthesize)
        if paired and not place.is_dir():
            hint = "--task for each of the others leaves it out"
            if task in TASKS:
                hint += f", --synthesize {task} makes it of the photos to denoise"
            raise FileNotFoundError(f"{place}: no such folder; {hint}")


def _measured(data: Path, tasks: list[str] | None) -> dict[str, Any]:
    """What is measured after each round: the tasks, of the published ones those with a test split."""
    tasks = tasks or list(TASKS)
    there = there_of(data, "test", tasks)
    missing = [task for task in tasks if task not in there]
    if not there or not set(TASKS).issuperset(missing):
        (own, *_) = [task for task in missing if task not in TASKS] or missing
        place, _ = place_of(data, "test", own)
        raise FileNotFoundError(
            f"{place}: no such folder, which is measured after each round"
            " (--no-evaluate trains without)"
        )
    return {"root": data, "tasks": tuple(there)}


def _values(changes: Iterable[str]) -> dict[str, Any]:
    """What --set says, by key."""
    values = {}
    for change in changes:
        key, _, text = change.partition("=")
        try:
            values[key.strip()] = parse_toml(f"value = {text}")["value"]
        except ValueError as error:
            hint = "expected KEY=VALUE, the value in TOML: ticket.lr=1e-3, 'ticket.scope=\"erk\"'"
            raise ValueError(f"--set {change}: {hint}") from error
    return values


def _is_said(context: typer.Context, name: str) -> bool:
    """Whether the command line gives a parameter, be it its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _only(context: typer.Context, *names: str) -> None:
    """Refuse what the command line says beside a recipe, and tell how to say it."""
    for name, value in context.params.items():
        if name in names or not _is_said(context, name):
            continue
        change = "--set"
        if not isinstance(value, bool):  # a switch stands for something else
            key = "tasks" if name == "task" else name
            place = key if key == "seed" else places_of(key)[0]
            change += f" {shlex.quote(f'{place}={as_toml(place, value)}')}"
        option = f"--{name.replace('_', '-')}"
        raise ValueError(f"{option}: a recipe says all else; change it there, or by {change}")


def _once(context: typer.Context, said: Experiment, changed: Experiment) -> None:
    """Refuse what --set changes of what an option says."""
    before, after = (
        {**each.data, **each.network, **each.ticket, "seed": each.seed, "device": each.device}
        for each in (said, changed)
    )
    for name in {**before, **after}:
        parameter = "task" if name == "tasks" else name
        if before.get(name) != after.get(name) and _is_said(context, parameter):
            option = f"--{parameter.replace('_', '-')}"
            raise ValueError(f"{option}: --set says something else; say it once")


@contextmanager
def _resumable() -> Iterator[None]:
    """Tell what Ctrl-C leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from the last checkpoint", err=True)
        raise typer.Exit(INTERRUPTED) from None
