"""A run as a recipe that can be written down: network, data, ticket and evaluation."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass, field, fields, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirl.errors import FormatError
from mirl.lottery.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mirl.loggers import Logger
    from mirl.lottery.loop import Result

PATHS = ("data.root", "evaluate.root", "ticket.masks_of")
"""Settings that name a folder."""
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Experiment:
    """All that determines a run; the fields are the tables of a TOML file.

    Examples
    --------
    A file ``recipe.toml``, for ``mirl train recipe.toml --out run``:

    .. code-block:: toml

        seed = 0

        [network]            # sizes of mirl.PromptIR
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
    """Sizes, as `mirl.PromptIR` takes them."""
    ticket: dict[str, Any] = field(default_factory=dict)
    """Arguments of `mirl.find_ticket`, but for what is not of the science: `out` and the like."""
    evaluate: dict[str, Any] | None = None
    """Arguments of `mirl.test_sets`."""
    seed: int = 0
    """Of the initial values, of the data, and of what criteria and controls draw."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raise where a setting is unknown or cannot be, as far as that shows without data."""
        for name, allowed in _settings().items():
            table = getattr(self, name)
            if table is None and name == "evaluate":
                continue
            if not isinstance(table, dict):
                raise TypeError(f"{name} must be a table, got {table!r}")
            unknown = sorted(table.keys() - allowed)
            if unknown:
                raise ValueError(f"unknown in {name}: {', '.join(unknown)}")
        _recipe({"seed": self.seed, **self.ticket})
        # Whether it is there is another question: that of the machine which runs it.
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {DEVICES}, got {self.device!r}")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Experiment:
        """Read a TOML file.

        Raises
        ------
        mirl.errors.FormatError
            The file is no TOML, or has a table, a key or a value that is none of ours.
        OSError
            The file cannot be read.
        """
        return cls.from_tables(read_toml(path), Path(path))

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], path: Path) -> Experiment:
        """Make one of the tables of a file, whose folder its paths are seen from.

        Raises
        ------
        mirl.errors.FormatError
            A table, a key or a value that is none of ours; no data.
        """
        known = {each.name for each in fields(cls)}
        unknown = sorted(tables.keys() - known)
        if "recipe" in unknown:
            raise FormatError(f"{path}: a sweep, not a recipe: `mirl sweep`, or Sweep.load")
        if unknown:
            raise FormatError(f"{path}: unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        settings: dict[str, Any] = {
            name: dict(value) if isinstance(value, dict) else value
            for name, value in tables.items()
        }
        data, evaluate = settings.get("data"), settings.get("evaluate")
        if data is not None and not isinstance(data, dict):
            raise FormatError(f"{path}: data must be a table")
        if data is None or not isinstance(data.get("root"), str):
            raise FormatError(f"{path}: the table data must name its root")
        if isinstance(evaluate, dict):
            evaluate.setdefault("root", data["root"])
        try:
            return cls(**resolved(settings, path.parent))
        except (TypeError, ValueError) as error:
            raise FormatError(f"{path}: {error}") from error

    def changed(self, changes: Mapping[str, Any]) -> Experiment:
        """The same with other values, named as in ``{"ticket.lr": 1e-3, "seed": 2}``.

        Raises
        ------
        TypeError, ValueError
            There is no such table or key, or a value that cannot be.
        """
        changed: dict[str, Any] = {}
        for name, value in changes.items():
            table, _, key = name.partition(".")
            if table not in {each.name for each in fields(self)}:
                raise ValueError(f"{name}: an experiment has no {table}")
            if key:
                value = {**(changed.get(table, getattr(self, table)) or {}), key: value}
            changed[table] = value
        # At once: what is on the way there need not fit together.
        return replace(self, **changed)

    def hash(self) -> str:
        """Eight hexadecimal digits that tell two experiments apart, whatever folders they are in."""
        settings = asdict(self)
        for name in ("data", "evaluate"):
            if settings[name]:
                settings[name].pop("root", None)
        if settings["ticket"].get("masks_of") is not None:
            settings["ticket"]["masks_of"] = Path(settings["ticket"]["masks_of"]).name
        text = json.dumps(settings, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def run(
        self,
        out: str | os.PathLike[str],
        *,
        loggers: Sequence[Logger] | None = None,
        progress: bool = True,
    ) -> Result:
        """Run it in a folder, or go on with it there; see `mirl.find_ticket`.

        Raises
        ------
        TypeError, ValueError
            A setting that is unknown or out of range, by name.
        """
        from mirl.data import Loader, Progressive, test_sets
        from mirl.loggers.base import closed_on_failure
        from mirl.lottery.loop import find_ticket
        from mirl.models import PromptIR

        with closed_on_failure(loggers or ()):
            make = Progressive.from_folder if "stages" in self.data else Loader.from_folder
            data: Loader | Progressive = make(**{"seed": self.seed, **self.data})
            sets = None if self.evaluate is None else test_sets(**self.evaluate)
            model = PromptIR(**{"seed": self.seed, **self.network}, device=self.device)
        return find_ticket(
            model,
            data,
            **{"seed": self.seed, **self.ticket},
            evaluate=sets,
            out=out,
            loggers=loggers,
            progress=progress,
        )


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
    from mirl.lottery.loop import find_ticket

    given = signature(find_ticket).parameters
    names = [each.name for each in fields(Recipe)]
    return Recipe.of(**{name: ticket.get(name, given[name].default) for name in names})


def _settings() -> dict[str, set[str]]:
    """What each table may hold."""
    from mirl.data import Loader, test_sets
    from mirl.lottery.loop import find_ticket
    from mirl.models import PromptIR

    named: dict[str, Callable[..., Any]] = {
        "network": PromptIR,
        "data": Loader.from_folder,
        "ticket": find_ticket,
        "evaluate": test_sets,
    }
    found = {name: set(signature(function).parameters) for name, function in named.items()}
    found["data"].add("stages")
    found["network"].discard("device")
    found["ticket"] -= {"model", "data", "evaluate", "out", "loggers", "progress"}
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
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: {error}") from error
