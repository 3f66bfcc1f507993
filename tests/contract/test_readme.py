"""The README's own words: its two commands stand alone in a line, its example runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "job", ['pip install ".[demo]" && mirl demo', 'pip install ".[test]" && pytest']
)
def test_commands(job):
    assert job in README.splitlines()


def test_example_runs(tmp_path):
    pytest.importorskip("skimage")
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    command = [sys.executable, "-W", "error", "-c", example]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "ticket.mirl.safetensors").exists()
