"""Functions among settings, by name: in files, in hashes, in folders."""

from __future__ import annotations

from typing import Any


def function_name(function: Any) -> str:
    """The module and the name of what is called, the same in every process.

    Parameters
    ----------
    function
        Partial functions, and objects that are called, have no name of their own: theirs is that of
        their class.

    Returns
    -------
    str
        ``"module.name"``.
    """
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def as_text(value: Any) -> str:
    """What JSON does not know, as text: the ``default`` of `json.dumps`."""
    return function_name(value) if callable(value) else str(value)
