"""Noisy patches in the way of the published training code: Pillow, numpy and a DataLoader."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Photo = NDArray[np.uint8]

_MULTIPLE = 16


class Patches(Dataset):
    """One patch of every image; decoded each time, or once and kept for all workers."""

    def __init__(self, files: Sequence[Path], patch_size: int, sigma: float, keep: bool) -> None:
        self.files = files
        self.patch_size = patch_size
        self.sigma = sigma
        self.kept = [decode(file) for file in files] if keep else None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = decode(self.files[index]) if self.kept is None else self.kept[index]
        clean = augment(random_crop(image, self.patch_size))
        noise = np.random.randn(*clean.shape) * self.sigma
        noisy = np.clip(clean + noise, 0, 255).astype(np.uint8)
        return to_tensor(noisy), to_tensor(clean)


def decode(file: Path) -> Photo:
    """The image, cropped around its centre to a multiple of 16."""
    image = np.array(Image.open(file).convert("RGB"))
    height, width = (length - length % _MULTIPLE for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def random_crop(image: Photo, size: int) -> Photo:
    top = random.randint(0, image.shape[0] - size)
    left = random.randint(0, image.shape[1] - size)
    return image[top : top + size, left : left + size]


def augment(patch: Photo) -> Photo:
    """One of the seven flips and rotations that are not the identity."""
    turns, flip = divmod(random.randint(1, 7), 2)
    patch = np.rot90(patch, turns)
    return np.flipud(patch) if flip else patch


def to_tensor(patch: Photo) -> torch.Tensor:
    planes = torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))
    return planes.to(torch.float32).div_(255)


def batches(
    files: Sequence[Path],
    *,
    patch_size: int,
    sigma: float,
    batch_size: int,
    workers: int,
    keep: bool,
) -> DataLoader[Any]:
    return DataLoader(
        Patches(files, patch_size, sigma, keep),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
    )
