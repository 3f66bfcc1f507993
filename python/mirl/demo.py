"""The lottery-ticket experiment, small, on photos that scikit-image ships."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirl.data import Loader, TestSet
from mirl.extras import need
from mirl.lottery import find_ticket
from mirl.models import PromptIR
from mirl.plot import image_grid, save_figure, ticket_curve
from mirl.tasks import task_name

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from mirl.lottery import Result

TRAIN_PHOTOS = ("astronaut", "rocket", "stereo_motorcycle")
TEST_PHOTOS = ("chelsea", "coffee")
"""The colour photos of scenes in scikit-image's wheel; none is in both."""

TASKS = ("denoise_15", "denoise_25", "denoise_50", "derain", "dehaze")

NETWORK: dict[str, Any] = {
    "dim": 16,
    "num_blocks": (1, 1, 1, 1),
    "num_refinement_blocks": 1,
    "prompt_dims": (16, 32, 80),
    "prompt_sizes": (16, 8, 4),
}
"""PromptIR at a third of the width with a block a level: 4 % of the parameters."""

TRAINING: dict[str, Any] = {"amount": 0.4, "lr": 2e-3, "betas": (0.9, 0.99), "clip_grad_norm": 0.1}
"""For minutes instead of days: ten times the published rate, held in check by clipping."""

FULL: dict[str, Any] = {"rounds": 3, "epochs": 6}
QUICK: dict[str, Any] = {"rounds": 1, "epochs": 3}

REPEATS = {"denoise": 9, "derain": 36, "dehaze": 18}
"""Noise counts three times, for its three σ; rain is the slowest to learn."""

CROP = (160, 224)
"""Height and width of the pictures in the grid, where single pixels are still seen."""


def demo(
    out: str | os.PathLike[str] | None = None, *, quick: bool = False, progress: bool = True
) -> Result:
    """Train a small PromptIR on three tasks together, prune, rewind, and measure every round.

    Noise (σ 15, 25, 50), synthetic rain and synthetic haze; training and test photos are disjoint.
    What each round is worth is printed; `out` gets the run's record, checkpoint and tickets,
    ``quality.png`` and ``pictures.png``. Called again, it goes on where it was stopped.

    Parameters
    ----------
    out
        Folder of the results; by default ``mirl-demo``, or ``mirl-demo-quick`` of a `quick` one.
    quick
        One round of pruning and less training instead of three rounds, for a first look.
    progress
        Whether to show progress bars.

    Returns
    -------
    Result
        The ticket and the record of every round.

    Raises
    ------
    ImportError
        scikit-image or matplotlib is not installed.
    ValueError
        `out` holds another run.
    """
    need("demo", "matplotlib", "skimage")
    out = Path(out or ("mirl-demo-quick" if quick else "mirl-demo"))
    sets = held_out()
    data = Loader.from_images(
        photos(TRAIN_PHOTOS),
        repeats=REPEATS,
        batch_size=2,
        patch_size=64,
    )
    result = find_ticket(
        PromptIR(**NETWORK),
        data,
        **TRAINING,
        **(QUICK if quick else FULL),
        evaluate=sets,
        out=out,
        progress=progress,
    )
    _draw(result, sets, out)
    print(result.table())
    print(f"\n{_verdict(result.rounds[-1]['metrics'])}")
    print(f"In {out}: ticket.mirl.safetensors, record.jsonl,")
    print("quality.png (quality against density), pictures.png (input, restored, clean)")
    return result


def photos(names: tuple[str, ...]) -> list[NDArray[np.uint8]]:
    """Read photos from scikit-image's own files: uint8, shape (H, W, 3).

    Parameters
    ----------
    names
        Of functions in ``skimage.data`` that return a photo, or a stereo pair: then the left one.
    """
    from skimage import data

    loaded = [getattr(data, name)() for name in names]
    return [photo[0] if isinstance(photo, tuple) else photo for photo in loaded]


def held_out() -> list[TestSet]:
    """Degrade the test photos, for each task once."""
    images = photos(TEST_PHOTOS)
    return [TestSet.from_images(images, task, name="skimage") for task in TASKS]


def _draw(result: Result, sets: list[TestSet], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    ticket_curve(result.rounds, figure.subplots())
    save_figure(figure, out / "quality.png")
    rows = []
    for index, test_set in enumerate(sets):
        _, degraded, clean = list(test_set)[index % len(test_set)]
        restored = result.model(degraded[np.newaxis])[0]
        rows.append(
            (task_name(test_set.task), _centre(degraded), _centre(restored), _centre(clean))
        )
    image_grid(rows, out / "pictures.png")


def _centre(image: NDArray[np.float32]) -> NDArray[np.float32]:
    top, left = ((have - want) // 2 for have, want in zip(image.shape[1:], CROP, strict=True))
    return image[:, top : top + CROP[0], left : left + CROP[1]]


def _verdict(metrics: dict[str, dict[str, float]]) -> str:
    gains = {task: each["psnr"] - each["psnr_input"] for task, each in metrics.items()}
    lost = [task_name(task) for task, gain in gains.items() if gain <= 0]
    if lost:
        return f"Restored is no better than the input on: {', '.join(lost)}."
    return (
        f"Restored beats the input on every task, by {min(gains.values()):.1f} dB of PSNR or more."
    )
