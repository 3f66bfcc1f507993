"""Text that fits a terminal, and progress bars on it."""

from __future__ import annotations

import html
import sys
from contextlib import suppress
from typing import IO, Any, ClassVar

WIDTH = 80
"""Columns that every table keeps to."""
SECONDS_APART = 60
"""Least time between two pictures of a bar in a file, where each one stays."""


def shortened(text: str, width: int = WIDTH) -> str:
    """Cut a line to `width` columns, the last of which says so by an ellipsis."""
    cut = text if len(text) <= width else f"{text[: width - 1]}…"
    return printable(cut.replace("\n", " "))


def printable(text: str) -> str:
    """Replace all but line breaks that a terminal does not print: it may take them for commands."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def preformatted(text: str) -> str:
    """The same for a notebook."""
    return f"<pre>{html.escape(text)}</pre>"


class _Screen:
    """A stream for bars: what it cannot take, on a full disk say, ends no run."""

    _last: ClassVar[_Screen | None] = None

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    @classmethod
    def of(cls, stream: IO[str]) -> _Screen:
        """The one of a stream: by it tqdm finds the bars that are there."""
        if cls._last is None or cls._last._stream is not stream:
            cls._last = cls(stream)
        return cls._last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def redraws() -> bool:
    """Whether bars can be drawn over: stderr is a terminal, or this a notebook."""
    if sys.stderr is None:
        return False
    return getattr(sys.stderr, "isatty", bool)() or "ipykernel" in sys.modules


def bar(progress: bool, **settings: Any) -> Any:
    """A progress bar of tqdm, which takes the settings; hidden where there is no stderr.

    In a file it is drawn but once a minute, and not at all where it is not to stay.
    """
    import tqdm

    if not redraws():
        progress = progress and sys.stderr is not None and settings.get("leave", True)
        settings |= {"mininterval": SECONDS_APART, "maxinterval": SECONDS_APART}
    if not progress:
        return tqdm.tqdm(disable=True, **settings)
    # Which warns in a notebook that lacks ipywidgets.
    import tqdm.auto

    return tqdm.auto.tqdm(file=_Screen.of(sys.stderr), **settings)


def say(text: str) -> None:
    """Write a line to stderr, above the bars that are there."""
    import tqdm

    if sys.stderr is not None:
        tqdm.tqdm.write(text, file=_Screen.of(sys.stderr))
