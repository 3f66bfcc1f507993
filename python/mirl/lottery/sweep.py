"""Grids of experiments, on the cores and GPUs of this machine or of a cluster."""

from __future__ import annotations

import json
import re
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mirl.checks import check_least
from mirl.errors import FormatError
from mirl.extras import need
from mirl.io import write_text
from mirl.loggers import Logger, WeightsAndBiases, default_loggers
from mirl.lottery.experiment import Experiment, read_toml, resolved
from mirl.lottery.naming import as_text, function_name
from mirl.lottery.results import About, read_about
from mirl.machine import devices, get_num_threads, set_num_threads
from mirl.terminal import bar, printable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

RETRIES = 5
"""How often a run whose worker was lost is taken up again."""
UNSAFE = re.compile(r'[\\/:*?"<>|#%\x00-\x1f]')
"""What names of folders, or ids of Weights & Biases, cannot hold."""


@dataclass(frozen=True)
class Run:
    """An experiment of a sweep."""

    number: int
    """Its place in the sweep."""
    method: str
    """Its table of the sweep."""
    point: dict[str, Any]
    """Its place in the grid."""
    experiment: Experiment
    """What it runs."""
    after: str | None = None
    """The run whose masks it takes."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return _name(self.method, self.point, self.experiment.seed)


class Ended(NamedTuple):
    """What a run has come to."""

    failure: str | None
    """What went wrong, if anything did."""
    warned: dict[str, type[Warning]]
    """Texts of its warnings, each but once, and their kinds."""


@dataclass(frozen=True)
class Sweep:
    """Experiments that differ in method, in their place in a grid, and in their seed.

    Examples
    --------
    A file ``sweep.toml``, for ``mirl sweep sweep.toml --out results``:

    .. code-block:: toml

        recipe = "recipe.toml"        # what they share, seen from the folder of this file
        seeds = [0, 1, 2]

        [methods.mir-l]

        [methods.late]
        ticket.rewind = 100

        [methods.reinit]
        after = "mir-l"               # takes the masks of that method's run of the same seed
        ticket.control = "reinit"

        [grid]                        # every method with every combination
        ticket.lr = [1e-3, 2e-3]

    Paths in it, too, are seen from the folder of the file.
    """

    runs: tuple[Run, ...]
    """In the order in which they run: by seed, place in the grid, and method."""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sweep:
        """Read a TOML file.

        Parameters
        ----------
        path
            The file. Paths in it are seen from its folder.

        Returns
        -------
        Sweep
            What it says.

        Raises
        ------
        mirl.errors.FormatError
            The file is not TOML, has an unknown key, or says what `of` refuses.
        OSError
            A file cannot be read.
        """
        tables = read_toml(path)
        known = ("recipe", "seeds", "methods", "grid")
        unknown = sorted(tables.keys() - set(known))
        if "data" in unknown:
            raise FormatError(f"{path}: a recipe, not a sweep: `mirl train`, or Experiment.load")
        if unknown:
            raise FormatError(f"{path}: unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        if not isinstance(tables.get("recipe"), str):
            raise FormatError(f"{path}: recipe must name the file of what the runs share")
        shared = Experiment.load(Path(path).parent / tables["recipe"])
        try:
            methods = {name: _flat(each) for name, each in tables.get("methods", {}).items()}
            grid = _flat(tables.get("grid", {}))
            seeds = tables.get("seeds", [0])
            return cls.of(shared, methods or {"mir-l": {}}, seeds, grid, folder=Path(path).parent)
        except (TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{path}: {error}") from error

    @classmethod
    def of(
        cls,
        shared: Experiment,
        methods: Mapping[str, Mapping[str, Any]],
        seeds: Iterable[int] = (0,),
        grid: Mapping[str, Iterable[Any]] | None = None,
        *,
        folder: str | os.PathLike[str] = ".",
    ) -> Sweep:
        """Every method with every combination of the grid and every seed.

        Parameters
        ----------
        shared
            What the runs share.
        methods
            By name what differs, as `Experiment.changed` takes it; and under ``"after"`` the method
            whose masks are taken.
        seeds
            Of the replicates.
        grid
            By setting the values that it takes; functions, too, which folders and tables name.
        folder
            Where paths among the changes are seen from.

        Returns
        -------
        Sweep
            Its runs, each after the one whose masks it takes.

        Raises
        ------
        ValueError
            A method after one that there is not, or in a circle; a control of no other run; no seed;
            two runs of one name; a setting that two of methods, seeds and grid make; an unknown table
            or key, or a setting out of range.
        TypeError
            Seeds or values that are not a list, or a setting of another type.
        """
        grid = {name: _list(f"grid: {name}", values) for name, values in (grid or {}).items()}
        order = _ordered(methods)
        _check_settings(methods, grid)
        runs: list[Run] = []
        seeds = _list("seeds", seeds)
        for what, listed in {"seeds": seeds, **grid}.items():
            if not listed:
                raise ValueError(f"{what} must hold one value or more")
        for seed in seeds:
            for values in product(*grid.values()):
                point = dict(zip(grid, values, strict=True))
                for method in order:
                    changes = dict(methods[method])
                    after = changes.pop("after", None)
                    settings = resolved({**point, **changes, "seed": seed}, Path(folder))
                    experiment = shared.changed(settings)
                    ticket = experiment.ticket
                    if after is None and "control" in ticket and "masks_of" not in ticket:
                        raise ValueError(
                            f"{method}: control {ticket['control']!r} is one of another run: after"
                            " must name its method"
                        )
                    name = None if after is None else _name(after, point, seed)
                    runs.append(Run(len(runs), method, point, experiment, name))
        _check_names(runs)
        return cls(tuple(runs))

    def run(
        self,
        out: str | os.PathLike[str],
        *,
        workers: int = 1,
        threads: int | None = None,
        address: str | None = None,
        wandb: str | None = None,
        progress: bool = True,
    ) -> None:
        """Run all that are not done, in folders of `out`; those that were begun go on.

        Parameters
        ----------
        out
            Folder of the results, one folder a run; on a cluster one that all machines see.
        workers
            Runs at once. One needs nothing; for more, and for a cluster, Ray (the extra ``lab``).
        threads
            Of each run; by default the cores of this machine shared by the workers. With one worker
            it is set for this process, as by `mirl.set_num_threads`.
        address
            Of a Ray cluster, ``"auto"`` for the one that this machine belongs to.
        wandb
            A project of Weights & Biases that is told of every run.
        progress
            Whether to show a progress bar.

        Raises
        ------
        ValueError
            Less than one worker or thread.
        ImportError
            Several workers, but Ray is not installed; or `wandb`, but that is not.
        ConnectionError
            There is no Ray cluster at `address`.
        RuntimeError
            A run has failed; the others have come to their ends, and the message names them all.
            Tracebacks are in ``error.txt`` of their folders.

        Warns
        -----
        Warning
            What a run has warned of, once and with its name, when it has come to its end.
        """
        check_least(1, workers=workers, threads=threads)
        alone = workers == 1 and address is None
        if not alone:
            need("lab", "ray")
        if wandb is not None:
            need("wandb", "wandb")
        out = Path(out).resolve()
        out.mkdir(parents=True, exist_ok=True)
        failures: dict[str, str] = {}
        with bar(progress, total=len(self.runs), desc="sweep", unit="run") as runs:

            def done(run: Run, ended: Ended) -> None:
                for text, kind in ended.warned.items():
                    warnings.warn(f"{run.name}: {text}", kind, stacklevel=2)
                if ended.failure is not None:
                    failures[run.name] = ended.failure
                runs.update()

            if alone:
                if threads is not None:
                    set_num_threads(threads)
                self._one_by_one(out, wandb, done)
            else:
                threads = threads or max(1, get_num_threads() // workers)
                self._on_ray(out, workers, threads, address, wandb, done)
        if failures:
            lines = "\n".join(f"{name}: {failure}" for name, failure in failures.items())
            raise RuntimeError(
                f"{len(failures)} of {len(self.runs)} runs failed\n{lines}\n"
                "error.txt in the folder of a run has its traceback"
            )

    def _one_by_one(self, out: Path, wandb: str | None, done: Callable[[Run, Ended], None]) -> None:
        failed: set[str] = set()
        for run in self.runs:
            ended = _unbegun(run) if run.after in failed else execute(run, out, wandb)
            if ended.failure is not None:
                failed.add(run.name)
            done(run, ended)

    def _on_ray(
        self,
        out: Path,
        workers: int,
        threads: int,
        address: str | None,
        wandb: str | None,
        done: Callable[[Run, Ended], None],
    ) -> None:
        import ray

        gpus = 1 if any(run.experiment.device == "cuda" for run in self.runs) else 0
        # What is not ours on this machine is not asked: it is the workers that share the cores.
        cluster = {"address": address} if address else {"num_cpus": workers * threads}
        try:
            ray.init(
                **cluster, include_dashboard=False, log_to_driver=False, configure_logging=False
            )
        except SystemExit as error:  # Ray's own way to say so
            raise ConnectionError(f"{address}: no Ray cluster can be reached there") from error
        try:
            remote = ray.remote(_execute_after).options(
                num_cpus=threads, num_gpus=gpus, max_retries=RETRIES, retry_exceptions=False
            )
            references: dict[str, Any] = {}
            for run in self.runs:
                before = None if run.after is None else references[run.after]
                references[run.name] = remote.remote(run, str(out), threads, wandb, before)
            waiting = {references[run.name]: run for run in self.runs}
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                try:
                    ended = ray.get(ready)
                except ray.exceptions.RayError as error:
                    ended = Ended(f"its worker was lost: {error}", {})
                done(waiting.pop(ready), ended)
        finally:
            ray.shutdown()


def execute(run: Run, out: Path, wandb: str | None = None) -> Ended:
    """Run an experiment in its folder of `out`, or go on with it."""
    # Of each run anew, and for a worker of Ray to hand on.
    with warnings.catch_warnings(record=True) as warned:
        failure = _failure_of(run, out, wandb)
    return Ended(failure, {str(each.message): each.category for each in warned})


def _failure_of(run: Run, out: Path, wandb: str | None) -> str | None:
    """Run it; what went wrong, if anything did.

    What tells the run apart is written to ``run.json`` beside its record, and the traceback of what
    went wrong to ``error.txt``.
    """
    folder = out / run.name
    told = folder / "error.txt"
    experiment = run.experiment
    try:
        if run.after is not None:
            experiment = experiment.changed({"ticket.masks_of": str(out / run.after)})
        described = folder / "run.json"
        about = About(
            number=run.number,
            method=run.method,
            seed=experiment.seed,
            point=run.point,
            after=run.after,
            hash=run.experiment.hash(),
            # What a run that is done was done on stays.
            machine=read_about(described).get("machine") or devices()[experiment.device],
        )
        folder.mkdir(parents=True, exist_ok=True)
        keeper = _Keeper(about, described)
        loggers: list[Logger] = [keeper, *default_loggers(folder, progress=False)]
        if wandb is not None:
            loggers.append(WeightsAndBiases(wandb, **_named(run, out)))
        experiment.run(folder, loggers=loggers)
        keeper.keep()  # of a run that has been done before, too
    except Exception as error:  # what a run raises is its result: the others go on
        with suppress(OSError):  # which may be what it has raised
            write_text(told, printable(traceback.format_exc()))
        return f"{type(error).__name__}: {error}"
    told.unlink(missing_ok=True)
    return None


class _Keeper(Logger):
    """Writes what tells a run apart to its folder, once that has proved not to be another's."""

    def __init__(self, about: About, path: Path) -> None:
        self.about = about
        self.path = path

    def keep(self) -> None:
        write_text(self.path, json.dumps(vars(self.about), indent=2, default=as_text) + "\n")

    def round_start(self, round_: int, rounds: int, density: float) -> None:
        """Write it."""
        self.keep()


def _named(run: Run, out: Path) -> dict[str, str]:
    """What Weights & Biases calls a run; one that is resumed keeps its id."""
    return {"name": run.name, "group": out.name, "id": f"{run.name}-{run.experiment.hash()}"}


def _execute_after(
    run: Run, out: str, threads: int, wandb: str | None, before: Ended | None
) -> Ended:
    """`execute` in a worker, once the run that it takes masks of is done."""
    if before is not None and before.failure is not None:
        return _unbegun(run)
    if get_num_threads() != threads:
        set_num_threads(threads)
    return execute(run, Path(out), wandb)


def _unbegun(run: Run) -> Ended:
    return Ended(f"{run.after} failed", {})


def _ordered(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Methods in their order, each after the one whose masks it takes."""
    for method, changes in methods.items():
        after = changes.get("after")
        if after not in (None, *methods):
            raise ValueError(f"{method}: after {after!r}, which is no method of {[*methods]}")
    order: list[str] = []
    while len(order) < len(methods):
        left = [name for name in methods if name not in order]
        ready = [name for name in left if methods[name].get("after") in (None, *order)]
        if not ready:
            raise ValueError(f"methods after each other, in a circle: {', '.join(left)}")
        order.append(ready[0])
    return order


def _list(what: str, values: Any) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{what} must be a list of values, got {values!r}")
    return list(values)


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Values of tables by dotted name; a table within a table is a value."""
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, dict):
            flat.update({f"{name}.{key}": each for key, each in value.items()})
        else:
            flat[name] = value
    return flat


def _name(method: str, point: Mapping[str, Any], seed: int) -> str:
    places = [f"{name.rpartition('.')[2]}={_word(value)}" for name, value in point.items()]
    return UNSAFE.sub("-", "-".join([method, *places, f"seed{seed}"]))


def _word(value: Any) -> str:
    return function_name(value).rpartition(".")[2] if callable(value) else str(value)


def _check_settings(
    methods: Mapping[str, Mapping[str, Any]], grid: Mapping[str, Iterable[Any]]
) -> None:
    """Raise where a setting of the grid, or a seed, would not be what runs."""
    settings = {"grid": grid, **methods}
    for place, names in settings.items():
        if "seed" in names:
            raise ValueError(f"{place}: seed is not for it to say, but for seeds")
        for name in names:
            for other, values in grid.items():
                if (place != "grid" or name != other) and _meets(name, other, values):
                    raise ValueError(f"{place}: {name} is set by the grid's {other}, too")


def _meets(name: str, other: str, values: Iterable[Any]) -> bool:
    """Whether both set one thing: a table or a key in it; `values` are those of `other`."""
    table, _, key = name.partition(".")
    in_table = (isinstance(value, Mapping) and key in value for value in values)
    return name == other or other.startswith(f"{name}.") or (table == other and any(in_table))


def _check_names(runs: Iterable[Run]) -> None:
    """Raise where two runs would have one folder."""
    counts = Counter(run.name for run in runs)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(
            f"several runs of one name: {', '.join(repeated)};"
            " seeds, values of the grid and names of methods must differ"
        )
