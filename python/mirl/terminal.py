"""Text that fits a terminal."""

from __future__ import annotations

import html

WIDTH = 80
"""Columns that every table keeps to."""


def shortened(text: str, width: int = WIDTH) -> str:
    """Cut a line to `width` columns, the last of which says so by an ellipsis."""
    text = text.replace("\n", " ")
    return text if len(text) <= width else f"{text[: width - 1]}…"


def preformatted(text: str) -> str:
    """The same for a notebook."""
    return f"<pre>{html.escape(text)}</pre>"
