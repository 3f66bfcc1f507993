"""Draws images/degradations.png: every degradation of `mirl.degrade` on a photo of scikit-image.

Run it as ``python docs/degradations.py``, after a change of what they look like.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from skimage import data as photos

import mirl

DEGRADATIONS = (
    "noise:25",
    "poisson:30",
    "iso:0.012",
    "rain",
    "haze",
    "underwater",
    "lowlight:2",
    "blur:2",
    "motion:13",
    "sharpen:3",
    "resize:0.25",
    "jpeg:10",
    "halftone",
    "social",
)
"""In the order of the docstring, strong enough to be seen."""
SEED = 3
COLUMNS = 3
TITLE = 22
"""Height of what is written above a picture, pixels."""
GAP = 8
DPI = 100


def main() -> None:
    """Draw a picture in each cell, a pixel of the photo on a pixel of the file."""
    photo = photos.chelsea()[30:170, 122:342]
    cells = {"unchanged": photo}
    cells |= {steps: mirl.degrade(photo, steps, seed=SEED) for steps in DEGRADATIONS}
    height, width = photo.shape[:2]
    rows = -(-len(cells) // COLUMNS)
    size = COLUMNS * (width + GAP) - GAP, rows * (TITLE + height + GAP) - GAP
    figure = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI, facecolor="white")
    for index, (name, picture) in enumerate(cells.items()):
        row, column = divmod(index, COLUMNS)
        left = column * (width + GAP)
        bottom = size[1] - (row + 1) * (TITLE + height + GAP) + GAP
        place = (left / size[0], bottom / size[1], width / size[0], height / size[1])
        axis = figure.add_axes(place)
        axis.imshow(picture, interpolation="nearest", aspect="auto")
        axis.set_axis_off()
        y = (bottom + height + 6) / size[1]
        figure.text(left / size[0], y, name, family="monospace", fontsize=10)
    path = Path(__file__).parent / "images" / "degradations.png"
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]
    Image.fromarray(pixels.copy()).save(path, optimize=True)


if __name__ == "__main__":
    main()
