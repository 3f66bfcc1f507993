"""The recipes of the golden values, and the sizes of a small network."""

import json
import zlib

import numpy as np

SMALL = {
    "dim": 8,
    "num_blocks": (1, 1, 1, 1),
    "num_refinement_blocks": 1,
    "prompt_dims": (8, 16, 40),
    "prompt_sizes": (8, 4, 2),
}
SMALL_RESTORMER = {"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1}
SMALL_DYNET = SMALL | {"num_blocks": (4, 6, 6, 8)}  # which a state dict is taken for
SMALL_SYMUNET = {"dim": 8, "num_blocks": (1, 1, 1, 1)}
# How the names of the convolutions begin that the forward never uses.
UNUSED = ("chnl_reduce", "reduce_noise_channel")


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


def statistics(values):
    """What the golden values hold of an array."""
    flat = values.astype(np.float64).ravel()
    return np.array([flat.mean(), flat.std(), np.abs(flat).sum(), *flat[:4]])


def golden(shared, name):
    return json.loads((shared / "goldens" / name).read_text())
