"""`import mirl` is cheap: numpy and the package's own modules, nothing else."""

import json
import subprocess
import sys

SECONDS = 0.2
"""Most that the package may add to `import numpy`."""

SCRIPT = """
import json, sys, time
import numpy
before = set(sys.modules)
start = time.process_time()
import mirl
seconds = time.process_time() - start
print(json.dumps([seconds, sorted(set(sys.modules) - before)]))
"""


def imported():
    """Seconds of `import mirl` in a fresh interpreter, and the modules it loads beyond numpy's."""
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_only_numpy_is_imported():
    _, modules = imported()
    packages = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    # From Python 3.15 on, a distributor may say there what it has left out of the standard library.
    assert packages - {"numpy", "mirl_cuda", "_missing_stdlib_info"} == {"mirl"}


def test_import_is_quick():
    assert min(imported()[0] for _ in range(5)) < SECONDS


def test_without_numpy_it_is_an_import_error():
    """And not a panic of the core, which nothing would catch."""
    script = """
import sys
sys.modules["numpy"] = None
for name in ("mirl", "mirl._mirl"):
    try:
        __import__(name)
    except ImportError:
        print("told")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "told\ntold\n", run.stderr
    assert "panicked" not in run.stderr
