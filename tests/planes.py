"""Images plane by plane, as data gives them, and those that they were made of."""

import numpy as np


def to_uint8(planes):
    """Undo the loader's conversion: planes in [0, 1] to uint8 (H, W, C)."""
    values = np.rint(planes * 255).astype(np.uint8)
    assert (values / np.float32(255) == planes).all()
    return values.transpose(1, 2, 0)


def places(patch, image):
    """Where a patch lies in an image."""
    windows = np.lib.stride_tricks.sliding_window_view(image, patch.shape)
    return np.argwhere((windows == patch).all(axis=(2, 3, 4, 5)))


def bits(batches):
    return [(degraded.tobytes(), clean.tobytes()) for degraded, clean in batches]
