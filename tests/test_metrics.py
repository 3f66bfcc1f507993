"""PSNR and SSIM: equal to scikit-image's, and picky about their input."""

import numpy as np
import pytest

import mirl
from reference import golden

METRICS = (mirl.psnr, mirl.ssim)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    clean = rng.random((3, 33, 47))
    return np.clip(clean + rng.normal(0, 0.1, clean.shape), 0, 1), clean


def test_equals_the_golden_values(shared):
    """Of scikit-image's photos and noise, by the recipe of goldens/README.md."""
    from skimage import data

    metrics = {(row["image"], row["sigma"]): row for row in golden(shared, "metrics.json")}
    assert len(metrics) == 12
    for name in {name for name, _ in metrics}:
        photo = getattr(data, name)()[:240, :320]
        rng = np.random.RandomState(20251014)
        for sigma in (15, 25, 50):
            noise = rng.randn(*photo.shape) * sigma
            noisy = np.clip(photo + noise, 0, 255).astype(np.uint8)
            planes = [image.transpose(2, 0, 1) / 255 for image in (noisy, photo)]
            expected = metrics[name, sigma]
            assert mirl.psnr(*planes) == pytest.approx(expected["psnr"], abs=1e-4)
            assert mirl.ssim(*planes) == pytest.approx(expected["ssim"], abs=1e-6)


# scikit-image 0.27 announces its successor, skimage2.
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("shape", [(3, 7, 7), (3, 8, 61), (1, 40, 9), (4, 20, 20)])
def test_equals_scikit_image(shape):
    from skimage import metrics

    rng = np.random.default_rng(1)
    a, b = rng.random(shape), rng.random(shape)
    psnr = metrics.peak_signal_noise_ratio(a, b, data_range=1)
    ssim = metrics.structural_similarity(a, b, data_range=1, channel_axis=0)
    assert mirl.psnr(a, b) == pytest.approx(psnr, abs=1e-9)
    assert mirl.ssim(a, b) == pytest.approx(ssim, abs=1e-9)


def test_float32_is_measured_in_float64(pair):
    single = [image.astype(np.float32) for image in pair]
    double = [image.astype(np.float64) for image in single]
    for metric in METRICS:
        assert metric(*single) == metric(*double)
        assert metric(single[0], double[1]) == metric(*double)


def test_equal_images(pair):
    assert mirl.psnr(pair[0], pair[0]) == np.inf
    assert mirl.ssim(pair[0], pair[0]) == pytest.approx(1, abs=1e-12)


def test_a_constant_difference_has_its_decibels():
    assert mirl.psnr(np.full((8, 8), 0.3), np.full((8, 8), 0.2)) == pytest.approx(20)


def test_other_shapes(pair):
    a, b = pair
    for metric in METRICS:
        assert metric(a[0], b[0]) == metric(a[:1], b[:1])
        assert metric(a[np.newaxis], b[np.newaxis]) == metric(a, b)
        batch = metric(np.stack([a, b]), np.stack([b, a]) * 0.5)
        assert batch == pytest.approx((metric(a, b * 0.5) + metric(b, a * 0.5)) / 2)
        assert metric(a.transpose(0, 2, 1), b.transpose(0, 2, 1)) == pytest.approx(metric(a, b))


@pytest.mark.parametrize("metric", METRICS)
def test_bad_input_is_named(metric, pair):
    a, b = pair
    with pytest.raises(ValueError, match=r"\(3, 33, 47\) and \(3, 33, 46\)"):
        metric(a, b[..., 1:])
    with pytest.raises(TypeError, match=r"a: .* got uint8 \(divide 8-bit images by 255\)"):
        metric((a * 255).astype(np.uint8), b)
    with pytest.raises(TypeError, match=r"b: .* got int64"):
        metric(a, b.astype(np.int64))
    for bad, name in ((np.nan, "NaN"), (-np.inf, "-inf")):
        spoilt = b.copy()
        spoilt[1, 2, 3] = bad
        with pytest.raises(ValueError, match=f"second image holds {name}"):
            metric(a, spoilt)
    with pytest.raises(ValueError, match=r"got \(7,\)"):
        metric(np.zeros(7), np.zeros(7))
    with pytest.raises(ValueError, match=r"got \(0, 8, 8\)"):
        metric(np.zeros((0, 8, 8)), np.zeros((0, 8, 8)))


def test_ssim_needs_a_window():
    with pytest.raises(ValueError, match="7x7 pixels, got 6x9"):
        mirl.ssim(np.zeros((6, 9)), np.zeros((6, 9)))
    # As `restore` returns them, height before width before channels.
    photo = np.zeros((9, 9, 3))
    with pytest.raises(ValueError, match=r"got 9x3; images are \(C, H, W\)"):
        mirl.ssim(photo, photo)
