"""A tiny dataset in the published folder layout."""

import numpy as np

from mirl import write_image

HEIGHT, WIDTH = 40, 48


def photo(key):
    """A smooth colour image, uint8 (H, W, 3)."""
    rng = np.random.default_rng(key)
    y, x = np.mgrid[:HEIGHT, :WIDTH, :1][:2] / WIDTH
    waves = np.sin(2 * np.pi * (x * rng.uniform(1, 4, 3) + y * rng.uniform(1, 4, 3)))
    return np.rint(127.5 + 110 * waves).astype(np.uint8)


def write_dataset(root):
    """Write train and test photos: two to denoise, one pair of rain, one of haze."""
    for offset, split in enumerate(("train", "test")):
        noisy = root / split / "denoise" / "Photos"
        noisy.mkdir(parents=True)
        for index in range(2):
            write_image(noisy / f"photo{index}.png", photo(10 * offset + index))
        for task, ending in (("derain", "rainy"), ("dehaze", "hazy")):
            pair = root / split / task / "Pairs"
            for part in ("input", "target"):
                (pair / part).mkdir(parents=True)
            clean = photo(10 * offset + 5)
            degraded = clean // 2 + 100
            write_image(pair / "target" / "one_gt.png", clean)
            write_image(pair / "input" / f"one_{ending}.png", degraded)
    return root
