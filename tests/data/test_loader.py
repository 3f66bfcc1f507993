"""The loader: what an epoch shows, what it follows from, and what settings are refused."""

import copy
import gc
import json
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import mirl
from dataset import photo
from mirl.data import PAPER_CODE_REPEATS, Progressive
from planes import bits, places, to_uint8


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


def test_photos_without_pairs_are_told_what_to_do(tmp_path):
    (tmp_path / "train/denoise/Photos").mkdir(parents=True)
    mirl.write_image(tmp_path / "train/denoise/Photos/a.png", photo(0))
    message = r"derain: no such folder; tasks= can leave 'derain' out, and synthesize=\('derain',\)"
    with pytest.raises(FileNotFoundError, match=message):
        mirl.Loader.from_folder(tmp_path, patch_size=16)
    with pytest.raises(TypeError, match=r"Loader\.from_folder or Loader\.from_images"):
        mirl.Loader(tmp_path)


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
@pytest.mark.parametrize("value", [2.5, None, True])
def test_numbers_that_are_not_whole_are_named(images, name, value):
    with pytest.raises(TypeError, match=f"{name} must be a whole number, got {value}"):
        mirl.Loader.from_images(images, **{"patch_size": 8} | {name: value})


@pytest.mark.parametrize("name", ["augment", "on_error"])
@pytest.mark.parametrize("value", [None, False, "some"])
def test_words_that_are_none_are_told_what_they_may_be(images, name, value):
    with pytest.raises(ValueError, match=rf"{name} must be one of \(.*\), got {value!r}"):
        mirl.Loader.from_images(images, **{name: value})


def test_bad_arrays_are_named(images):
    good = images[0]
    with pytest.raises(TypeError, match=r"image 1: .*float64"):
        mirl.Loader.from_images([good, good / 255], patch_size=8)
    with pytest.raises(ValueError, match=r"image 1: expected shape \(H, W, 3\), got \(40, 50\)"):
        mirl.Loader.from_images([good, good[..., 0]], patch_size=8)
    with pytest.raises(ValueError, match="image 1: 4x50 pixels"):
        mirl.Loader.from_images([good, good[:4]], patch_size=8)
    with pytest.raises(
        ValueError, match=r"must be several, got one of shape \(40, 50, 3\): \[image\]\?"
    ):
        mirl.Loader.from_images(np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(ValueError, match="no image to train on"):
        mirl.Loader.from_images([])


def test_places_outside_the_epoch_are_refused(images):
    loader = mirl.Loader.from_images(images, patch_size=8)
    with pytest.raises(ValueError, match="start must be at most 3, got 4"):
        list(loader.epoch(0, 4))
    for place in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="at least 0, got -1"):
            list(loader.epoch(*place))


def test_degradations_are_tasks(root, images):
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


def test_training_on_real_photos(shared):
    loader = mirl.Loader.from_folder(
        shared / "data", synthesize=["derain", "dehaze"], batch_size=16, patch_size=128
    )
    assert loader.describe()["tasks"] == {"denoise": 999, "derain": 333, "dehaze": 333}
    batches = loader.epoch(0)
    quality = [mirl.psnr(*next(batches)) for _ in range(8)]
    assert 10 < np.mean(quality) < 30


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


@pytest.mark.parametrize("name", ["tasks", "synthesize"])
@pytest.mark.parametrize("tasks", [5, "derain"])
def test_tasks_that_are_no_sequence_are_named(root, name, tasks):
    message = f"{name} must be a sequence of .*, got {tasks!r}"
    with pytest.raises((TypeError, ValueError), match=message):
        mirl.Loader.from_folder(root, **{name: tasks})
