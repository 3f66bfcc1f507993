"""``mirl train``: a run by options, or by a recipe."""

import shlex
from collections.abc import Iterable, Sequence
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from mirl.cli.common import PROJECT, Device, Precision, Quiet, results_folder, resumable
from mirl.data import TASKS
from mirl.data.folder import existing, place_of, there_of
from mirl.loggers import WeightsAndBiases, default_loggers
from mirl.lottery import Experiment
from mirl.lottery.experiment import as_toml, parse_toml, places_of
from mirl.models import NETWORKS

SETTINGS = {"task": "tasks", "network": "name"}
"""Of recipes, by the parameters here that are called otherwise."""


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
            "--out",
            "-o",
            help="Folder of the run; a run in it is resumed.",
            callback=results_folder,
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
    network: Annotated[str, typer.Option(help=f"{', '.join(NETWORKS)}.")] = "PromptIR",
    dim: Annotated[int, typer.Option(help="Channels of the first level.")] = 48,
    num_blocks: Annotated[
        tuple[int, int, int, int],
        typer.Option(
            metavar="INT INT INT INT",
            help="Blocks of each level, the lowest last; of DyNet, how often one is applied.",
        ),
    ] = (4, 6, 6, 8),
    num_refinement_blocks: Annotated[
        int, typer.Option(help="Of all but SymUNet: blocks after the decoder.")
    ] = 4,
    heads: Annotated[
        tuple[int, int, int, int],
        typer.Option(metavar="INT INT INT INT", help="Attention heads of each level."),
    ] = (1, 2, 4, 8),
    prompt_dims: Annotated[
        tuple[int, int, int],
        typer.Option(
            metavar="INT INT INT", help="Of PromptIR and DyNet: channels of the three prompts."
        ),
    ] = (64, 128, 320),
    prompt_sizes: Annotated[
        tuple[int, int, int],
        typer.Option(metavar="INT INT INT", help="Of prompts: height and width."),
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
                "name": network,
                **_sizes(
                    context,
                    network,
                    dim=dim,
                    num_blocks=num_blocks,
                    num_refinement_blocks=num_refinement_blocks,
                    heads=heads,
                    prompt_dims=prompt_dims,
                    prompt_sizes=prompt_sizes,
                ),
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
    with resumable():
        result = experiment.run(out, loggers=loggers, progress=not quiet)
    typer.echo(result.table())
    typer.echo(f"\nticket, record and checkpoint: {out}")


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


def _sizes(context: typer.Context, network: str, **sizes: Any) -> dict[str, Any]:
    """What is said, and the network's own sizes for the rest; what it has not is refused elsewhere."""
    own = signature(NETWORKS[network]).parameters if network in NETWORKS else {}
    said = {name: size for name, size in sizes.items() if _is_said(context, name)}
    return {name: own[name].default for name in sizes if name in own} | said


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
            key = SETTINGS.get(name, name)
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
    parameters = {setting: parameter for parameter, setting in SETTINGS.items()}
    for name in {**before, **after}:
        parameter = parameters.get(name, name)
        if before.get(name) != after.get(name) and _is_said(context, parameter):
            option = f"--{parameter.replace('_', '-')}"
            raise ValueError(f"{option}: --set says something else; say it once")
