"""Runs as a tidy table: a line for each run, round and task."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mirl.errors import FormatError
from mirl.extras import need
from mirl.io import atomic, write_text
from mirl.lottery.experiment import Experiment
from mirl.lottery.folder import RunFolder
from mirl.lottery.loop import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pandas import DataFrame

Folder: TypeAlias = str | os.PathLike[str]
Folders: TypeAlias = Folder | Mapping[str, Folder | Sequence[Folder]]
"""Of a sweep, of a run, or by method of its runs."""
Runs: TypeAlias = Folders | Result | Mapping[str, Folder | Result | Sequence[Folder | Result]]
"""What is in folders, or in memory."""

CONFIDENCE = 0.95
"""Of the intervals."""
SETTINGS = {each.name for each in fields(Experiment)} - {"seed"}
"""Tables of a recipe; the columns of places in a grid begin with them."""
NO_MEASURES = (
    *("seed", "seed_model", "seed_data", "hash", "round"),
    *("density", "density_prunable", "loss", "seconds"),
)
"""Columns of numbers that are none of `evaluate`."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What tells a run apart from others, as a sweep writes it to ``run.json`` in its folder."""

    number: int = 0
    """Its place in the sweep."""
    method: str
    seed: int
    point: dict[str, Any] = field(default_factory=dict)
    """Its place in the grid."""
    after: str | None = None
    """The run whose masks it takes."""
    hash: str | None = None
    """Of its recipe."""
    machine: str | None = None
    """What it was done on."""


@dataclass(frozen=True)
class Listed:
    """A run among others."""

    about: About
    records: list[dict[str, Any]]
    """One a round."""
    folder: RunFolder | None = None
    """None where it is in memory only."""

    @property
    def held(self) -> RunFolder:
        """Its folder; raises TypeError where there is none."""
        if self.folder is None:
            raise TypeError(
                "masks lie in the folders of runs, and a Result in memory has none: give the folder of"
                " the run, find_ticket(out=...)"
            )
        return self.folder

    @property
    def place(self) -> dict[str, Any]:
        """Its place in the grid; lists as text, which tables can be grouped by."""
        return {
            name: json.dumps(value) if isinstance(value, list | dict) else value
            for name, value in self.about.point.items()
        }


def results(runs: Runs) -> DataFrame:
    """Read what runs have come to so far.

    Parameters
    ----------
    runs
        The folder of a sweep, or of one run, or a `Result`. Or runs of your own by method:
        ``{"ticket": ["a", "b"], "random": result}``, folders, results, or lists of either.

    Returns
    -------
    pandas.DataFrame
        A line for each run, round and task: ``method``, ``seed``, ``seed_model`` (of the initial
        values) and ``seed_data``, the places in the grid, ``hash`` of the recipe, ``round``,
        ``task``, ``density`` and ``density_prunable`` in [0, 1], what was measured (``psnr`` and
        ``psnr_input`` in dB, ``ssim`` and ``ssim_input``, or whatever `evaluate` has returned; if its
        name is that of a column of ours, with ``_measured`` after it), ``loss`` (the last epoch's),
        ``seconds`` of the round, ``machine``, and versions. A round that was not evaluated has one
        line, without task and measures; columns that no run has are not there.

        ``seed`` is what runs are paired by: the sweep's; of a run that is of none, that of the
        model, or of `mirl.find_ticket` where the model's is not known.

    Raises
    ------
    FileNotFoundError
        There is no run in the folder.
    ValueError
        A method without runs.
    TypeError
        Neither a folder nor a `Result`, by itself or by method.
    mirl.errors.FormatError
        A file of a run is damaged.
    ImportError
        pandas or pyarrow is not installed.
    """
    check_pandas()
    return tabled(listed(runs))


def tabled(runs: Iterable[Listed]) -> DataFrame:
    """The table of runs, as `results` gives it."""
    from pandas import DataFrame

    return DataFrame([line for run in runs for line in _lines(run)])


def check_pandas() -> None:
    """Raise ImportError where a package for tables is missing: best before days of runs."""
    need("lab", "pandas", "pyarrow", "scipy")


def listed(runs: Runs) -> list[Listed]:
    """The runs of a folder in the order of their sweep, or those that are named, in their order.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        A method without runs.
    TypeError
        Neither a folder nor a result.
    mirl.errors.FormatError
        A file of a run is damaged.
    """
    if isinstance(runs, Mapping):
        found = []
        for method, named in runs.items():
            of_method: list[Any] = [named]
            if isinstance(named, Iterable) and not isinstance(named, str | os.PathLike):
                of_method = list(named)
            if not of_method:
                raise ValueError(f"{method}: a method without runs")
            for run in map(_listed, of_method):
                # The name is given, and stands for a place in some grid, too.
                about = replace(run.about, method=method, point={})
                found.append(replace(run, about=about))
        return found
    if not isinstance(runs, str | os.PathLike) or (Path(runs) / "recipe.json").exists():
        return [_listed(runs)]
    recipes = sorted(Path(runs).glob("*/recipe.json"))
    if not recipes:
        raise FileNotFoundError(f"{runs}: no run is in this folder")
    return sorted((_listed(recipe.parent) for recipe in recipes), key=lambda run: run.about.number)


def save_results(out: str | os.PathLike[str]) -> DataFrame:
    """Write the table of a sweep to ``results.csv`` and ``results.parquet`` in its folder.

    Parameters
    ----------
    out
        The folder of a sweep, or of one run.

    Returns
    -------
    pandas.DataFrame
        As `results` gives it.

    Raises
    ------
    FileNotFoundError, ImportError, mirl.errors.FormatError
        See `results`.
    OSError
        A file cannot be written.
    """
    table = results(out)
    write_text(Path(out) / "results.csv", table.to_csv(index=False))
    with atomic(Path(out) / "results.parquet") as path:
        table.to_parquet(path, index=False)
    return table


def summary(table: DataFrame) -> DataFrame:
    """Means over the seeds, with half the width of their 95 % confidence intervals.

    Warns where several runs of a method have one seed: an interval over repetitions of one run tells
    nothing of others. Seeds are those of networks and `mirl.Loader`; that of
    `mirl.find_ticket` is of what criteria and controls draw, no more.

    Parameters
    ----------
    table
        As `results` gives it.

    Returns
    -------
    pandas.DataFrame
        A line for each method, place in the grid, round and task: the means of ``density``,
        ``density_prunable`` and all that was measured, ``psnr`` and ``ssim`` say; of each measure
        ``psnr_interval`` and so on, by Student's t over the runs that have it, NaN where there is
        but one; and the number of ``runs``.

    Raises
    ------
    ValueError
        No run was evaluated.
    ImportError
        scipy is not installed.
    """
    table = _evaluated(table)
    again = repeated(table)
    if again:
        warnings.warn(
            f"several runs of {', '.join(again)} have one seed: runs that are alike are no"
            " replicates (networks and Loader have seeds of their own)",
            stacklevel=2,
        )
    keys = ["method", *points(table), "round", "task"]
    inputs = [name for name in table.columns if name.endswith("_input")]
    return _means(table, keys, ["density", "density_prunable", *inputs])


def differences(table: DataFrame, method: str) -> DataFrame:
    """How far one method is ahead of the others, run by run of the same seed.

    Runs of one seed share initial values and data, so that differences vary less than the runs.

    Parameters
    ----------
    table
        As `results` gives it.
    method
        The method to compare with each of the others.

    Returns
    -------
    pandas.DataFrame
        A line for each other ``method``, place in the grid, round and task: the mean over the
        seeds of all that was measured, ``psnr`` and ``ssim`` say, that of `method` minus the
        other's; half the widths of their 95 % confidence intervals by Student's t,
        ``psnr_interval`` and so on, NaN where there is but one of the ``runs``. Seeds that only one
        of two methods has do not count.

    Raises
    ------
    ValueError
        The table has no such method, no run was evaluated, or several runs of a method have one
        ``seed``, so that it is not clear which to pair: set that column to what tells them apart.
    ImportError
        scipy is not installed.
    """
    table = _evaluated(table)
    if method not in set(table["method"]):
        raise ValueError(f"there is no method {method!r}; there are {sorted(set(table['method']))}")
    again = repeated(table)
    if again:
        raise ValueError(
            f"several runs of {', '.join(again)} have one seed: which to pair? Set the table's"
            ' column "seed" to what tells them apart, "seed_data" say'
        )
    places, measured = points(table), measures(table)
    keys = [*places, "seed", "round", "task"]
    first = table[table["method"] == method].set_index(keys)[measured]
    others = table[table["method"] != method].set_index(["method", *keys])[measured]
    ahead = others.mul(-1).reset_index("method")
    ahead[measured] += first.reindex(ahead.index)
    ahead = ahead.dropna(subset=measured, how="all").reset_index()
    return _means(ahead, ["method", *places, "round", "task"], [])


def points(table: DataFrame) -> list[str]:
    """Columns of the places in a grid."""
    return [name for name in table.columns if name.partition(".")[0] in SETTINGS]


def measures(table: DataFrame) -> list[str]:
    """Columns of what was measured; not of the input left unchanged."""
    others = {*NO_MEASURES, *points(table)}
    return [
        name
        for name in table.select_dtypes("number").columns
        if name not in others and not name.endswith("_input")
    ]


def repeated(table: DataFrame) -> list[str]:
    """Methods of which several runs have the same place in the grid, and the same seed."""
    keys = ["method", *points(table), "seed", "round", "task"]
    return list(dict.fromkeys(table[table.duplicated(keys)]["method"]))


def _evaluated(table: DataFrame) -> DataFrame:
    """The lines of rounds that were evaluated."""
    if "task" not in table:
        raise ValueError("the runs were not evaluated: there is nothing to compare")
    return table.dropna(subset=["task"])


def _means(table: DataFrame, keys: list[str], shared: list[str]) -> DataFrame:
    """Means of lines with the same keys; of measures with their intervals."""
    need("lab", "scipy")
    from scipy.stats import t

    groups = table.groupby(keys, sort=False, dropna=False)
    measured = measures(table)
    means = groups[[*measured, *shared]].mean()
    means["runs"] = groups.size()
    for name in measured:
        # Runs need not have measured the same.
        count = groups[name].count()
        quantile = t.ppf((1 + CONFIDENCE) / 2, count - 1)
        means[f"{name}_interval"] = quantile * groups[name].std() / count**0.5
    return means.reset_index()


def _listed(run: Folder | Result) -> Listed:
    if not isinstance(run, str | os.PathLike | Result):
        raise TypeError(
            "runs must be the folder of a sweep or of a run, find_ticket(out=...), or a mirl.Result;"
            f' several by method, {{"ticket": ["a", "b"], "random": "c"}}, got {type(run).__name__}'
        )
    if isinstance(run, Result):
        return Listed(About(method="run", seed=_seed(run.rounds, 0)), run.rounds)
    folder = RunFolder.existing(run)
    records = folder.records()
    told = read_about(folder.path / "run.json")
    told.setdefault("method", folder.path.name)
    if "seed" not in told:
        told["seed"] = _seed(records, folder.description()["recipe"]["seed"])
    known = {each.name for each in fields(About)}
    return Listed(About(**{name: told[name] for name in told.keys() & known}), records, folder)


def _seed(records: Sequence[Mapping[str, Any]], otherwise: int) -> int:
    """That of the model, where it is known."""
    seed: int | None = records[0]["seed"]["model"] if records else None
    return otherwise if seed is None else seed


def read_about(path: Path) -> dict[str, Any]:
    """What a sweep has written in a run's folder; nothing where a run is of none.

    Raises
    ------
    mirl.errors.FormatError
        The file is damaged.
    """
    if not path.exists():
        return {}
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: nothing that a sweep has written: {error}") from error
    if not isinstance(told, dict):
        raise FormatError(f"{path}: nothing that a sweep has written: {told!r}")
    return told


def _lines(run: Listed) -> Iterator[dict[str, Any]]:
    about = run.about
    for record in run.records:
        for task, metrics in (record["metrics"] or {None: {}}).items():
            yield {
                "method": about.method,
                "seed": about.seed,
                "seed_model": record["seed"]["model"],
                "seed_data": record["seed"]["data"],
                **run.place,
                "hash": about.hash,
                "round": record["round"],
                **({} if task is None else {"task": task}),
                "density": record["density"],
                "density_prunable": record["density_prunable"],
                **{
                    f"{name}_measured" if name in NO_MEASURES else name: value
                    for name, value in metrics.items()
                },
                "loss": record["loss"][-1],
                "seconds": record["seconds"],
                "machine": about.machine,
                **record["versions"],
            }
