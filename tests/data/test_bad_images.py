"""Images that cannot be used: named, or skipped with a warning."""

import numpy as np
import pytest

import mirl
from dataset import photo
from mirl.errors import FormatError
from planes import bits


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
