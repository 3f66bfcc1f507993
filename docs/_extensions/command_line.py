"""A section for each command, with what `mirl VERB --help` says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from typer.testing import CliRunner

from mirl.cli import app as commands

if TYPE_CHECKING:
    from sphinx.application import Sphinx

COLUMNS = "88"
"""Width of the help texts: what fits on a page."""


def help_of(*verb: str) -> str:
    """The help text of a command; without one, of all."""
    environment = {"COLUMNS": COLUMNS, "NO_COLOR": "1"}
    run = CliRunner().invoke(commands, [*verb, "--help"], prog_name="mirl", env=environment)
    if run.exit_code != 0:
        raise RuntimeError(f"mirl {' '.join(verb)} --help: {run.output}")
    return run.output.strip("\n")


class CommandLine(SphinxDirective):
    """``command-line``: the commands, in the order of the program."""

    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Make a section for all, and one for each."""
        made: list[nodes.Node] = [nodes.literal_block(text=help_of(), language="text")]
        for command in commands.registered_commands:
            verb = command.name or command.callback.__name__  # type: ignore[union-attr]
            section = nodes.section(ids=[f"mirl-{verb}"], names=[f"mirl {verb}"])
            section += nodes.title(text=f"mirl {verb}")
            section += nodes.literal_block(text=help_of(verb), language="text")
            made.append(section)
        return made


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
