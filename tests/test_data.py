"""Loader, test sets and degradations: what is drawn, from where, and what is refused."""

import copy
import gc
import json
import os
import pickle
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import mirl
from dataset import photo, write_dataset
from degraded import PICTURE, SPREADING, pictures
from mirl.data import PAPER_CODE_REPEATS, Progressive, degrade, write_pairs
from mirl.data.folder import images_of
from mirl.errors import FormatError


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + i, 50 - i, 3), np.uint8) for i in range(5)]


def bits(batches):
    return [(degraded.tobytes(), clean.tobytes()) for degraded, clean in batches]


def to_uint8(planes):
    """Undo the loader's conversion: planes in [0, 1] to uint8 (H, W, C)."""
    values = np.rint(planes * 255).astype(np.uint8)
    assert (values / np.float32(255) == planes).all()
    return values.transpose(1, 2, 0)


def places(patch, image):
    """Where a patch lies in an image."""
    windows = np.lib.stride_tricks.sliding_window_view(image, patch.shape)
    return np.argwhere((windows == patch).all(axis=(2, 3, 4, 5)))


# Degradations


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
    for sigma in ("0", "-3", "nan", "inf"):
        with pytest.raises(ValueError, match=r"sigma: .* between 0.001 and 1000"):
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


# Loader


def test_batches_hold_crops_of_the_images(images):
    loader = mirl.Loader.from_images(
        images, tasks=["denoise"], sigmas=[25], batch_size=5, patch_size=16, augment="none"
    )
    assert len(loader) == 1
    ((degraded, clean),) = loader
    assert degraded.shape == clean.shape == (5, 3, 16, 16)
    assert degraded.dtype == clean.dtype == np.float32
    found = [[len(places(to_uint8(patch), image)) for image in images] for patch in clean]
    # Every image once: that is what an epoch is.
    np.testing.assert_array_equal(np.sort(np.argmax(found, axis=1)), range(5))
    assert (np.sum(found, axis=1) == 1).all()
    error = (degraded - clean) * 255
    assert 15 < error.std() < 30


def test_crops_are_drawn_anew_and_reach_the_borders(images):
    loader = mirl.Loader.from_images(
        images[:1], tasks=["derain"], batch_size=1, patch_size=38, augment="none"
    )
    drawn = set()
    for epoch in range(200):
        ((_, clean),) = loader.epoch(epoch)
        drawn.add(tuple(places(to_uint8(clean[0]), images[0])[0][:2].tolist()))
    # 40 x 50 pixels hold 3 x 13 places.
    rows, columns = zip(*drawn, strict=True)
    assert (set(rows), min(columns), max(columns)) == ({0, 1, 2}, 0, 12)
    assert len(drawn) > 30


def symmetries(image):
    turned = [np.rot90(image, k) for k in range(4)]
    return turned + [np.flipud(each) for each in turned]


@pytest.mark.parametrize(
    ("augment", "expected"), [("all", range(8)), ("paper-code", range(1, 8)), ("none", [0])]
)
def test_augmentation_draws_symmetries_of_the_square(augment, expected):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    loader = mirl.Loader.from_images(
        [image], tasks=["dehaze"], repeats={"dehaze": 200}, batch_size=200, patch_size=8,
        augment=augment,
    )  # fmt: skip
    ((_, clean),) = loader
    known = [each.tobytes() for each in symmetries(image)]
    drawn = [known.index(to_uint8(patch).tobytes()) for patch in clean]
    assert set(drawn) == set(expected)
    counts = np.bincount(drawn, minlength=8)[list(expected)]
    assert counts.min() > 0.4 * counts.mean()


def test_tasks_have_their_shares(images):
    settings = {"tasks": ("denoise", "derain"), "patch_size": 8, "batch_size": 1}
    plain = mirl.Loader.from_images(images, **settings)
    mixed = mirl.Loader.from_images(images, mix={"denoise": 1, "derain": 3}, **settings)
    assert len(mixed) == len(plain) == 4 * len(images)
    told = [mixed.tasks(2, batch)[0] for batch in range(len(mixed))]
    assert sorted(told) == len(images) * ["denoise"] + 3 * len(images) * ["derain"]
    assert mixed.describe()["mix"] == {"denoise": 1, "derain": 3}
    # Rain adds light and takes none; noise does both.
    for task, (degraded, clean) in zip(told, mixed.epoch(2), strict=True):
        assert (degraded < clean - 0.01).any() == (task == "denoise")
    with pytest.raises(ValueError, match="batch must be less"):
        mixed.tasks(0, len(mixed))
    for mix in ({"denoise": 1}, {"denoise": 1, "derain": 0}, {"denoise": 1, "derain": np.inf}):
        with pytest.raises(ValueError, match="mix"):
            mirl.Loader.from_images(images, mix=mix, **settings)


@pytest.mark.parametrize("shares", [(1, 1, 1), (1, 2, 4), (1, 1e-9, 1e-9), (1, 1, 5)])
def test_a_mix_keeps_the_length_of_an_epoch(images, shares):
    tasks = ("denoise", "derain", "dehaze")
    loader = mirl.Loader.from_images(
        images, tasks=tasks, mix=dict(zip(tasks, shares, strict=True)), patch_size=8, batch_size=5
    )
    counts = loader.describe()["tasks"].values()
    assert (sum(counts), min(counts) > 0, len(loader)) == (5 * len(images), True, len(images))


def test_tasks_are_told_epoch_by_epoch(images):
    def loader():
        return mirl.Loader.from_images(images, patch_size=8, batch_size=1)

    data = loader()
    told = [[data.tasks(epoch, batch) for batch in range(len(data))] for epoch in (0, 1, 0)]
    assert told[1] == [loader().tasks(1, batch) for batch in range(len(data))]
    assert told[0] == told[2] != told[1]


def test_a_mix_draws_what_it_leaves_out():
    photos = [np.full((8, 8, 3), index, np.uint8) for index in range(10)]
    tasks = ("jpeg:90", "jpeg:80", "jpeg:70")
    settings = {"tasks": tasks, "patch_size": 8, "batch_size": 1}
    mix = {tasks[0]: 1, tasks[1]: 1, tasks[2]: 3}
    left = []
    for seed in range(3):
        loader = mirl.Loader.from_images(photos, seed=seed, mix=mix, **settings)
        # 6, 6 and 18 of 30: the shares.
        assert list(loader.describe()["tasks"].values()) == [6, 6, 18]
        shown = {task: set() for task in tasks}
        for batch, (_, clean) in enumerate(loader.epoch(0)):
            (task,) = loader.tasks(0, batch)
            shown[task].add(int(to_uint8(clean[0]).max()))
        assert [len(shown[task]) for task in tasks] == [6, 6, 10]
        left.append((shown[tasks[0]], shown[tasks[1]]))
    assert not any(first == second for first, second in left)
    assert left[0] != left[1] != left[2]
    mix[tasks[0]], mix[tasks[1]] = 1.5, 3
    rounded = mirl.Loader.from_images(photos[:4], mix=mix, **settings)
    assert list(rounded.describe()["tasks"].values()) == [2, 5, 5]


def test_what_is_kept_in_memory_is_not_read_again(root):
    settings = {"tasks": ["derain"], "patch_size": 16, "batch_size": 1}
    kept, read = (mirl.Loader.from_folder(root, cache_mb=size, **settings) for size in (1, 0))
    first = bits(kept.epoch(0))
    for path in (root / "train/derain/Pairs").rglob("*.png"):
        path.unlink()
    assert bits(kept.epoch(0)) == first
    with pytest.raises(FileNotFoundError):
        list(read.epoch(0))


def test_patches_grow_by_stages(images):
    def loader(size, batch):
        return mirl.Loader.from_images(
            images, tasks=("denoise",), patch_size=size, batch_size=batch
        )

    stages = [(2, loader(8, 4)), (1, loader(16, 2))]
    data = Progressive(stages)
    assert (data.epochs, len(data)) == (3, min(len(one) for _, one in stages))
    sizes = [[degraded.shape[0::2] for degraded, _ in data.epoch(epoch)] for epoch in range(4)]
    assert sizes == [len(data) * [shape] for shape in ((4, 8), (4, 8), (2, 16), (4, 8))]
    assert bits(data.epoch(2, 1)) == bits(list(stages[1][1].epoch(2))[1 : len(data)])
    # The second time through the stages other patches are drawn.
    assert bits(data.epoch(3)) == bits(list(stages[0][1].epoch(3))[: len(data)])
    assert data.tasks(2, 0) == ["denoise", "denoise"]
    assert json.loads(json.dumps(data.describe())) == data.describe()
    assert repr(data).startswith("Progressive([(2, Loader(")
    settings = [{"epochs": 2, "patch_size": 8, "batch_size": 4}, {"epochs": 1, "patch_size": 16}]
    made = Progressive.from_images(images, settings, tasks=("denoise",), batch_size=2)
    assert bits(made.epoch(2)) == bits(data.epoch(2))
    for wrong, error, message in (
        ([], ValueError, "stages must be one or more"),
        ([(0, stages[0][1])], ValueError, "epochs of a stage must be at least 1, got 0"),
        ([(1, images)], TypeError, r"a stage needs a mirl\.Loader, got list"),
    ):
        with pytest.raises(error, match=message):
            Progressive(wrong)


def test_pairs_stay_aligned(root):
    loader = mirl.Loader.from_folder(
        root, tasks=["derain", "dehaze"], repeats={"derain": 8}, batch_size=9, patch_size=16
    )
    ((degraded, clean),) = loader
    for bad, good in zip(degraded, clean, strict=True):
        np.testing.assert_array_equal(to_uint8(bad), to_uint8(good) // 2 + 100)


def test_an_epoch_shows_every_sample_as_often_as_it_is_repeated(root):
    for repeats, counts in ((None, [6, 1, 1]), (PAPER_CODE_REPEATS, [18, 120, 1])):
        loader = mirl.Loader.from_folder(root, repeats=repeats, batch_size=4, patch_size=16)
        assert loader.describe()["tasks"] == dict(zip(mirl.data.TASKS, counts, strict=True))
        assert len(loader) == sum(counts) // 4
        assert len(list(loader)) == len(loader)


def test_tasks_without_pairs_are_made_from_photos(root):
    loader = mirl.Loader.from_folder(
        root, tasks=["derain", "dehaze"], synthesize=["derain"], batch_size=1, patch_size=16
    )
    assert loader.describe()["tasks"] == {"derain": 2, "dehaze": 1}


def test_a_batch_that_is_not_full_is_left_out_unless_it_is_the_only_one(images):
    def shapes(batch_size):
        loader = mirl.Loader.from_images(
            images, tasks=["derain"], batch_size=batch_size, patch_size=8
        )
        assert len(loader) == len(list(loader.epoch(0)))
        return [clean.shape[0] for _, clean in loader]

    assert shapes(2) == [2, 2]
    assert shapes(5) == [5]
    assert shapes(8) == [5]


def test_bits_follow_from_seed_and_epoch_alone(root, threads):
    def make(**settings):
        return mirl.Loader.from_folder(
            root, synthesize=["derain"], repeats={"dehaze": 5}, batch_size=3, patch_size=24,
            **settings,
        )  # fmt: skip

    loader = make(seed=1)
    first, second = bits(loader.epoch(0)), bits(loader.epoch(1))
    assert len(first) == len(loader) == 4
    assert first != second
    assert first == bits(loader.epoch(0)) == bits(make(seed=1, prefetch=1, cache_mb=0).epoch(0))
    assert first != bits(make(seed=2).epoch(0))
    for start in range(5):
        assert bits(loader.epoch(0, start)) == first[start:]
    again = make(seed=1)
    assert [bits(again), bits(again)] == [first, second]
    for count in (1, 3):
        threads(count)
        assert bits(make(seed=1).epoch(0)) == first


def test_two_epochs_may_be_read_at_once(images):
    loader = mirl.Loader.from_images(images, batch_size=4, patch_size=16)
    expected = [bits(loader.epoch(epoch)) for epoch in (0, 1)]
    both = zip(loader.epoch(0), loader.epoch(1), strict=True)
    first, second = zip(*both, strict=True)
    assert [bits(first), bits(second)] == expected


def test_numbers_of_numpy_are_described_as_json_holds_them(images):
    settings = {"patch_size": 8, "batch_size": 2, "seed": 1, "mix": {"denoise": 3, "derain": 0.5}}
    numbers = {name: np.int64(settings[name]) for name in ("patch_size", "batch_size", "seed")}
    numbers["mix"] = {"denoise": np.int64(3), "derain": np.float32(0.5)}
    tasks = ("denoise", "derain")
    data = mirl.Loader.from_images(images, tasks=tasks, **numbers)
    plain = mirl.Loader.from_images(images, tasks=tasks, **settings)
    assert json.loads(json.dumps(data.describe())) == plain.describe()
    stages, own = Progressive([(np.int64(2), data)]), Progressive([(2, plain)])
    assert json.loads(json.dumps(stages.describe())) == own.describe()


def test_the_description_is_json_and_tells_data_apart(images):
    def describe(chosen=images, **settings):
        return mirl.Loader.from_images(chosen, patch_size=8, **settings).describe()

    description = describe()
    assert json.loads(json.dumps(description)) == description == describe()
    changed = images[0].copy()
    changed[0, 0, 0] ^= 1
    for other in (
        describe([changed, *images[1:]]),
        describe(images[::-1]),
        describe(images[:4]),
        describe(seed=1),
        describe(sigmas=(15,)),
        describe(tasks=["derain"]),
        describe(repeats={"derain": 2}),
        describe(batch_size=3),
        describe(augment="none"),
        describe(on_error="skip"),
    ):
        assert other != description


def test_files_are_told_apart_by_their_names(root):
    def describe():
        return mirl.Loader.from_folder(root, tasks=["denoise"], patch_size=16).describe()

    before = describe()
    photos = root / "train/denoise/Photos"
    (photos / "photo1.png").rename(photos / "photo1.jpg")
    assert describe() != before


COPIES = [copy.copy, copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))]


@pytest.mark.parametrize("copied", COPIES)
def test_copies_and_pickles_give_the_same_batches(root, images, copied):
    settings = {"mix": {"denoise": 1, "derain": 2}, "tasks": ("denoise", "derain"), "seed": 3}
    stages = [{"epochs": 1, "patch_size": 16}, {"epochs": 1, "patch_size": 8}]
    for data in (
        mirl.Loader.from_folder(root, patch_size=16, batch_size=2, **settings),
        mirl.Loader.from_images(images, patch_size=16, batch_size=2, **settings),
        Progressive.from_images(images, stages, batch_size=2, **settings),
    ):
        if isinstance(data, mirl.Loader):
            next(iter(data))  # so that epoch 1 is the next
        other = copied(data)
        assert (len(other), other.describe()) == (len(data), data.describe())
        assert other.tasks(1, 0) == data.tasks(1, 0)
        assert bits(other.epoch(1)) == bits(data.epoch(1))
        if isinstance(data, mirl.Loader):
            assert bits(other) == bits(data.epoch(1))


def test_a_loader_of_images_that_have_changed_is_not_copied(images):
    changed = images[0].copy()
    loader = mirl.Loader.from_images([changed, *images[1:]], patch_size=16)
    changed[0, 0, 0] ^= 1
    with pytest.raises(ValueError, match="images have changed since the loader was made"):
        copy.deepcopy(loader)


@pytest.mark.filterwarnings("ignore:skipped")
def test_what_was_skipped_is_skipped_by_copies(spoilt):
    loader = mirl.Loader.from_folder(
        spoilt, tasks=["denoise"], batch_size=2, patch_size=16, on_error="skip"
    )
    assert bits(copy.deepcopy(loader).epoch(0)) == bits(loader.epoch(0))


def loader_threads():
    names = (path / "comm" for path in Path("/proc/self/task").iterdir())
    return sum(name.read_text().strip() == "mirl-loader" for name in names)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's list of threads")
def test_the_thread_ends_with_its_iterator(images):
    loader = mirl.Loader.from_images(
        images, repeats={"denoise": 50}, batch_size=2, patch_size=32, prefetch=1
    )
    batches = loader.epoch(0)
    next(batches)
    assert loader_threads() == 1
    batches.close()
    del batches
    gc.collect()
    end = time.monotonic() + 20
    while loader_threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert loader_threads() == 0


def test_python_runs_while_a_batch_is_made(images):
    """Waiting for a batch, here of a whole epoch, must not hold the GIL."""
    settings = {"tasks": ("denoise",), "repeats": {"denoise": 400}, "patch_size": 38}
    loader = mirl.Loader.from_images(images, batch_size=400 * 3 * len(images), **settings)
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    batches = loader.epoch(0)
    start = time.monotonic()
    next(batches)
    end = time.monotonic()
    done.set()
    ticker.join()
    assert sum(start < tick < end for tick in ticks) >= 5


# Bad images


@pytest.fixture
def spoilt(root):
    """The dataset with an image too small, one that is no image, and one that ends too soon."""
    folder = root / "train/denoise/Photos"
    mirl.write_image(folder / "small.png", photo(3)[:10])
    (folder / "text.jpg").write_text("hello")
    whole = (folder / "photo0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    return root


def test_an_image_that_cannot_be_used_is_named(spoilt):
    folder = spoilt / "train/denoise/Photos"

    def load():
        loader = mirl.Loader.from_folder(spoilt, tasks=["denoise"], batch_size=1, patch_size=16)
        return list(loader)

    with pytest.raises(ValueError, match=r"small\.png: 10x48 pixels .* 16x16"):
        load()
    (folder / "small.png").unlink()
    with pytest.raises(FormatError, match=r"text\.jpg"):
        load()
    (folder / "text.jpg").unlink()
    with pytest.raises(FormatError, match=r"cut\.png"):
        load()
    (folder / "cut.png").unlink()
    assert len(load()) == 6


def test_an_image_that_cannot_be_used_is_skipped_with_a_warning(spoilt):
    with pytest.warns(UserWarning, match="skipped") as warned:
        loader = mirl.Loader.from_folder(
            spoilt, tasks=["denoise"], batch_size=2, patch_size=16, on_error="skip"
        )
    small, text = sorted(str(one.message) for one in warned)
    assert "small.png" in small
    assert "text.jpg" in text
    # Whether its pixels are whole shows when they are needed: then another sample stands in.
    with pytest.warns(UserWarning, match=r"skipped .*cut\.png"):
        epoch = bits(loader.epoch(0))
    assert len(epoch) == len(loader) == 4


@pytest.mark.filterwarnings("ignore:skipped")
def test_skipping_leaves_the_same_bits(spoilt):
    def make(**settings):
        return mirl.Loader.from_folder(
            spoilt, tasks=["denoise"], batch_size=2, patch_size=16, on_error="skip", **settings
        )

    epoch = bits(make().epoch(0))
    for start in range(4):
        assert bits(make(cache_mb=0).epoch(0, start)) == epoch[start:]


@pytest.mark.filterwarnings("ignore:skipped")
def test_tasks_are_told_of_what_is_left(spoilt):
    """Photos that are skipped come before the pairs, and do not move their task."""
    loader = mirl.Loader.from_folder(
        spoilt, tasks=["denoise", "derain"], batch_size=1, patch_size=16, on_error="skip"
    )
    told = [loader.tasks(0, batch)[0] for batch in range(len(loader))]
    # Two whole photos, and one that ends too soon, which only shows when it is read.
    assert sorted(told) == 9 * ["denoise"] + ["derain"]
    degraded, clean = (np.rint(255 * x) for x in list(loader.epoch(0))[told.index("derain")])
    np.testing.assert_array_equal(degraded, clean // 2 + 100)


def test_nothing_left_is_an_error(tmp_path):
    folder = tmp_path / "train/denoise/Set"
    folder.mkdir(parents=True)
    (folder / "a.png").write_text("hello")
    with pytest.raises(ValueError, match="no image"):
        mirl.Loader.from_folder(tmp_path, tasks=["denoise"], on_error="skip")


def test_pairs_of_different_sizes_are_named(root):
    mirl.write_image(root / "train/derain/Pairs/input/one_rainy.png", photo(1)[:32], force=True)
    settings = {"batch_size": 1, "patch_size": 16}
    message = r"one_rainy\.png has 32x48 .*one_gt\.png has 40x48"
    with pytest.raises(ValueError, match=message):
        mirl.Loader.from_folder(root, tasks=["derain"], **settings)
    with pytest.warns(UserWarning, match=message):
        loader = mirl.Loader.from_folder(
            root, tasks=["derain", "denoise"], on_error="skip", **settings
        )
    assert set(loader.tasks(0, 0)) == {"denoise"}
    split = root / "train"
    with pytest.raises(ValueError, match=r"one_rainy\.png and .*one_gt\.png differ in size"):
        mirl.test_sets(root, split=split.name, tasks=["derain"])


def test_files_that_change_under_a_loader_are_named(root):
    """Their sizes are looked at when a loader is made; their pixels decide."""
    settings = {"patch_size": 16, "cache_mb": 0}
    noise = mirl.Loader.from_folder(root, tasks=["denoise"], **settings)
    rain = mirl.Loader.from_folder(root, tasks=["derain"], **settings)
    skipping = mirl.Loader.from_folder(root, tasks=["denoise"], on_error="skip", **settings)
    for path in (root / "train/denoise").rglob("*.*"):
        mirl.write_image(path, photo(1)[:8], force=True)
    mirl.write_image(root / "train/derain/Pairs/input/one_rainy.png", photo(1)[:32], force=True)
    with pytest.raises(ValueError, match=r"denoise.*: too small for a patch of 16x16"):
        list(noise)
    with pytest.raises(ValueError, match=r"one_rainy\.png has 32x48 .*one_gt\.png has 40x48"):
        list(rain)
    with pytest.raises(ValueError, match=r"denoise.*: too small for a patch of 16x16"):
        list(skipping)


def test_rotated_files_count_upright(tmp_path):
    from PIL import Image

    folder = tmp_path / "train/denoise/Set"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = photo(0)
    Image.fromarray(image).save(folder / "a.png", exif=exif)
    loader = mirl.Loader.from_folder(
        tmp_path, tasks=["denoise"], sigmas=[15], batch_size=1, patch_size=40, augment="none"
    )
    ((_, clean),) = loader
    assert len(places(to_uint8(clean[0]), np.rot90(image, -1))) == 1


def test_rotated_files_are_of_the_size_of_their_partner(tmp_path):
    from PIL import Image

    root = write_dataset(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    bad = root / "test/derain/Pairs/input/one_rainy.png"
    mirl.write_image(bad, photo(0), force=True)
    Image.fromarray(np.rot90(photo(0)).copy()).save(bad, exif=exif)
    (rain,) = mirl.test_sets(root, tasks=("derain",))
    ((_, degraded, _),) = rain
    np.testing.assert_array_equal(to_uint8(degraded), photo(0)[4:36])


# Folders and settings


def test_images_are_files_of_any_known_ending_by_name(tmp_path):
    names = ["A.PNG", "b.jpg", "c.JPEG", "d.bmp", "e.tif", "f.tiff", "g.WebP"]
    for name in (*reversed(names), "h.txt", "i", "j.gif"):
        (tmp_path / name).touch()
    assert [path.name for path in images_of(tmp_path)] == names


def test_sets_are_taken_by_name(root):
    names = [f"set{index}" for index in (3, 7, 1, 9, 4, 0, 8, 2, 6, 5)]
    for name in names:
        (root / "test/denoise" / name).mkdir()
        mirl.write_image(root / "test/denoise" / name / "a.png", photo(0))
    sets = mirl.test_sets(root, tasks=("denoise",), sigmas=[25])
    assert [one.name for one in sets] == ["Photos", *sorted(names)]


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda p: (p / "derain").rename(p / "rain"), FileNotFoundError, "derain: no such folder"),
        (lambda p: (p / "derain/Pairs/input").rename(p / "derain/Pairs/in"), FileNotFoundError,
         "input: no such folder"),
        (lambda p: (p / "derain/Pairs").rename(p / "x"), ValueError, "derain: expected a folder"),
        (lambda p: (p / "derain/Pairs/input/one_rainy.png").unlink(), ValueError,
         "input: no image"),
        (lambda p: mirl.write_image(p / "derain/Pairs/target/two_gt.png", photo(0)), ValueError,
         r"two_gt\.png: no partner .*two_rainy"),
        (lambda p: mirl.write_image(p / "derain/Pairs/input/two_rainy.png", photo(0)), ValueError,
         r"two_rainy\.png: no partner .*two_gt"),
        (lambda p: mirl.write_image(p / "derain/Pairs/input/one_hazy.png", photo(0)), ValueError,
         r"one_hazy\.png: expected a name that ends with _rainy"),
        (lambda p: mirl.write_image(p / "derain/Pairs/target/one_gt.bmp", photo(0)), ValueError,
         r"one_gt\.(bmp|png) and .*one_gt\.(bmp|png) have the same name"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_misnamed_folder_or_file_is_named(root, spoil, error, message, split):
    spoil(root / split)
    read = {"train": mirl.Loader.from_folder, "test": mirl.test_sets}[split]
    with pytest.raises(error, match=message):
        read(root, tasks=["derain"])


@pytest.mark.parametrize("task", ["rain", "halftone", "denoise_25"])
def test_pairs_in_a_folder_named_like_a_degradation_are_not_passed_over(root, task):
    for split, read in (("train", mirl.Loader.from_folder), ("test", mirl.test_sets)):
        assert len(read(root, tasks=[task], **({"patch_size": 16} if split == "train" else {})))
        (root / split / "derain").rename(root / split / task)
        with pytest.raises(
            ValueError, match=rf"{split}/{task} is named like a degradation.*rename"
        ):
            read(root, tasks=[task])


def test_a_root_without_tasks_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="test: no such folder"):
        mirl.test_sets(tmp_path)
    (tmp_path / "test/noise").mkdir(parents=True)
    with pytest.raises(ValueError, match="expected folders named denoise, derain, dehaze"):
        mirl.test_sets(tmp_path)


def test_photos_without_pairs_are_told_what_to_do(tmp_path):
    (tmp_path / "train/denoise/Photos").mkdir(parents=True)
    mirl.write_image(tmp_path / "train/denoise/Photos/a.png", photo(0))
    message = r"derain: no such folder; tasks= can leave 'derain' out, and synthesize=\('derain',\)"
    with pytest.raises(FileNotFoundError, match=message):
        mirl.Loader.from_folder(tmp_path, patch_size=16)
    with pytest.raises(TypeError, match=r"Loader\.from_folder or Loader\.from_images"):
        mirl.Loader(tmp_path)


@pytest.mark.parametrize("name", ["denoise_25", "denoise_10-40"])
def test_noise_of_one_sigma_is_a_task_of_the_photos(root, images, name, tmp_path):
    settings = {"patch_size": 16, "batch_size": 2}
    loaders = [
        mirl.Loader.from_folder(root, **task, **settings)
        for task in ({"tasks": [name]}, {"tasks": ["denoise"], "sigmas": [name[8:]]})
    ]
    assert bits(loaders[0].epoch(0)) == bits(loaders[1].epoch(0))
    sets = mirl.test_sets(root, tasks=(name,)) + mirl.test_sets(root, sigmas=[name[8:]])
    assert (sets[0].task, len(sets[0])) == (name, 2)
    assert bits(p[1:] for p in sets[0]) == bits(p[1:] for p in sets[1])
    with pytest.raises(ValueError, match="has no pairs"):
        write_pairs([], tmp_path, name)
    for wrong in ("denoise_0", "denoise_-5"):
        with pytest.raises(ValueError, match=f"{wrong}: sigma: .* between"):
            mirl.test_sets(root, tasks=(wrong,))
    with pytest.raises(ValueError, match=r"denoise_0: sigma: .* between"):
        mirl.test_sets(root, sigmas=[25, 0])
    with pytest.raises(FileNotFoundError, match="denoise_mine: no such folder"):
        mirl.test_sets(root, tasks=("denoise_mine",))


def test_photos_of_one_name_are_no_test_set(root):
    folder = root / "test/denoise/Photos"
    mirl.write_image(folder / "photo0.jpg", photo(3))
    with pytest.raises(ValueError, match=r"photo0\.jpg and .*photo0\.png have the same name"):
        mirl.test_sets(root, tasks=("denoise",))


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0},
        {"batch_size": -1},
        {"patch_size": 0},
        {"prefetch": 0},
        {"seed": -1},
        {"augment": "some"},
        {"on_error": "ignore"},
        {"tasks": "denoise"},
        {"tasks": []},
        {"sigmas": [0]},
        {"sigmas": [-25]},
        {"sigmas": [float("nan")]},
        {"repeats": {"deblur": 1}},
        {"repeats": {"derain": 0}},
    ],
    ids=str,
)
def test_settings_out_of_range_are_named(images, settings):
    name = next(iter(settings))
    with pytest.raises(ValueError, match=name.removesuffix("s")):
        mirl.Loader.from_images(images, **{"patch_size": 8} | settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": {"derain": 3}}, r"repeats must be of the tasks \('denoise',\), got derain"),
        ({"synthesize": ["derain"]}, r"synthesize must be of .*, got derain"),
    ],
)
def test_settings_of_other_tasks_are_refused(root, settings, message):
    with pytest.raises(ValueError, match=message):
        mirl.Loader.from_folder(root, tasks=["denoise"], patch_size=16, **settings)
    # Not so the published numbers, which are of all.
    numbers = {"repeats": dict(PAPER_CODE_REPEATS), "patch_size": 16}
    loader = mirl.Loader.from_folder(root, tasks=["derain"], **numbers)
    assert loader.describe()["tasks"] == {"derain": 120}


def test_a_seed_of_more_than_64_bits_is_refused(images):
    with pytest.raises(
        ValueError, match=r"seed must be less than 2\*\*63, got 9223372036854775808"
    ):
        mirl.Loader.from_images(images, patch_size=8, seed=2**63)


@pytest.mark.parametrize("name", ["batch_size", "patch_size", "prefetch", "seed"])
def test_numbers_that_are_not_whole_are_named(images, name):
    with pytest.raises(TypeError, match=f"{name} must be a whole number, got 2.5"):
        mirl.Loader.from_images(images, **{"patch_size": 8} | {name: 2.5})


def test_bad_arrays_are_named(images):
    good = images[0]
    with pytest.raises(TypeError, match=r"image 1: .*float64"):
        mirl.Loader.from_images([good, good / 255], patch_size=8)
    with pytest.raises(ValueError, match=r"image 1: expected shape \(H, W, 3\), got \(40, 50\)"):
        mirl.Loader.from_images([good, good[..., 0]], patch_size=8)
    with pytest.raises(ValueError, match="image 1: 4x50 pixels"):
        mirl.Loader.from_images([good, good[:4]], patch_size=8)
    with pytest.raises(ValueError, match="no image to train on"):
        mirl.Loader.from_images([])


def test_places_outside_the_epoch_are_refused(images):
    loader = mirl.Loader.from_images(images, patch_size=8)
    with pytest.raises(ValueError, match="start must be at most 3, got 4"):
        list(loader.epoch(0, 4))
    for place in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="at least 0, got -1"):
            list(loader.epoch(*place))


# Test sets


def test_sets_follow_the_folders(root):
    sets = mirl.test_sets(root)
    assert [(one.name, one.task, len(one)) for one in sets] == [
        ("Photos", "denoise_15", 2),
        ("Photos", "denoise_25", 2),
        ("Photos", "denoise_50", 2),
        ("Pairs", "derain", 1),
        ("Pairs", "dehaze", 1),
    ]
    for one in sets:
        for name, degraded, clean in one:
            assert name in ("photo0", "photo1", "one_rainy", "one_hazy")
            assert degraded.shape == clean.shape == (3, 32, 48)
            assert degraded.dtype == clean.dtype == np.float32
    # 40 rows are cropped to 32 around the centre.
    np.testing.assert_array_equal(to_uint8(next(iter(sets[0])).clean), photo(10)[4:36])
    _, degraded, clean = next(iter(sets[3]))
    np.testing.assert_array_equal(to_uint8(degraded), to_uint8(clean) // 2 + 100)


def test_the_first_images_may_do_and_their_centres(root):
    whole = mirl.test_sets(root, tasks=("derain", "denoise"), sigmas=[25])
    mirl.write_image(root / "test/derain/Pairs/target/two_gt.png", photo(1))
    mirl.write_image(root / "test/derain/Pairs/input/two_rainy.png", photo(2))
    some = mirl.test_sets(root, tasks=("derain", "denoise"), sigmas=[25], images=1, crop=16)
    assert [len(one) for one in some] == [1, 1]
    for one, all_ in zip(some, whole, strict=True):
        ((name, degraded, clean),) = one
        first = next(iter(all_))
        assert name == first.name
        np.testing.assert_array_equal(clean, first.clean[:, 8:24, 16:32])
        assert degraded.shape == clean.shape
    (_, degraded, clean) = next(iter(some[0]))
    np.testing.assert_array_equal(to_uint8(degraded), to_uint8(clean) // 2 + 100)
    for crop in (0, 8, 24):
        with pytest.raises(ValueError, match=f"crop must be a multiple of 16, got {crop}"):
            mirl.test_sets(root, crop=crop)


def test_noise_of_a_test_set_is_always_the_same(root):
    def noise(**settings):
        sets = mirl.test_sets(root, tasks=["denoise"], **settings)
        return [[pair.degraded.tobytes() for pair in one] for one in sets]

    first = noise()
    assert first == noise()
    assert first != noise(seed=1)
    # Each image and each sigma has draws of its own.
    assert len({image for one in first for image in one}) == 6
    errors = [
        (pair.degraded - pair.clean).ravel()
        for one in mirl.test_sets(root, tasks=["denoise"])
        for pair in one
    ]
    assert np.abs(np.corrcoef(errors) - np.eye(6)).max() < 0.1
    assert noise(sigmas=[25]) == first[1:2]


def test_a_set_of_arrays(images):
    for task in ("denoise_25", "derain", "dehaze"):
        made = mirl.TestSet.from_images(images, task, name="photos", seed=3)
        assert (made.name, made.task, len(made)) == ("photos", task, 5)
        pairs = list(made)
        shapes = [pair.clean.shape for pair in pairs]
        assert shapes == 3 * [(3, 32, 48)] + 2 * [(3, 32, 32)]
        assert bits((p.degraded, p.clean) for p in made) == bits((p[1], p[2]) for p in pairs)
        assert all((pair.degraded != pair.clean).any() for pair in pairs)
    with pytest.raises(ValueError, match="deblur"):
        mirl.TestSet.from_images(images, "deblur")


def test_images_may_come_one_by_one(images):
    """As of a generator, which has none left the second time."""
    assert len(mirl.TestSet.from_images(iter(images), "denoise_25")) == len(images)
    settings = {"tasks": ("denoise",), "batch_size": 2}
    plain = mirl.Loader.from_images(images, patch_size=8, **settings)
    assert bits(mirl.Loader.from_images(iter(images), patch_size=8, **settings)) == bits(plain)
    stages = [{"epochs": 1, "patch_size": 8}, {"epochs": 1, "patch_size": 16}]
    assert Progressive.from_images(iter(images), stages, **settings).epochs == 2


def test_a_set_of_pairs(images):
    pairs = [(image // 2, image) for image in images]
    made = mirl.TestSet.from_pairs(iter(pairs), "night", name="mine")
    assert (made.name, made.task, len(made)) == ("mine", "night", 5)
    for index, (name, degraded, clean) in enumerate(made):
        assert name == f"{index:03}"
        assert clean.shape[1:] == (32, 48 if index < 3 else 32)
        np.testing.assert_array_equal(to_uint8(degraded), to_uint8(clean) // 2)
    (row,) = mirl.evaluate(None, made, progress=False).rows
    assert (row.set, row.task, row.images) == ("mine", "night", 5)
    good = images[0]
    for wrong, error, message in (
        ([pairs[0], (good, images[1])], ValueError, "pair 1 differs in shape"),
        ([(good, good, good)], ValueError, r"pair 0: expected \(degraded, clean\), got a tuple"),
        ([(good / 255, good)], TypeError, "degraded image 0: .*float64"),
        ([(good, good[:15])], ValueError, "clean image 0: expected 16x16"),
    ):
        with pytest.raises(error, match=message):
            mirl.TestSet.from_pairs(wrong, "night")


STEPS = (
    *("noise:25", "poisson:30", "iso:0.01", "rain", "haze", "underwater", "lowlight:2-4"),
    *("blur:2", "motion:5-9", "sharpen:2", "resize:0.3-0.6", "jpeg:10", "halftone", "social"),
)


@pytest.mark.parametrize("step", STEPS)
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


def test_degradations_are_tasks(tmp_path, images):
    from dataset import write_dataset

    root = write_dataset(tmp_path)
    tasks = ("denoise", "derain", "blur:1-2 + jpeg:40", "social")
    loader = mirl.Loader.from_folder(
        root, tasks=tasks, sigmas=["15-50"], patch_size=16, batch_size=1
    )
    assert loader.describe()["tasks"] == {
        "denoise": 2, "derain": 1, "blur:1-2 + jpeg:40": 2, "social": 2,
    }  # fmt: skip
    assert len(list(loader)) == 7
    sets = mirl.test_sets(root, tasks=("social", "dehaze"))
    assert [(one.task, len(one)) for one in sets] == [("social", 2), ("dehaze", 1)]
    assert len(mirl.Loader.from_images(images, tasks=["jpeg:30"], patch_size=8)) == 1
    with pytest.raises(ValueError, match=r"there is no \"jpg\""):
        mirl.Loader.from_folder(root, tasks=["jpg:30"], patch_size=16)
    with pytest.raises(FileNotFoundError, match="deblur: no such folder"):
        mirl.Loader.from_folder(root, tasks=["deblur"], patch_size=16)


def test_strengths_are_drawn_anew_for_each_patch_and_image():
    grey = np.full((64, 64, 3), 128, np.uint8)
    settings = {"tasks": ("noise:5-40",), "patch_size": 48, "batch_size": 1, "augment": "none"}
    loader = mirl.Loader.from_images([grey] * 12, **settings)
    patches = [255 * degraded.std() for degraded, _ in loader]
    images = [mirl.degrade(grey, "noise:5-40", name=f"{name}").std() for name in range(12)]
    for sigmas in (patches, images):
        assert len({round(sigma) for sigma in sigmas}) > 6
        assert 4 < min(sigmas) < 20 < max(sigmas) < 42


@pytest.mark.parametrize(("task", "suffixes"), [("derain", ("_gt", "_rainy")), ("mine", ("", ""))])
def test_pairs_are_written_where_they_are_read(tmp_path, images, task, suffixes):
    photos = []
    for index, image in enumerate(images[:2]):
        photos.append(tmp_path / f"photo{index}.png")
        mirl.write_image(photos[-1], image)
    steps = None if task == "derain" else "blur:1+noise:10"
    written = write_pairs(photos, tmp_path, task, degradation=steps, seed=3, progress=False)
    folder = tmp_path / "train" / task / "synthetic"
    assert written[0] == folder / "input" / f"photo0{suffixes[1]}.png"
    clean = mirl.read_image(folder / "target" / f"photo0{suffixes[0]}.png").pixels
    np.testing.assert_array_equal(clean, images[0])
    degraded = degrade(images[0], steps or "rain", seed=3, name=f"train/{task}/synthetic/photo0")
    np.testing.assert_array_equal(mirl.read_image(written[0]).pixels, degraded)
    loader = mirl.Loader.from_folder(tmp_path, tasks=[task], patch_size=16, batch_size=1)
    assert len(list(loader)) == 2
    with pytest.raises(FileExistsError, match=r"photo0.*\.png: is already there"):
        write_pairs(photos, tmp_path, task, degradation=steps, progress=False)
    one = write_pairs(str(photos[0]), tmp_path / "one", "derain", progress=False)
    (tmp_path / "photos").mkdir()
    photos[0].rename(tmp_path / "photos" / photos[0].name)
    of_folder = write_pairs(tmp_path / "photos", tmp_path / "all", "derain", progress=False)
    assert [path.name for path in one] == [path.name for path in of_folder] == ["photo0_rainy.png"]
    with pytest.raises(ValueError, match="the same name"):
        write_pairs([photos[0]] * 2, tmp_path, "derain", name="other", progress=False)
    with pytest.raises(ValueError, match=r"there is no .*fog"):
        write_pairs(photos, tmp_path, "mine", degradation="fog", name="other", progress=False)
    for wrong, message in (
        ({"task": "denoise", "degradation": "blur:1"}, "task 'denoise' has no pairs"),
        ({"task": "social"}, "task 'social' has no pairs"),
        ({"task": "../mine", "degradation": "blur:1"}, "task must be the name of a folder"),
        ({"task": "derain", "split": ".."}, "split must be the name of a folder"),
        ({"task": "derain", "name": ""}, "name must be the name of a folder"),
    ):
        with pytest.raises(ValueError, match=message):
            write_pairs(photos, tmp_path / "new", progress=False, **wrong)
    assert not (folder.parent / "other").exists()
    assert not (tmp_path / "new").exists()


def test_photos_that_cannot_be_read_are_named_and_the_others_degraded(tmp_path, images):
    photos = [tmp_path / name for name in ("broken.png", "whole.png")]
    photos[0].write_text("no image")
    mirl.write_image(photos[1], images[0])
    with pytest.raises(FormatError, match=r"1 of 2 images cannot be read:\n.*broken\.png"):
        write_pairs(photos, tmp_path / "data", "derain", progress=False)
    made = sorted(path.name for path in (tmp_path / "data").rglob("*.png"))
    assert made == ["whole_gt.png", "whole_rainy.png"]


@pytest.mark.parametrize("force", [False, True])
def test_a_pair_is_whole_or_not_there(tmp_path, images, monkeypatch, force):
    mirl.write_image(tmp_path / "a.png", images[0])
    target = tmp_path / "train/mine/synthetic/target/a.png"
    settings = {"degradation": "blur:1", "progress": False}
    if force:
        write_pairs([tmp_path / "a.png"], tmp_path, "mine", **settings)
    write = mirl.io.write_image

    def full(path, *arguments, **options):
        if path.parent.name == "input":
            raise OSError(28, "No space left on device")
        write(path, *arguments, **options)

    monkeypatch.setattr("mirl.data.pairs.write_image", full)
    with pytest.raises(OSError, match="No space"):
        write_pairs([tmp_path / "a.png"], tmp_path, "mine", force=force, **settings)
    assert target.exists() == force  # beside what was there before


def test_a_test_image_that_is_too_small_is_named(images):
    with pytest.raises(ValueError, match=r"image 1: .*\(15, 49\)"):
        mirl.TestSet.from_images([images[0], images[1][:15]], "derain")
    with pytest.raises(TypeError, match=r"image 1: .*float32"):
        mirl.TestSet.from_images([images[0], images[1].astype(np.float32)], "derain")


def test_the_published_sets(shared):
    sets = mirl.test_sets(shared / "data")
    assert {(one.name, one.task): len(one) for one in sets} == {
        ("CBSD68", "denoise_15"): 68,
        ("CBSD68", "denoise_25"): 68,
        ("CBSD68", "denoise_50"): 68,
        ("Rain100L", "derain"): 100,
        ("SOTS-mini", "dehaze"): 8,
    }
    rain = next(one for one in sets if one.task == "derain")
    quality = [mirl.psnr(degraded, clean) for _, degraded, clean in rain]
    # data/README.md says 25.52 dB for the whole images; the crop to 16 changes the second digit.
    assert np.mean(quality) == pytest.approx(25.52, abs=0.05)


def test_training_on_real_photos(shared):
    loader = mirl.Loader.from_folder(
        shared / "data", synthesize=["derain", "dehaze"], batch_size=16, patch_size=128
    )
    assert loader.describe()["tasks"] == {"denoise": 999, "derain": 333, "dehaze": 333}
    batches = loader.epoch(0)
    quality = [mirl.psnr(*next(batches)) for _ in range(8)]
    assert 10 < np.mean(quality) < 30


@pytest.mark.parametrize("sigmas", [25, "25", [], ["a"], [-1]])
def test_sigmas_that_are_none_are_refused(tmp_path, sigmas):
    photos = [photo(0)]
    with pytest.raises(ValueError, match="sigma"):
        mirl.Loader.from_images(photos, tasks=("denoise",), sigmas=sigmas, patch_size=16)
    with pytest.raises(ValueError, match="sigma"):
        mirl.data.test_sets(write_dataset(tmp_path), sigmas=sigmas)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mix": 5}, "mix must be numbers by task, got 5"),
        ({"mix": {"denoise": "a"}}, "shares of mix"),
        ({"repeats": 5}, "repeats must be numbers by task, got 5"),
        ({"repeats": {"denoise": None}}, "repeats of denoise must be a whole number, got None"),
        ({"repeats": {"denoise": "a"}}, "repeats of denoise must be a whole number, got 'a'"),
    ],
)
def test_numbers_by_task_that_are_none_are_named(images, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        mirl.Loader.from_images(images, tasks=("denoise",), patch_size=8, **settings)


def test_counts_that_are_not_whole_are_refused_at_once(root, images):
    with pytest.raises(TypeError, match=r"crop must be a whole number, got 16\.0"):
        mirl.test_sets(root, crop=16.0)
    loader = mirl.Loader.from_images(images, tasks=("denoise",), patch_size=8)
    for epochs in (1.5, "1"):
        with pytest.raises(TypeError, match=f"epochs of a stage .* {epochs!r}"):
            Progressive([(epochs, loader)])


@pytest.mark.parametrize("name", ["tasks", "synthesize"])
@pytest.mark.parametrize("tasks", [5, "derain"])
def test_tasks_that_are_no_sequence_are_named(root, name, tasks):
    message = f"{name} must be a sequence of .*, got {tasks!r}"
    with pytest.raises((TypeError, ValueError), match=message):
        mirl.Loader.from_folder(root, **{name: tasks})


def test_a_name_that_is_none_is_refused(images):
    with pytest.raises(TypeError, match="name must be a string, got 5"):
        degrade(images[0], "derain", name=5)


def test_masked_arrays_are_refused(images):
    masked = np.ma.masked_array(images[0], images[0] > 9)
    with pytest.raises(TypeError, match="image: a masked array"):
        degrade(masked, "derain")
    with pytest.raises(TypeError, match="image 0: a masked array"):
        mirl.Loader.from_images([masked], patch_size=8)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_what_is_no_file_is_not_read(tmp_path, images):
    photos = tmp_path / "train/denoise/set"
    photos.mkdir(parents=True)
    mirl.write_image(tmp_path / "a.png", images[0])
    (photos / "linked.png").symlink_to(tmp_path / "a.png")
    os.mkfifo(photos / "pipe.png")
    (photos / "folder.png").mkdir()
    loader = mirl.Loader.from_folder(tmp_path, tasks=("denoise",), patch_size=8)
    assert loader.describe()["images"] == 1
    with pytest.raises(OSError, match=r"not a file.*pipe\.png"):
        write_pairs(photos / "pipe.png", tmp_path / "data", "derain", progress=False)
    (photos / "nowhere.png").symlink_to(tmp_path / "none.png")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        mirl.Loader.from_folder(tmp_path, tasks=("denoise",), patch_size=8)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes there")
def test_names_that_are_no_utf8_are_names(tmp_path, images):
    names = [os.fsdecode(name) for name in (b"caf\xe8", b"caf\xe9")]
    photos = tmp_path / "test/denoise/set"
    photos.mkdir(parents=True)
    for name in names:
        mirl.write_image(photos / f"{name}.png", images[0])
    loader = mirl.Loader.from_folder(tmp_path, split="test", tasks=("denoise",), patch_size=8)
    assert len(list(loader.epoch(0))) == len(loader)
    first, second = write_pairs(photos, tmp_path / "data", "derain", progress=False)
    assert [first.stem, second.stem] == [f"{name}_rainy" for name in names]
    assert (mirl.read_image(first).pixels != mirl.read_image(second).pixels).any()
    sets = mirl.test_sets(tmp_path, tasks=("denoise_25",))
    measured = mirl.evaluate(None, sets, save_images=tmp_path / "out", progress=False)
    assert [image.name for image in measured.images] == names
