"""A photo by every degradation, and patches of a loader beside their clean ones.

``python tests/degraded.py`` writes degraded.png, where there is a new degradation. The rest stays as it
is: data follow from their seeds between versions, too.
"""

from pathlib import Path

import numpy as np

import mirl
from dataset import photo

PICTURE = Path(__file__).with_name("degraded.png")
STEPS = (
    *("noise:25", "poisson:50", "iso:0.01", "rain", "haze", "underwater", "lowlight:3"),
    *("blur:1.5", "motion:7", "sharpen:0.8", "resize:0.5", "jpeg:30", "halftone", "social"),
)
TASKS = ("denoise", "rain", "haze", "underwater")
SPREADING = {"jpeg:30", "halftone", "social"}
"""What turns a level into many, here and there."""
PATCH = 24
"""Half of a photo's width."""


def pictures():
    """By name, each as wide as the photo."""
    for step in STEPS:
        yield step, mirl.degrade(photo(1), step, seed=3, name="a")
    for augment in ("all", "paper-code"):
        settings = {"tasks": TASKS, "sigmas": (25,), "patch_size": PATCH, "batch_size": len(TASKS)}
        loader = mirl.Loader.from_images([photo(2)], augment=augment, seed=4, **settings)
        for pairs in loader:
            sides = [np.rint(255 * each).astype(np.uint8) for each in pairs]
            rows = np.concatenate(sides, axis=3).transpose(0, 2, 3, 1)
            yield f"patches, {augment}", np.concatenate(list(rows))


if __name__ == "__main__":
    made = [picture for _, picture in pictures()]
    mirl.write_image(PICTURE, np.concatenate(made), force=True)
