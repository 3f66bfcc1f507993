"""The rooms of the core: knowledge flows one way, and Python is known in one room only."""

import re
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"

BESIDE = ("prune", "optim", "data", "metrics", "io")
"""Rooms that know parameters, slices and files, never a network."""


def rank():
    """Rooms by height, from the map in src/lib.rs; those beside nn lie between it and models."""
    line = re.search(
        r"^//! (error < .*) < python/mirl$", (SRC / "lib.rs").read_text(), re.MULTILINE
    )
    levels = [level.split(", ") for level in line.group(1).split(" < ")]
    levels.insert(levels.index(["nn"]) + 1, BESIDE)
    return {room: height for height, level in enumerate(levels) for room in level}


RANK = rank()
FILES = sorted(SRC.rglob("*.rs"))


def room_of(path):
    return path.relative_to(SRC).parts[0].removesuffix(".rs")


def code_of(path):
    return re.sub(r"//.*", "", path.read_text())


def split_group(text):
    """The items of the brace group that `text` starts with, nested ones left whole."""
    items, depth = [""], 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth == 0:
            break
        if character == "," and depth == 1:
            items.append("")
        else:
            items[-1] += character
    return [item.lstrip("{").strip() for item in items]


def rooms_used(code):
    paths = re.findall(r"\bcrate::(\w+)", code)
    for group in re.finditer(r"\bcrate::(?=\{)", code):
        paths += [re.match(r"\w*", item)[0] for item in split_group(code[group.end() :])]
    return {path for path in paths if path in RANK}


def test_groups_and_plain_paths_are_found():
    code = "use crate::{Error, nn::{A, ops}, models};\nfn f() { crate::io::read() }"
    assert rooms_used(code) == {"nn", "models", "io"}


def test_the_map_names_every_room():
    rooms = {room_of(path) for path in FILES} - {"lib"}
    assert rooms == set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_no_room_knows_one_above_it(path):
    if path.name == "lib.rs":
        return
    here = room_of(path)
    above = {room for room in rooms_used(code_of(path)) if RANK[room] > RANK[here]}
    assert not above


def test_python_is_known_in_one_room_only():
    outside = [path for path in FILES if room_of(path) != "py"]
    assert [path for path in outside if re.search(r"\b(pyo3|numpy)\b", code_of(path))] == []
    inside = [path for path in FILES if room_of(path) == "py"]
    assert any("pyo3" in code_of(path) for path in inside)
