"""Parameters by name: patterns, and groups that have a name of their own."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirl import _mirl

GROUPS = {
    "weights": "*weight*",
    "norms": "*.norm[12].*",
    "biases": "*bias",
    "prompts": "*prompt_param",
    "temperatures": "*temperature",
}
"""Patterns of the groups, but for ``"dead"``: what the forward never uses. ``"weights"`` is the
published rule of what may be pruned."""


def select(
    network: _mirl.Network, include: Iterable[str], exclude: Iterable[str] = ()
) -> list[str]:
    """Names of the parameters that are in `include` and not in `exclude`, in the network's order.

    Parameters
    ----------
    network
        Whose parameters.
    include, exclude
        Groups (``"weights"``, ``"norms"``, ``"biases"``, ``"prompts"``, ``"temperatures"``,
        ``"dead"``), names, or patterns of names as of a shell (``"encoder_level1.*"``).

    Raises
    ------
    ValueError
        A pattern that no parameter matches, or nothing is selected.
    """
    names = [name for name, _ in network.parameters()]
    chosen, without = (_matching(network, names, wanted) for wanted in (include, exclude))
    selected = [name for name in names if name in chosen and name not in without]
    if not selected:
        raise ValueError("include and exclude leave no parameter")
    return selected


def excluded(preset: str) -> tuple[str, ...]:
    """What a preset does not prune: the published code prunes also what the forward never uses."""
    return () if preset == "paper-code" else ("dead",)


def prunable(network: _mirl.Network, preset: str) -> list[str]:
    """Names of what a preset prunes."""
    return select(network, ("weights",), excluded(preset))


def _matching(network: _mirl.Network, names: list[str], wanted: Iterable[str]) -> set[str]:
    if isinstance(wanted, str) or not isinstance(wanted, Iterable):
        raise TypeError(f"include and exclude are sequences of names, got {wanted!r}")
    found: set[str] = set()
    for pattern in wanted:
        if not isinstance(pattern, str):
            raise TypeError(f"include and exclude are sequences of names, got {pattern!r} in one")
        if pattern == "dead":
            found.update(name for name in names if network.is_unused(name))
            continue
        shape = GROUPS.get(pattern, pattern)
        matching = [name for name in names if fnmatchcase(name, shape)]
        # A network may have none of a group, like Restormer of prompts; a pattern is mistyped then.
        if not matching and pattern not in GROUPS:
            raise ValueError(f"no parameter matches {pattern!r}; groups: dead, {', '.join(GROUPS)}")
        found.update(matching)
    return found
