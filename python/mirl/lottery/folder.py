"""The files of a run."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from weakref import WeakSet

from mirl.errors import FormatError
from mirl.io import atomic, write_text
from mirl.load import load_native

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirl.models import Network

TRAINED = (
    " A network that was trained is no start: make it anew, or load initial.safetensors of the"
    " folder."
)
"""What is likely where nothing but the initial values differ: a cell of a notebook that ran twice."""
LEFTOVER = re.compile(r"\.mirl-\d+-\d+\.tmp(\.\w+)?|\.tmp[0-9A-Za-z]{6}")
"""Temporary names of files that appear whole: ours, and those of the safetensors library."""
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
"""What file systems without locks say, those of networks among them."""
SETTINGS = {"rounds", "rewind", "seed", "pruning", "include", "exclude", "preset"}
"""Of a recipe what others than its own run read."""
RECORD = {
    *("round", "density", "density_prunable", "layers", "loss"),
    *("metrics", "seconds", "seed", "versions"),
}
"""Of a record what is read."""


class RunFolder:
    """One run's folder: what determines it, where it stands, what came out.

    Parameters
    ----------
    path
        Made when it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.recipe = self.path / "recipe.json"
        self.record = self.path / "record.jsonl"
        self.initial = self.path / "initial.safetensors"
        self.late = self.path / "late.safetensors"
        """The network after the step that is rewound to."""
        self.dense = self.path / "dense.safetensors"
        """The whole network at the end of round 0."""
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.ticket = self.path / "ticket.mirl.safetensors"
        self.lock = self.path / ".lock"
        """Held by the process that is at the run; empty."""
        self._held: IO[bytes] | None = None

    @classmethod
    def existing(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The folder of a run that is there.

        Raises
        ------
        FileNotFoundError
            There is none.
        """
        recipe = Path(path) / "recipe.json"
        if not recipe.exists():
            raise FileNotFoundError(errno.ENOENT, "not there, so no folder of a run", str(recipe))
        return cls(path)

    def description(self) -> dict[str, Any]:
        """What determines the run.

        Raises
        ------
        mirl.errors.FormatError
            The file is damaged.
        """
        try:
            described: dict[str, Any] = json.loads(self.recipe.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FormatError(f"{self.recipe}: no recipe of a run: {error}") from error
        if not _is_description(described):
            raise FormatError(f"{self.recipe}: no recipe of a run: it lacks settings or network")
        # Which runs did not tell before there were several networks.
        for each in (described, described.get("masks_of", described)):
            each["network"].setdefault("name", "PromptIR")
        return described

    def records(self) -> list[dict[str, Any]]:
        """What is known of each finished round.

        Raises
        ------
        mirl.errors.FormatError
            The file is damaged.
        """
        if not self.record.exists():
            return []
        try:
            lines = self.record.read_text(encoding="utf-8").splitlines()
            return [_record(json.loads(line)) for line in lines]
        except (AttributeError, ValueError) as error:
            raise FormatError(f"{self.record}: no record of a run: {error}") from error

    def network(self, round_: int) -> Network:
        """The network at the end of a round."""
        return load_native(self.ticket_of(round_))

    def ticket_of(self, round_: int) -> Path:
        """The packed network at the end of a round."""
        return self.path / f"round_{round_:02d}.mirl.safetensors"

    def inherit(self, parent: RunFolder) -> None:
        """Copy what rounds start from."""
        for theirs, own in ((parent.initial, self.initial), (parent.late, self.late)):
            if theirs.exists():
                with atomic(own) as temporary:
                    shutil.copyfile(theirs, temporary)

    def claim(self, description: dict[str, Any]) -> bool:
        """Take the folder for the run that `description` determines.

        Returns
        -------
        bool
            Whether that run is to be resumed; it may have got more rounds.

        Raises
        ------
        ValueError
            The folder holds another run, or more rounds of this one; the message names what differs.
            Or a description with NaN, which nothing is equal to.
        TypeError
            A description with what JSON does not hold.
        BlockingIOError
            Another process is at the run.
        """
        wanted = json.loads(json.dumps(description, default=_refuse))
        unequal = [line.partition(" is ")[0] for line in differences("", wanted, wanted)]
        if unequal:
            raise ValueError(f"{', '.join(unequal)}: NaN, with which a run could not be resumed")
        # First: of two that begin at once, the second is to find what the first has written.
        self._lock()
        # What a process that was killed while it wrote has left behind.
        for path in self.path.iterdir():
            if LEFTOVER.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)
        if not self.recipe.exists():
            self._describe(description)
            return False
        held = self.description()
        differing = sorted(differences("", without_rounds(held), without_rounds(wanted)))
        if differing:
            raise ValueError(
                f"{self.path} holds another run: {'; '.join(differing)}."
                " Choose another folder, or the settings of that run to resume it."
                + (TRAINED if len(differing) == 1 and differing[0].startswith("initial is") else "")
            )
        there, here = held["recipe"]["rounds"], wanted["recipe"]["rounds"]
        if here < there:
            raise ValueError(
                f"{self.path} holds a run of {there} rounds: it can be extended, not shortened to"
                f" {here}; mirl.Result.load reads its results"
            )
        if held != wanted:
            self._describe(description)
        return self.checkpoint.exists()

    def _describe(self, description: dict[str, Any]) -> None:
        write_text(self.recipe, json.dumps(description, indent=2) + "\n")

    def _lock(self) -> None:
        """Keep other processes out, as long as this one lives, where there are such locks."""
        try:
            import fcntl
        except ImportError:
            return
        self._held = self.lock.open("ab")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._held.close()
            raise BlockingIOError(f"{self.path}: another process is at this run") from error
        except OSError as error:
            self._held.close()
            if error.errno in NO_LOCKS:
                return
            raise
        _HOLDING.add(self)

    def release(self) -> None:
        """Let others in."""
        if self._held is not None and not self._held.closed:
            import fcntl

            # What closing would leave to a process that another program has forked of this one.
            fcntl.flock(self._held, fcntl.LOCK_UN)
            self._held.close()

    def leave(self) -> None:
        """In a forked process: leave the lock to the one that has taken it, and end with it."""
        if self._held is not None:
            self._held.close()

    def write_record(self, records: list[dict[str, Any]]) -> None:
        """Write one JSON line for each finished round."""
        # JSON has no infinity, the PSNR of an image with itself.
        finite = (
            _measured(record, lambda value: value if math.isfinite(value) else None)
            for record in records
        )
        write_text(self.record, "".join(json.dumps(record) + "\n" for record in finite))


_HOLDING: WeakSet[RunFolder] = WeakSet()
"""Folders whose locks this process has taken."""


def _leave_all() -> None:
    for folder in list(_HOLDING):
        folder.leave()


if hasattr(os, "register_at_fork"):
    # A worker of the data would hold the lock for as long as it lives.
    os.register_at_fork(after_in_child=_leave_all)


def _refuse(value: Any) -> None:
    """Raise for what JSON does not hold; settings are looked at before."""
    kind = type(value).__name__
    raise TypeError(f"data.describe() must return what JSON holds, got {kind} in it: {value!r}")


def _is_description(value: Any) -> bool:
    """Whether it has what is read of a run's description, and of that of its masks' run."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("network"), dict)
        and isinstance(value.get("recipe"), dict)
        and value["recipe"].keys() >= SETTINGS
        and isinstance(value["recipe"]["rounds"], int)
        and ("masks_of" not in value or _is_description(value["masks_of"]))
    )


def _record(held: Any) -> dict[str, Any]:
    """The record that a line of JSON holds; raises AttributeError or ValueError where it is none."""
    if missing := sorted(RECORD - held.keys()):
        raise ValueError(f"a round without {', '.join(missing)}")
    return _measured(held, lambda value: math.inf if value is None else value)


def _measured(record: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A record whose measures are what `change` makes of them."""
    metrics = {
        task: {name: change(value) for name, value in measured.items()}
        for task, measured in record["metrics"].items()
    }
    return record | {"metrics": metrics}


def without_rounds(description: dict[str, Any]) -> dict[str, Any]:
    """What the rounds of a run follow from: all of its description but how many there are.

    So, too, of the run whose masks are taken.
    """
    recipe = {name: value for name, value in description["recipe"].items() if name != "rounds"}
    lasting = description | {"recipe": recipe}
    if "masks_of" in lasting:
        lasting["masks_of"] = without_rounds(lasting["masks_of"])
    return lasting


def differences(place: str, held: Any, wanted: Any) -> list[str]:
    """What two descriptions do not agree in; `place` is what both are in."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        lines = [
            line
            for key in {**held, **wanted}
            for line in differences(f"{place}.{key}".lstrip("."), held.get(key), wanted.get(key))
        ]
        # The samples of a loader are in the order of its tasks.
        if place.endswith(".tasks") and not lines and list(held) != list(wanted):
            lines = [f"the order of {place} is {list(held)} there and {list(wanted)} here"]
        return lines
    if isinstance(held, list) and isinstance(wanted, list) and len(held) == len(wanted):
        return [
            line
            for index, pair in enumerate(zip(held, wanted, strict=True))
            for line in differences(f"{place}[{index}]", *pair)
        ]
    return [] if held == wanted else [f"{place} is {held!r} there and {wanted!r} here"]
