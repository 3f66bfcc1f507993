"""What all tests share: where the reference values lie, and a network small enough to be quick."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import mirl
from reference import SMALL, random_images

BESIDE = Path(__file__).resolve().parents[2] / "shared"
SHARED = Path(os.environ.get("MIRL_SHARED", BESIDE)).absolute()

# A shell's background jobs ignore Ctrl-C, and so would what tests start to be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared():
    """The folder of reference values and images that lies beside a developer's clone."""
    if not SHARED.is_dir():
        pytest.skip("reference values and images (../shared, or MIRL_SHARED) are not there")
    return SHARED


@pytest.fixture
def cuda():
    """The GPU, or the emulated one, in float32 throughout."""
    says = mirl.devices()["cuda"]
    if says.startswith("not there"):
        pytest.skip(f"CUDA is {says}")
    before = mirl.get_float32_matmul_precision()
    mirl.set_float32_matmul_precision("highest")
    yield "cuda"
    mirl.set_float32_matmul_precision(before)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    """The processor, then the GPU: for tests of what both must do."""
    return request.param if request.param == "cpu" else request.getfixturevalue("cuda")


@pytest.fixture
def threads():
    """Sets the number of threads; puts it back afterwards."""
    before = mirl.get_num_threads()
    yield mirl.set_num_threads
    mirl.set_num_threads(before)


@pytest.fixture
def small():
    """A network of all parts, 1 % of the published size."""
    return mirl.PromptIR(seed=1, **SMALL)


@pytest.fixture
def batch():
    """A degraded and a clean batch."""
    clean = random_images(0, (2, 3, 16, 24))
    noise = np.random.default_rng(1).normal(0, 0.1, clean.shape).astype(np.float32)
    return np.clip(clean + noise, 0, 1), clean
