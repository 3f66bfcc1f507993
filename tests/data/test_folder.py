"""The published layout: which files are found, in which order, and what is misnamed."""

import os
import sys

import numpy as np
import pytest

import mirl
from dataset import photo, write_dataset
from mirl.data import write_pairs
from mirl.data.folder import images_of
from planes import bits, places, to_uint8


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


@pytest.mark.parametrize("name", ["denoise_25", "denoise_10-40"])
def test_noise_of_one_sigma_is_a_task_of_the_photos(root, name, tmp_path):
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


@pytest.mark.parametrize("sigmas", [25, "25", [], ["a"], [-1]])
def test_sigmas_that_are_none_are_refused(tmp_path, sigmas):
    photos = [photo(0)]
    with pytest.raises(ValueError, match="sigma"):
        mirl.Loader.from_images(photos, tasks=("denoise",), sigmas=sigmas, patch_size=16)
    with pytest.raises(ValueError, match="sigma"):
        mirl.data.test_sets(write_dataset(tmp_path), sigmas=sigmas)


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
