"""Packages that come with extras, as ``pip install "mirl[plot]"`` names them."""

from __future__ import annotations

from importlib import import_module


def need(extra: str, *modules: str) -> None:
    """Raise where a package of an extra is not installed: best before anything is done.

    Parameters
    ----------
    extra
        The extra that brings them.
    *modules
        Of the packages, by the names that they are imported by.

    Raises
    ------
    ImportError
        The first that is missing, and how to install it.
    """
    try:
        for module in modules:
            import_module(module)
    except ImportError as error:
        message = f'{module} is not installed: pip install "mirl[{extra}]"'
        raise ImportError(message, name=module) from error
