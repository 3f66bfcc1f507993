"""What all tests share: where the reference values lie, and networks small enough to be quick."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

import mirl

SHARED = Path(__file__).resolve().parents[2] / "shared"

SMALL = {
    "dim": 8,
    "num_blocks": (1, 1, 1, 1),
    "num_refinement_blocks": 1,
    "prompt_dims": (8, 16, 40),
    "prompt_sizes": (8, 4, 2),
}


@pytest.fixture(scope="session")
def shared():
    """The folder of reference values and images that lies beside a developer's clone."""
    if not SHARED.is_dir():
        pytest.skip("reference values and images (../shared) are not beside this clone")
    return SHARED


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


def random_images(key, shape):
    """Uniform pixels, by the recipe of the golden values."""
    rng = np.random.Generator(np.random.PCG64([20251014, key]))
    return rng.random(shape).astype(np.float32)


def golden_state(shapes):
    """The parameters behind the golden values, which follow from their names."""
    state = {}
    for name, shape in shapes.items():
        rng = np.random.Generator(np.random.PCG64([20251014, zlib.crc32(name.encode())]))
        if name.endswith(("norm1.body.weight", "norm2.body.weight", "temperature")):
            values = 1 + 0.1 * rng.standard_normal(shape)
        elif name.endswith("bias"):
            values = 0.1 * rng.standard_normal(shape)
        elif name.endswith("prompt_param"):
            values = rng.random(shape)
        else:
            values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        state[name] = values.astype(np.float32)
    return state


def golden(shared, name):
    return json.loads((shared / "goldens" / name).read_text())
