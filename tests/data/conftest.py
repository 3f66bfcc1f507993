"""What is drawn from: a dataset in its folder, one that is damaged, and arrays."""

import numpy as np
import pytest

import mirl
from dataset import photo, write_dataset


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path)


@pytest.fixture(scope="session")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + i, 50 - i, 3), np.uint8) for i in range(5)]


@pytest.fixture
def spoilt(root):
    """The dataset with an image too small, one that is no image, and one that ends too soon."""
    folder = root / "train/denoise/Photos"
    mirl.write_image(folder / "small.png", photo(3)[:10])
    (folder / "text.jpg").write_text("hello")
    whole = (folder / "photo0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    return root
