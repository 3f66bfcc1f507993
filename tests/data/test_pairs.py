"""Pairs that are written: where they are read, whole, and not over what is there."""

import numpy as np
import pytest

import mirl
from mirl.data import degrade, write_pairs
from mirl.errors import FormatError


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

    before = target.read_bytes() if force else None
    mirl.write_image(tmp_path / "a.png", images[1], force=True)
    monkeypatch.setattr("mirl.data.pairs.write_image", full)
    with pytest.raises(OSError, match="No space"):
        write_pairs([tmp_path / "a.png"], tmp_path, "mine", force=force, **settings)
    # What was there before, beside its partner.
    assert [path.read_bytes() for path in target.parent.iterdir()] == [before] * force


@pytest.mark.parametrize("name", ["force", "progress"])
def test_switches_are_true_or_false(root, tmp_path, name):
    with pytest.raises(TypeError, match=f"{name} must be True or False, got 'no'"):
        write_pairs(root / "train/denoise/Photos", tmp_path / "out", "derain", **{name: "no"})
    assert not (tmp_path / "out").exists()


def test_images_that_are_none_are_named(tmp_path):
    with pytest.raises(TypeError, match=r"images must be a file, a folder, .* got int"):
        write_pairs(3, tmp_path, "derain")
