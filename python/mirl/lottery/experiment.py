"""A run as a recipe that can be written down: network, data, ticket and evaluation."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.checks import check_choice
from mirl.data import Loader, Progressive, test_sets
from mirl.errors import FormatError
from mirl.io import write_text
from mirl.loggers import Logger, default_loggers
from mirl.loggers.base import closed_on_failure
from mirl.lottery.loop import find_ticket
from mirl.lottery.naming import as_text
from mirl.lottery.recipe import Recipe
from mirl.machine import DEVICES
from mirl.models import NETWORKS, Network, Restormer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirl.lottery.loop import Result

PATHS = ("data.root", "evaluate.root", "ticket.masks_of")
"""Settings that name a folder."""
BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that TOML takes without quotes."""
SMALLEST: dict[str, Any] = {
    "dim": 2,
    "num_blocks": (1, 1, 1, 1),
    "num_refinement_blocks": 1,
    "heads": (1, 1, 1, 1),
}
"""A network for which settings of training are tried."""


@dataclass(frozen=True)
class Experiment:
    """All that determines a run; the fields are the tables of a TOML file.

    Settings are kept as such a file holds them: lists for tuples, text for paths, and nothing for
    None where that is the default.

    Examples
    --------
    A file ``recipe.toml``, for ``mirl train recipe.toml --out run``:

    .. code-block:: toml

        seed = 0

        [network]            # its name, PromptIR by default, and sizes
        dim = 16

        [data]               # arguments of mirl.Loader.from_folder
        root = "data"        # seen from the folder of this file
        synthesize = ["derain", "dehaze"]

        [ticket]             # arguments of mirl.find_ticket
        rounds = 15
        epochs = 4

        [evaluate]           # arguments of mirl.test_sets; without this table, nothing is measured
        root = "data"
    """

    data: dict[str, Any]
    """Arguments of `mirl.Loader.from_folder`, or with ``stages`` of
    `mirl.data.Progressive.from_folder`."""
    network: dict[str, Any] = field(default_factory=dict)
    """Sizes, as `mirl.PromptIR` takes them; with ``name = "Restormer"`` as `mirl.Restormer` does,
    and so of the other networks."""
    ticket: dict[str, Any] = field(default_factory=dict)
    """Arguments of `mirl.find_ticket`, with its defaults (one epoch, where ``mirl train`` without a
    file has the published 120), but for what is not of the science: `out` and the like."""
    evaluate: dict[str, Any] | None = None
    """Arguments of `mirl.test_sets`; its root is that of `data` unless it is said."""
    seed: int = 0
    """Of the initial values, of the data, and of what criteria and controls draw."""
    device: str = "cpu"
    """Where it runs, ``"cpu"`` or ``"cuda"``."""

    def __post_init__(self) -> None:
        """Raise where a setting is unknown or cannot be, as far as that shows without data."""
        network = _class_of(self.network)
        for name, defaults in _settings(network).items():
            table = getattr(self, name)
            if table is None and name == "evaluate":
                continue
            if not isinstance(table, dict):
                raise TypeError(f"{name} must be a table, got {table!r}")
            unknown = sorted(table.keys() - defaults.keys())
            if unknown:
                whose = f" (of {network.__name__})" if name == "network" else ""
                known = ", ".join(defaults)
                raise ValueError(f"unknown in {name}{whose}: {', '.join(unknown)}; known: {known}")
            said = {
                key: _plain(value)
                for key, value in table.items()
                if value is not None or defaults[key] is not None
            }
            object.__setattr__(self, name, said)
        recipe = _recipe({"seed": self.seed, **self.ticket})
        recipe.trainer(Restormer(**SMALLEST), self.ticket.get("recompute"))
        # Whether it is there is another question: that of the machine which runs it.
        check_choice("device", self.device, DEVICES)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Experiment:
        """Read a TOML file.

        Parameters
        ----------
        path
            One that `save` has written, or that was written by hand. Paths in it are seen from its
            folder.

        Returns
        -------
        Experiment
            What it says.

        Raises
        ------
        mirl.errors.FormatError
            The file is not TOML, or has an unknown table or key, or a value that is not valid.
        OSError
            The file cannot be read.
        """
        return cls.from_tables(read_toml(path), Path(path))

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], path: Path) -> Experiment:
        """Make one of the tables of a file.

        Parameters
        ----------
        tables
            By name, as the fields of this class.
        path
            The file, whose folder paths are seen from.

        Returns
        -------
        Experiment
            What they say.

        Raises
        ------
        mirl.errors.FormatError
            An unknown table or key, or a value that is not valid; no data.
        """
        known = [each.name for each in fields(cls)]
        unknown = sorted(tables.keys() - set(known))
        if "recipe" in unknown:
            raise FormatError(f"{path}: a sweep, not a recipe: `mirl sweep`, or Sweep.load")
        if unknown:
            raise FormatError(f"{path}: unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        settings: dict[str, Any] = {
            name: dict(value) if isinstance(value, dict) else value
            for name, value in tables.items()
        }
        data = settings.get("data")
        if data is not None and not isinstance(data, dict):
            raise FormatError(f"{path}: data must be a table")
        if data is None or not isinstance(data.get("root"), str):
            raise FormatError(f"{path}: the table data must name its root")
        try:
            return cls(**resolved(settings, path.parent))
        except (TypeError, ValueError) as error:
            raise FormatError(f"{path}: {error}") from error

    def changed(self, changes: Mapping[str, Any]) -> Experiment:
        """The same with other values.

        Parameters
        ----------
        changes
            By name, as in ``{"ticket.lr": 1e-3, "seed": 2}``; whole tables, too.

        Returns
        -------
        Experiment
            A new one.

        Raises
        ------
        TypeError, ValueError
            An unknown table or key, or a value that is not valid.
        """
        changed: dict[str, Any] = {}
        for name, value in changes.items():
            table, _, key = name.partition(".")
            if table not in {each.name for each in fields(self)}:
                meant = "".join(f"; {place}?" for place in places_of(name))
                raise ValueError(f"{name}: an experiment has no {table}{meant}")
            if key:
                value = {**(changed.get(table, getattr(self, table)) or {}), key: value}
            changed[table] = value
        # At once: what is on the way there need not fit together.
        return replace(self, **changed)

    def hash(self) -> str:
        """Tell two experiments apart.

        Returns
        -------
        str
            Eight hexadecimal digits of all settings, whatever folders the data and other runs are
            in, and of the names of functions.
        """
        settings = {
            name: dict(value) if isinstance(value, dict) else value
            for name, value in vars(self).items()
        }
        for name in ("data", "evaluate"):
            if settings[name]:
                settings[name].pop("root", None)
        if "masks_of" in settings["ticket"]:
            settings["ticket"]["masks_of"] = Path(settings["ticket"]["masks_of"]).name
        text = json.dumps(settings, sort_keys=True, default=as_text)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a TOML file that `load` reads back, its paths absolute.

        Parameters
        ----------
        path
            The file, usually ``NAME.toml``; it appears whole or not at all.

        Raises
        ------
        TypeError
            A setting that no such file holds, like a function.
        OSError
            The file cannot be written.
        """
        lines, tables = [], []
        for name, value in resolved(vars(self), Path.cwd()).items():
            if isinstance(value, dict):
                pairs = [_pair(name, key, each) for key, each in value.items()]
                tables.append("\n".join([f"[{name}]", *pairs]))
            elif value is not None:
                lines.append(f"{name} = {as_toml(name, value)}")
        write_text(Path(path), "\n\n".join(["\n".join(lines), *tables]) + "\n")

    def run(
        self,
        out: str | os.PathLike[str],
        *,
        loggers: Sequence[Logger] | None = None,
        progress: bool = True,
    ) -> Result:
        """Run it in a folder, or go on with it there; see `mirl.find_ticket`.

        Parameters
        ----------
        out
            The folder. Beside what `mirl.find_ticket` writes there, it gets ``experiment.toml``, from
            which the run can be made again; where a setting is a function, it does not.
        loggers, progress
            As `mirl.find_ticket` takes them.

        Returns
        -------
        Result
            The trained ticket and the record of every round.

        Raises
        ------
        TypeError, ValueError
            A setting that is unknown or out of range, by name; `out` holds another run.
        mirl.errors.FormatError, OSError
            Data that cannot be read.
        """
        with closed_on_failure(loggers or ()):
            make = Progressive.from_folder if "stages" in self.data else Loader.from_folder
            data: Loader | Progressive = make(**{"seed": self.seed, **self.data})
            root = {"root": self.data["root"]}
            sets = None if self.evaluate is None else test_sets(**{**root, **self.evaluate})
            sizes = {key: value for key, value in self.network.items() if key != "name"}
            network = _class_of(self.network)
            model = network(**{"seed": self.seed, **sizes, "device": self.device})
        if loggers is None:
            loggers = default_loggers(out, progress=progress)
        return find_ticket(
            model,
            data,
            **{"seed": self.seed, **self.ticket},
            evaluate=sets,
            out=out,
            loggers=[_Keeper(self, Path(out, "experiment.toml")), *loggers],
        )


class _Keeper(Logger):
    """Writes an experiment to the folder of its run, once that has proved not to be another's."""

    def __init__(self, experiment: Experiment, path: Path) -> None:
        self.experiment = experiment
        self.path = path

    def round_start(self, round_: int, rounds: int, density: float) -> None:
        """Write it."""
        # No file holds a function, or a path that is not UTF-8.
        with suppress(TypeError, UnicodeEncodeError):
            self.experiment.save(self.path)


def resolved(settings: Mapping[str, Any], folder: Path, place: str = "") -> dict[str, Any]:
    """Settings whose paths are seen from a folder: workers of a cluster start in others."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        dotted = place + name
        if isinstance(value, dict):
            value = resolved(value, folder, f"{dotted}.")
        elif dotted in PATHS and isinstance(value, str | os.PathLike):
            value = str((folder / value).resolve())
        found[name] = value
    return found


def _recipe(ticket: Mapping[str, Any]) -> Recipe:
    """What arguments of `mirl.find_ticket` come to, the others being its defaults."""
    given = signature(find_ticket).parameters
    names = [each.name for each in fields(Recipe)]
    return Recipe.of(**{name: ticket.get(name, given[name].default) for name in names})


def places_of(key: str) -> list[str]:
    """The settings that end in this name: ``["ticket.lr"]`` of ``"lr"``."""
    tables = [table for network in NETWORKS.values() for table in _settings(network).items()]
    return list(dict.fromkeys(f"{table}.{key}" for table, keys in tables if key in keys))


def _class_of(network: Any) -> type[Network]:
    """The class that the table of a network names, by default PromptIR's."""
    name = network.get("name", "PromptIR") if isinstance(network, dict) else "PromptIR"
    check_choice("network.name", name, tuple(sorted(NETWORKS)))
    return NETWORKS[name]


def _settings(network: type[Network]) -> dict[str, dict[str, Any]]:
    """What each table may hold, and the defaults."""
    functions: dict[str, Callable[..., Any]] = {
        "network": network,
        "data": Loader.from_folder,
        "ticket": find_ticket,
        "evaluate": test_sets,
    }
    found = {
        name: {key: given.default for key, given in signature(function).parameters.items()}
        for name, function in functions.items()
    }
    found["network"]["name"] = found["data"]["stages"] = Parameter.empty
    del found["network"]["device"]
    for name in ("model", "data", "evaluate", "out", "loggers", "progress"):
        del found["ticket"][name]
    return found


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises
    ------
    mirl.errors.FormatError
        It is no TOML.
    OSError
        It cannot be read.
    """
    try:
        return parse_toml(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: no TOML, as recipes and sweeps are: {error}") from error


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a text in TOML; raises ValueError where it is none."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _plain(value: Any) -> Any:
    """A setting as a TOML file holds it, as far as it does."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def as_toml(name: str, value: Any) -> str:
    """A value in TOML; raises TypeError where it has none."""
    if isinstance(value, dict):
        return f"{{ {', '.join(_pair(name, key, each) for key, each in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_toml(name, each) for each in value)}]"
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"{name}: a TOML file cannot hold {value!r}")


def _pair(table: str, key: str, value: Any) -> str:
    shown = key if BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)
    return f"{shown} = {as_toml(f'{table}.{key}', value)}"
