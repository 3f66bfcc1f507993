"""The runs of a sweep as a tidy table: a line for each run, round and task."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirl.errors import FormatError
from mirl.io import atomic, write_text
from mirl.lottery.folder import RunFolder

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from pandas import DataFrame

CONFIDENCE = 0.95
"""Of the intervals."""
MEASURES = ("psnr", "ssim")
"""What means and differences are of."""


def results(out: str | os.PathLike[str]) -> DataFrame:
    """Read what the runs of a sweep, or a single run, have come to so far.

    Parameters
    ----------
    out
        The folder of a sweep, or of one run.

    Returns
    -------
    pandas.DataFrame
        A line for each run, round and task: ``method``, ``seed``, the places in the grid, ``hash``
        of the recipe, ``round``, ``task``, ``density`` and ``density_prunable`` in [0, 1], ``psnr``
        and ``psnr_input`` in dB, ``ssim`` and ``ssim_input``, ``loss`` (the last epoch's),
        ``seconds`` of the round, ``machine``, and versions. A round that was not evaluated has one
        line, without task and measures; columns that no run has are not there.

    Raises
    ------
    FileNotFoundError
        There is no run in the folder.
    ImportError
        pandas or pyarrow is not installed.
    """
    check_pandas()
    from pandas import DataFrame

    runs = run_folders(out)
    return DataFrame([line for run in runs for line in _lines(run)])


def check_pandas() -> None:
    """Raise ImportError where there is no pandas, or no pyarrow: best before days of runs."""
    for package in ("pandas", "pyarrow"):
        if find_spec(package) is None:
            raise ImportError(f'tables of results need {package}: pip install "mirl[lab]"')


def run_folders(out: str | os.PathLike[str]) -> list[RunFolder]:
    """The runs in a folder, in the order of their sweep; or the folder itself, where it is one.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    out = Path(out)
    if (out / "recipe.json").exists():
        return [RunFolder.existing(out)]
    recipes = sorted(out.glob("*/recipe.json"))
    if not recipes:
        raise FileNotFoundError(f"{out}: no run is in this folder")
    runs = [RunFolder.existing(recipe.parent) for recipe in recipes]
    return sorted(runs, key=lambda run: about(run)["number"])


def save_results(out: str | os.PathLike[str]) -> DataFrame:
    """Write the table of a sweep to ``results.csv`` and ``results.parquet`` in its folder."""
    table = results(out)
    write_text(Path(out) / "results.csv", table.to_csv(index=False))
    with atomic(Path(out) / "results.parquet") as path:
        table.to_parquet(path, index=False)
    return table


def summary(table: DataFrame) -> DataFrame:
    """Means over the seeds, with half the width of their 95 % confidence intervals.

    Parameters
    ----------
    table
        As `results` gives it.

    Returns
    -------
    pandas.DataFrame
        A line for each method, place in the grid, round and task: ``density``,
        ``density_prunable``, ``psnr`` and ``ssim``; ``psnr_interval`` and ``ssim_interval`` by
        Student's t over the ``runs``, NaN where there is but one. What no run has measured is not
        there.

    Raises
    ------
    ValueError
        No run was evaluated.
    """
    keys = ["method", *_points(table), "round", "task"]
    shared = ["density", "density_prunable", "psnr_input", "ssim_input"]
    return _means(_evaluated(table), keys, [name for name in shared if name in table])


def differences(table: DataFrame, method: str) -> DataFrame:
    """What a method is ahead of the others, run by run of the same seed.

    Runs of one seed share initial values and data, so that differences vary less than the runs.

    Parameters
    ----------
    table
        As `results` gives it.
    method
        That is compared with each other one.

    Returns
    -------
    pandas.DataFrame
        A line for each other ``method``, place in the grid, round and task: the mean over the
        seeds of ``psnr`` and ``ssim``, that of `method` minus the other's; half the widths of their
        95 % confidence intervals by Student's t, ``psnr_interval`` and ``ssim_interval``, NaN where
        there is but one of the ``runs``.

    Raises
    ------
    ValueError
        The table has no such method, or no run was evaluated.
    """
    table = _evaluated(table)
    if method not in set(table["method"]):
        raise ValueError(f"there is no method {method!r}; there are {sorted(set(table['method']))}")
    points = _points(table)
    keys, measures = [*points, "seed", "round", "task"], _measures(table)
    first = table[table["method"] == method].set_index(keys)[measures]
    others = table[table["method"] != method].set_index(["method", *keys])[measures]
    ahead = others.mul(-1).reset_index("method")
    ahead[measures] += first.reindex(ahead.index)
    ahead = ahead.dropna(subset=measures, how="all").reset_index()
    return _means(ahead, ["method", *points, "round", "task"], [])


def _points(table: DataFrame) -> list[str]:
    return [name for name in table.columns if "." in name]


def _measures(table: DataFrame) -> list[str]:
    return [name for name in MEASURES if name in table]


def _evaluated(table: DataFrame) -> DataFrame:
    """The lines of rounds that were evaluated."""
    if "task" not in table:
        raise ValueError("the runs were not evaluated: there is no PSNR or SSIM to summarise")
    return table.dropna(subset=["task"])


def _means(table: DataFrame, keys: list[str], shared: list[str]) -> DataFrame:
    """Means of lines with the same keys; of PSNR and SSIM with their intervals."""
    from scipy.stats import t

    groups = table.groupby(keys, sort=False, dropna=False)
    measures = _measures(table)
    means = groups[[*measures, *shared]].mean()
    means["runs"] = groups.size()
    quantile = t.ppf((1 + CONFIDENCE) / 2, means["runs"] - 1)
    for name in measures:
        means[f"{name}_interval"] = quantile * groups[name].std() / means["runs"] ** 0.5
    return means.reset_index()


def about(run: RunFolder) -> dict[str, Any]:
    """What tells a run apart from others of its sweep."""
    described = run.path / "run.json"
    if described.exists():
        return read_about(described)
    seed = run.description()["recipe"]["seed"]
    return {
        "number": 0,
        "method": run.path.name,
        "seed": seed,
        "point": {},
        "hash": None,
        "machine": None,
    }


def read_about(path: Path) -> dict[str, Any]:
    """What a sweep has written in a run's folder.

    Raises
    ------
    mirl.errors.FormatError
        The file is damaged.
    """
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: nothing that a sweep has written: {error}") from error
    return told


def point_of(told: dict[str, Any]) -> dict[str, Any]:
    """A run's place in the grid, of `about`; lists as text, which tables can be grouped by."""
    return {
        name: json.dumps(value) if isinstance(value, list | dict) else value
        for name, value in told["point"].items()
    }


def _lines(run: RunFolder) -> Iterator[dict[str, Any]]:
    told = about(run)
    for record in run.records():
        for task, metrics in (record["metrics"] or {None: {}}).items():
            yield {
                "method": told["method"],
                "seed": told["seed"],
                **point_of(told),
                "hash": told["hash"],
                "round": record["round"],
                **({} if task is None else {"task": task}),
                "density": record["density"],
                "density_prunable": record["density_prunable"],
                **metrics,
                "loss": record["loss"][-1],
                "seconds": record["seconds"],
                "machine": told["machine"],
                **record["versions"],
            }
