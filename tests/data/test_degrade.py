"""Degradations: what each does to an image, that it follows from its seed, and what is refused."""

import numpy as np
import pytest

import mirl
from dataset import photo
from degraded import PICTURE, SPREADING, STEPS, pictures
from mirl.data import degrade


def test_data_of_a_seed_are_what_they_always_were():
    """To a level, as machines round; where errors spread, but for few pixels."""
    held, start = mirl.read_image(PICTURE).pixels, 0
    for name, made in pictures():
        expected = held[start : start + len(made)]
        start += len(made)
        differing = np.abs(made.astype(int) - expected) > 1
        assert differing.mean() <= (0.01 if name in SPREADING else 0), name
    assert start == len(held)


@pytest.mark.parametrize("task", ["denoise_15", "denoise_12.5", "derain", "dehaze"])
def test_a_degradation_follows_from_seed_and_name(task):
    image = photo(1)
    before = image.copy()
    first = degrade(image, task, seed=1, name="a")
    np.testing.assert_array_equal(image, before)
    assert (first.dtype, first.shape) == (np.uint8, image.shape)
    np.testing.assert_array_equal(first, degrade(image, task, seed=1, name="a"))
    for other in (degrade(image, task, seed=2, name="a"), degrade(image, task, seed=1, name="b")):
        assert (first != other).any()


@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_noise_is_gaussian_and_truncated(sigma):
    grey = np.full((400, 400, 3), 128, np.uint8)
    error = degrade(grey, f"denoise_{sigma}").astype(float) - 128
    # The mean of Gaussian noise cut off to whole numbers is half a step below zero.
    clipped = np.clip(np.random.default_rng(0).normal(128, sigma, 10**6), 0, 255) - 128
    assert error.mean() == pytest.approx(clipped.mean() - 0.5, abs=6 * sigma / np.sqrt(error.size))
    assert error.std() == pytest.approx(clipped.std(), rel=0.01)
    quantiles = [0.02, 0.16, 0.5, 0.84, 0.98]
    expected = np.quantile(clipped, quantiles) - 0.5
    np.testing.assert_allclose(np.quantile(error, quantiles), expected, atol=0.03 * sigma + 0.6)
    flat = error.reshape(-1, 3)
    assert np.abs(np.corrcoef(flat.T) - np.eye(3)).max() < 0.02


def test_rain_adds_the_same_light_to_all_channels():
    image = np.full((200, 300, 3), (20, 50, 80), np.uint8)
    for seed in range(10):
        light = degrade(image, "derain", seed=seed).astype(int) - image
        assert light.min() == 0
        assert 0.005 < (light > 5).mean() < 0.8
        unclipped = light.max(axis=2) < 255 - 80
        assert np.ptp(light[unclipped], axis=-1).max() == 0


def test_rain_falls_in_one_direction():
    """The structure tensor of a shower has one small eigenvalue, along a steep direction."""
    black = np.zeros((256, 256, 3), np.uint8)
    for seed in range(10):
        layer = degrade(black, "derain", seed=seed)[..., 0].astype(float)
        dy, dx = np.gradient(layer)
        tensor = np.array([[(dx * dx).sum(), (dx * dy).sum()], [(dx * dy).sum(), (dy * dy).sum()]])
        values, vectors = np.linalg.eigh(tensor)
        assert values[0] < 0.35 * values[1]
        across, down = np.abs(vectors[:, 0])
        assert np.degrees(np.arctan2(across, down)) < 40


def test_rain_is_about_as_heavy_as_in_rain100l(shared):
    folder = shared / "data/test/derain/Rain100L/target"
    clean = [mirl.read_image(path).pixels for path in sorted(folder.iterdir())[::4]]
    pairs = [(degrade(image, "derain", seed=i), image) for i, image in enumerate(clean)]
    quality = [mirl.psnr(*(image / 255 for image in pair)) for pair in pairs]
    # Rain100L: 25.5 dB on average, and nine of ten between 20 and 32.
    assert 23.5 < np.mean(quality) < 27.5
    assert 17 < np.min(quality) < np.max(quality) < 38


def test_haze_is_the_scattering_model():
    black, white = (np.full((60, 80, 3), value, np.uint8) for value in (0, 255))
    steps, seen = [], 0
    for seed in range(30):
        low, high = (degrade(i, "dehaze", seed=seed).astype(float) / 255 for i in (black, white))
        transmission = high - low
        light = low / (1 - transmission)
        step = 1 / 255
        assert (transmission > np.exp(-1.8) - step).all()
        assert (transmission < 1).all()
        far = transmission < 0.7
        assert (light[far] > 0.7 - 2 * step / 0.3).all()
        assert (light[far] < 1 + 2 * step / 0.3).all()
        if far.any():
            assert np.ptp(light[far]) < 8 * step
        seen += far.any()
        assert np.ptp(transmission, axis=2).max() <= 2 * step
        steps.append(transmission[:10].mean() < transmission[-10:].mean())
    assert seen > 10
    # Mostly, what is above is farther away.
    assert np.mean(steps) > 0.6


def gaussian(image, sigma):
    """As far as four standard deviations, with the edge's pixels beyond it."""
    radius = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        width = [(radius, radius) if axis == at else (0, 0) for at in range(3)]
        padded = np.pad(image.astype(float), width, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis)
        image = windows @ kernel
    return image


@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.5, 4, 20])
def test_blur_is_a_gaussian(images, sigma):
    for image in (images[0], images[1][:, :1], images[2][:1]):
        found = degrade(image, f"blur:{sigma}").astype(float)
        assert np.abs(found - gaussian(image, sigma)).max() < 0.51


@pytest.mark.parametrize("amount", [0.5, 3, 10])
def test_sharpening_is_an_unsharp_mask(amount):
    image = photo(1)
    expected = image + amount * (image - gaussian(image, 1.0))
    found = degrade(image, f"sharpen:{amount}").astype(float)
    assert np.abs(found - np.clip(expected, 0, 255)).max() < 0.51


def test_bad_degradations_are_refused():
    image = photo(0)
    for task in ("denoise", "denoise_"):
        with pytest.raises(ValueError, match=rf"'{task}' says no sigma: denoise_25"):
            degrade(image, task)
    with pytest.raises(ValueError, match=r"sigma: .*noise needs a number"):
        degrade(image, "denoise_x")
    for task in (["blur:1"], 25):
        with pytest.raises(TypeError, match=f"task must be a string.* got {type(task).__name__}"):
            degrade(image, task)
    for sigma in ("0", "-3", "nan", "inf", "0.1"):
        with pytest.raises(ValueError, match=r"sigma: .* between 1 and 1000"):
            degrade(image, f"denoise_{sigma}")
    for task, message in {
        "": "there is no ''|there is no \"\"",
        "fog": "there is no .*fog.*there are noise, poisson",
        "blur": "blur needs a strength",
        "rain:3": "rain has no strength",
        "blur:2+jpeg:0": "between 1 and 100",
        "jpeg:60-40": "jpeg:LOW-HIGH",
    }.items():
        with pytest.raises(ValueError, match=message):
            degrade(image, task)
    with pytest.raises(TypeError, match="float32"):
        degrade(image.astype(np.float32), "derain")


@pytest.mark.parametrize(
    ("channels", "hint"),
    [
        (0, r"np\.dstack\(\[image\] \* 3\) makes it RGB"),
        ([0], r"image\[:, :, \[0, 0, 0\]\] makes it RGB"),
        ([0, 1], r"image\[:, :, \[0, 0, 0\]\] makes it RGB"),
        ([0, 1, 2, 0], r"image\[:, :, :3\] leaves alpha out"),
    ],
)
def test_what_is_no_photo_is_told_how_to_become_one(channels, hint, tmp_path):
    image = photo(0)[..., channels]
    with pytest.raises(ValueError, match=rf"expected shape \(H, W, 3\) .*; {hint}"):
        degrade(image, "derain")
    for take in (mirl.TestSet.from_images, lambda images, _: mirl.Loader.from_images(images)):
        with pytest.raises(ValueError, match=r"image 1: expected shape \(H, W, 3\)"):
            take([photo(0), image], "derain")
    mirl.write_image(tmp_path / "x.png", photo(0))
    with pytest.raises(TypeError, match=r"its \.pixels"):
        degrade(mirl.read_image(tmp_path / "x.png"), "derain")


@pytest.mark.parametrize("step", [*STEPS, "lowlight:2-4", "motion:5-9", "resize:0.3-0.6"])
def test_every_step_changes_an_image_and_is_seeded(step):
    image = photo(3)
    first = degrade(image, step, seed=1, name="a")
    assert first.shape == image.shape
    assert (first != image).any()
    np.testing.assert_array_equal(first, degrade(image, step, seed=1, name="a"))
    # Smaller than any kernel or block.
    assert degrade(image[:1, :2].copy(), step).shape == (1, 2, 3)


def test_images_are_degraded_at_once():
    images = np.stack([photo(key) for key in range(3)])
    together = degrade(images, "noise:25 + jpeg:50", seed=1, name="a")
    assert together.shape == images.shape
    np.testing.assert_array_equal(
        together[0], degrade(images[0], "noise:25 + jpeg:50", seed=1, name="a")
    )
    noise = degrade(np.full((2, 32, 32, 3), 128, np.uint8), "noise:25")
    assert (noise[0] != noise[1]).mean() > 0.9
    for shape in ((0, 8, 8, 3), (8, 8), (2, 2, 8, 8, 3), (2, 8, 8, 4)):
        with pytest.raises(ValueError, match="expected shape"):
            degrade(np.zeros(shape, np.uint8), "rain")


# scikit-image 0.27 announces its successor, skimage2.
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_steps_against_their_formulas():
    skimage = pytest.importorskip("skimage")
    image = skimage.data.astronaut()[100:228, 150:278]
    smooth = skimage.filters.gaussian(image, 2, channel_axis=2, mode="nearest", preserve_range=True)
    assert np.abs(degrade(image, "blur:2") - smooth).mean() < 1.5
    dark = degrade(image, "lowlight:2", seed=5) / 255
    light = image / 255
    scale = dark[light > 0.5] / light[light > 0.5] ** 2
    assert scale.std() < 0.01
    assert 0.5 * 0.9**2 <= scale.mean() <= 1
    quality = [mirl.psnr(*planar(degrade(image, f"jpeg:{q}"), image)) for q in (10, 50, 90)]
    assert quality[0] + 3 < quality[1] < quality[2] - 3
    halves = [mirl.psnr(*planar(degrade(image, f"resize:{s}"), image)) for s in (0.25, 0.5, 1)]
    assert halves[0] < halves[1] < halves[2]
    assert np.abs(degrade(image, "resize:1").astype(int) - image).max() <= 1
    edges = [
        np.abs(np.diff(degrade(image, f"sharpen:{a}").astype(int), axis=1)).mean() for a in (0, 1)
    ]
    assert edges[1] > 1.2 * edges[0]
    for seed in range(4):
        moved = degrade(image, "motion:15", seed=seed).astype(int)
        assert abs(moved.mean() - image.mean()) < 1
    cast = degrade(np.full((64, 64, 3), 255, np.uint8), "underwater", seed=2).mean(axis=(0, 1))
    assert cast[0] < cast[1:].min()


def planar(*images):
    return [image.transpose(2, 0, 1).astype(np.float32) / 255 for image in images]


def test_strengths_are_drawn_anew_for_each_patch_and_image():
    grey = np.full((64, 64, 3), 128, np.uint8)
    settings = {"tasks": ("noise:5-40",), "patch_size": 48, "batch_size": 1, "augment": "none"}
    loader = mirl.Loader.from_images([grey] * 12, **settings)
    patches = [255 * degraded.std() for degraded, _ in loader]
    images = [mirl.degrade(grey, "noise:5-40", name=f"{name}").std() for name in range(12)]
    for sigmas in (patches, images):
        assert len({round(sigma) for sigma in sigmas}) > 6
        assert 4 < min(sigmas) < 20 < max(sigmas) < 42


def test_a_name_that_is_none_is_refused(images):
    with pytest.raises(TypeError, match="name must be a string, got 5"):
        degrade(images[0], "derain", name=5)


def test_masked_arrays_are_refused(images):
    masked = np.ma.masked_array(images[0], images[0] > 9)
    with pytest.raises(TypeError, match="image: a masked array"):
        degrade(masked, "derain")
    with pytest.raises(TypeError, match="image 0: a masked array"):
        mirl.Loader.from_images([masked], patch_size=8)
