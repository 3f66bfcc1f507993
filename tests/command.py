"""The command line, in this process and in one of its own."""

import os
import re
import subprocess
import sys

from typer.testing import CliRunner

from mirl.cli import app


def mirl_command(*arguments):
    """Run the command in this process; it must end well and keep to 80 columns."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    # The folders of the tests are longer than users'.
    lines = re.sub(r"/\S*/", "", result.output).splitlines()
    assert max(map(len, lines), default=0) <= 80
    return result.output


def mirl_process(*arguments, **environment):
    """Run it as users do."""
    return subprocess.run(
        [sys.executable, "-m", "mirl", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"COLUMNS": "80"} | environment,
    )
