"""What a large image needed goes back to the system once the calls are small."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import numpy as np
import mirl
from reference import SMALL

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

model = mirl.PromptIR(**SMALL)
before = resident()
model(np.zeros((1, 3, 1400, 1400), np.float32))
large = resident()
for _ in range(40):
    model(np.zeros((1, 3, 16, 16), np.float32))
print(before, large, resident())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for its memory")
def test_memory_goes_back_after_small_calls():
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-c", PROGRAM]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tests).stdout
    before, large, after = map(int, out.split())
    assert large - before > 500_000
    assert after - before < (large - before) / 2
