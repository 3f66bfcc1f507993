import csv
import json
import sys

import numpy as np
import pytest

import mirl
from dataset import photo, write_dataset
from mirl.data import Progressive
from mirl.evaluate import Evaluation, Measurement, Row, check_data


def image(key, shape=(3, 32, 48)):
    return np.random.default_rng(key).random(shape, dtype=np.float32)


def darker(images):
    return images * np.float32(0.9)


@pytest.fixture
def folder(tmp_path):
    return write_dataset(tmp_path / "data")


@pytest.fixture
def pairs():
    clean = image(0)
    return [(darker(clean), clean), (image(1), image(2))]


def test_pairs_are_measured_one_by_one(pairs):
    evaluation = mirl.evaluate(lambda images: images / np.float32(0.9), pairs, progress=False)
    (row,) = evaluation.rows
    assert (row.images, row.task, row.set) == (2, "data", "data")
    (degraded, clean), (other, reference) = pairs
    restored = [np.clip(x / np.float32(0.9), 0, 1) for x in (degraded, other)]
    expected = [mirl.psnr(restored[0], clean), mirl.psnr(restored[1], reference)]
    assert row.psnr == pytest.approx(np.mean(expected))
    expected = [mirl.ssim(degraded, clean), mirl.ssim(other, reference)]
    assert row.ssim_input == pytest.approx(np.mean(expected))
    assert row.psnr_input < row.psnr


def test_batches_are_taken_apart(pairs):
    batches = [tuple(np.stack(images) for images in zip(*pairs, strict=True))]
    of_pairs = mirl.evaluate(darker, pairs, progress=False)
    assert mirl.evaluate(darker, batches, progress=False) == of_pairs


def test_without_a_network_the_input_is_measured(pairs):
    (row,) = mirl.evaluate(None, pairs, progress=False).rows
    assert (row.psnr, row.ssim) == (row.psnr_input, row.ssim_input)
    assert row.psnr == pytest.approx(np.mean([mirl.psnr(*pair) for pair in pairs]))


def test_clip_is_a_switch():
    clean = np.ones((3, 16, 16), np.float32)
    pairs = [(clean * np.float32(0.5), clean)]

    def too_bright(images):
        return images + np.float32(0.75)

    unclipped = mirl.evaluate(too_bright, pairs, clip=False, progress=False).rows[0]
    clipped = mirl.evaluate(too_bright, pairs, progress=False).rows[0]
    assert unclipped.psnr == pytest.approx(10 * np.log10(16), abs=1e-4)
    assert clipped.psnr == np.inf


def test_a_network_is_measured(small, pairs):
    (row,) = mirl.evaluate(small, pairs, progress=False).rows
    restored = [np.clip(small(degraded[np.newaxis])[0], 0, 1) for degraded, _ in pairs]
    expected = [mirl.psnr(x, clean) for x, (_, clean) in zip(restored, pairs, strict=True)]
    assert row.psnr == pytest.approx(np.mean(expected))


def test_folder_and_test_sets_agree(folder):
    of_folder = mirl.evaluate(None, folder, progress=False)
    of_sets = mirl.evaluate(None, mirl.test_sets(folder), progress=False)
    assert of_folder == of_sets
    assert {row.task for row in of_folder.rows} == {
        "denoise_15",
        "denoise_25",
        "denoise_50",
        "derain",
        "dehaze",
    }
    of_one = mirl.evaluate(None, mirl.test_sets(folder)[0], progress=False)
    assert of_one.rows == of_folder.rows[:1]


def test_images_are_saved(folder, tmp_path):
    sets = mirl.test_sets(folder, tasks=("derain",))
    mirl.evaluate(darker, sets, save_images=tmp_path / "restored", progress=False)
    name, degraded, _ = next(iter(sets[0]))
    files = sorted((tmp_path / "restored" / "derain" / sets[0].name).iterdir())
    assert len(files) == len(sets[0])
    assert name in [file.stem for file in files]
    saved = mirl.read_image(files[0].with_name(f"{name}.png")).pixels
    expected = np.rint(darker(degraded) * 255).transpose(1, 2, 0)
    np.testing.assert_array_equal(saved, expected)


def test_images_are_saved_clipped_whatever_is_measured(pairs, tmp_path):
    mirl.evaluate(lambda x: x + 2, pairs, clip=False, save_images=tmp_path, progress=False)
    assert (mirl.read_image(tmp_path / "data/data/00000.png").pixels == 255).all()


def test_names_of_sets_stay_in_the_folder(tmp_path):
    sets = [mirl.TestSet.from_images([photo(0)], "jpeg:20", name=name) for name in ("../a", "..")]
    mirl.evaluate(None, sets, save_images=tmp_path / "out", progress=False)
    saved = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert saved == ["out/jpeg_20/.._a/000.png", "out/jpeg_20/_/000.png"]


def test_test_sets_whose_images_would_have_one_folder_are_told_before_anything_is_measured(
    tmp_path,
):
    def sets(*names):
        return [mirl.TestSet.from_images([photo(0)], "jpeg:20", name=name) for name in names]

    for names in (("a", "a"), ("b c", "b/c")):
        with pytest.raises(ValueError, match=r"several test sets would save to jpeg_20/[ab]"):
            mirl.evaluate(None, sets(*names), save_images=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    assert len(mirl.evaluate(None, sets("a", "a"), progress=False).rows) == 2


def test_a_network_that_diverged_is_named(pairs):
    def diverged(images):
        return np.full_like(images, np.nan)

    with pytest.raises(mirl.errors.DivergenceError, match="00000: the network restores to NaN"):
        mirl.evaluate(diverged, pairs, progress=False)


def test_names_with_dots_stay_apart(folder, tmp_path):
    photos = folder / "test/denoise/Photos"
    for version in (1, 2):
        mirl.write_image(photos / f"a.v{version}.png", photo(version))
    sets = mirl.test_sets(folder, tasks=("denoise",), sigmas=[25])
    mirl.evaluate(None, sets, save_images=tmp_path / "out", progress=False)
    saved = {path.name for path in (tmp_path / "out").rglob("*.png")}
    assert saved == {path.name for path in photos.iterdir()}


def test_a_loader_is_measured_the_same_each_time_and_moves_nothing_on():
    loader, untouched = (
        mirl.Loader.from_images([photo(0)], tasks=("denoise",), batch_size=3, patch_size=16)
        for _ in range(2)
    )
    first = mirl.evaluate(None, loader, progress=False)
    assert mirl.evaluate(None, loader, progress=False) == first
    assert mirl.evaluate(None, Progressive([(1, loader)]), progress=False) == first
    for (degraded, _), (expected, _) in zip(loader, untouched, strict=True):
        np.testing.assert_array_equal(degraded, expected)


class Tasks:
    """Data of one's own that tells its tasks."""

    def __init__(self, batches, tasks):
        self.batches, self.told = batches, tasks

    def epoch(self, epoch, start=0):
        return iter(self.batches[start:])

    def tasks(self, epoch, batch):
        return self.told[batch]


def test_each_task_of_a_loader_has_a_row():
    settings = {"tasks": ("denoise", "derain"), "sigmas": [50], "patch_size": 16}
    loader = mirl.Loader.from_images([photo(0), photo(1)], batch_size=3, **settings)
    evaluation = mirl.evaluate(darker, loader, progress=False)
    assert {row.task for row in evaluation.rows} <= {"denoise", "derain"}
    ((degraded, clean),) = loader.epoch(0)
    expected = {}
    for task, *pair in zip(loader.tasks(0, 0), degraded, clean, strict=True):
        expected.setdefault(task, []).append(mirl.psnr(*pair))
    found = {task: means["psnr_input"] for task, means in evaluation.metrics.items()}
    assert found == pytest.approx({task: np.mean(each) for task, each in expected.items()})
    assert len(found) == 2


def test_data_that_tells_its_tasks_tells_that_of_each_image(pairs, tmp_path):
    batches = [tuple(np.stack(images) for images in zip(*pairs, strict=True)), pairs[0]]
    data = Tasks(batches, [["night", "fog"], ["night"]])
    evaluation = mirl.evaluate(None, data, save_images=tmp_path, progress=False)
    assert [(row.task, row.images) for row in evaluation.rows] == [("night", 2), ("fog", 1)]
    assert [(image.task, image.name) for image in evaluation.images] == [
        ("night", "00000"),
        ("night", "00002"),
        ("fog", "00001"),
    ]
    assert (tmp_path / "fog/data/00001.png").exists()
    with pytest.raises(ValueError, match="data tells 1 tasks of a batch of 2 images"):
        mirl.evaluate(None, Tasks(batches, [["night"], ["night"]]), progress=False)


def test_pairs_by_task(pairs):
    evaluation = mirl.evaluate(None, {"night": pairs, "fog": iter(pairs[:1])}, progress=False)
    assert [(row.task, row.images) for row in evaluation.rows] == [("night", 2), ("fog", 1)]
    (of_one,) = mirl.evaluate(None, pairs, progress=False).rows
    assert evaluation.rows[0].psnr == of_one.psnr


def test_every_image_is_told(folder, tmp_path):
    evaluation = mirl.evaluate(darker, mirl.test_sets(folder), progress=False)
    assert [(image.set, image.task, image.name) for image in evaluation.images] == [
        (one.name, one.task, pair.name) for one in mirl.test_sets(folder) for pair in one
    ]
    for row in evaluation.rows:
        mine = [
            image for image in evaluation.images if (image.set, image.task) == (row.set, row.task)
        ]
        for name in ("psnr", "ssim", "psnr_input", "ssim_input"):
            assert getattr(row, name) == pytest.approx(np.mean([getattr(i, name) for i in mine]))
    evaluation.save(tmp_path / "a.json")
    held = json.loads((tmp_path / "a.json").read_text())["images"]
    assert [Measurement(**image) for image in held] == evaluation.images
    assert len(repr(evaluation)) < 2000


def test_json_has_no_infinity(pairs, tmp_path):
    same = [(clean, clean) for _, clean in pairs]
    mirl.evaluate(None, same, progress=False).save(tmp_path / "table.json")

    def refuse(word):
        raise AssertionError(word)

    held = json.loads((tmp_path / "table.json").read_text(), parse_constant=refuse)
    assert held["metrics"]["data"]["psnr"] is None
    assert held["metrics"]["data"]["ssim"] == 1
    assert held["images"][0]["psnr"] is None


def test_a_task_is_the_mean_over_all_its_images():
    rows = [
        Row("a", "derain", 1, 20.0, 0.5, 10.0, 0.25),
        Row("b", "derain", 3, 24.0, 0.9, 14.0, 0.65),
        Row("c", "dehaze", 2, 30.0, 0.9, 15.0, 0.7),
    ]
    metrics = Evaluation(rows).metrics
    assert list(metrics) == ["derain", "dehaze"]
    assert metrics["derain"] == pytest.approx(
        {"psnr": 23.0, "ssim": 0.8, "psnr_input": 13.0, "ssim_input": 0.55}
    )


def test_table_fits_a_terminal():
    rows = [Row("a very long name of a set", "denoise_15", 100_000, 33.333, 0.99999, 10.0, 0.1)]
    lines = Evaluation(rows).table().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[-4:] == ["input", "restored", "input", "restored"]
    assert lines[-1].split()[-4:] == ["10.00", "33.33", "0.1000", "1.0000"]
    assert len({len(line) for line in lines[1:]}) == 1


def test_table_names_chains_of_degradations():
    rows = [
        Row("CBSD68", "derain+denoise_25", 1, 20.0, 0.5, 10.0, 0.25),
        Row("CBSD68", "derain+dehaze+denoise_25", 1, 20.0, 0.5, 10.0, 0.25),
    ]
    chain, longer = Evaluation(rows).table().splitlines()[-2:]
    assert chain.split()[:2] == ["derain+denoise_25", "CBSD68"]
    assert longer.split()[:2] == ["derain+dehaze+denois…", "CBSD68"]
    assert len(chain) == len(longer) <= 80


def test_saved_as_json_and_csv(pairs, tmp_path):
    evaluation = mirl.evaluate(darker, pairs, progress=False)
    evaluation.save(tmp_path / "table.json")
    evaluation.save(tmp_path / "table.csv")
    held = json.loads((tmp_path / "table.json").read_text())
    assert [Row(**row) for row in held["rows"]] == evaluation.rows
    assert held["metrics"] == evaluation.metrics
    with (tmp_path / "table.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert float(line["psnr"]) == evaluation.rows[0].psnr
    assert line["task"] == "data"
    assert {path.name for path in tmp_path.iterdir()} == {"table.json", "table.csv"}


def test_other_endings_are_refused(pairs, tmp_path):
    with pytest.raises(ValueError, match=r"table\.xlsx"):
        mirl.evaluate(None, pairs, progress=False).save(tmp_path / "table.xlsx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "kind", "culprit"),
    [
        ([], ValueError, "data has no pair"),
        (iter([]), ValueError, "no image"),
        ({}, ValueError, "data has no pair"),
        ({"night": []}, ValueError, r"data\['night'\] has no pair"),
        ({"night": 7}, TypeError, r"data\['night'\] must be .* got int"),
        (7, TypeError, "data must be .* got int"),
        ([(image(0), image(0, (3, 32, 32)))], ValueError, r"\(3, 32, 32\)"),
        ([(image(0, (32, 32)), image(0, (32, 32)))], ValueError, r"\(32, 32\)"),
        ([(image(0), image(0), image(0))], ValueError, r"\(degraded, clean\), got a tuple of 3"),
        ([7], ValueError, r"\(degraded, clean\), got a int"),
        ((image(0), image(1)), ValueError, r"^data is one pair .*; give a list of pairs"),
        ([image(0), image(1)], ValueError, r"^data is one pair .*; give a list of pairs"),
        ({"night": (image(0), image(1))}, ValueError, r"^data\['night'\] is one pair"),
        ([np.stack([image(0), image(1)])], ValueError, r"\(degraded, clean\), got a ndarray of 2"),
        (np.stack([2 * [image(0)]] * 2), ValueError, r"\(degraded, clean\), got a ndarray of 2"),
        ([(image(0), 2 * image(0) - 1)], ValueError, r"clean: .* \[0, 1\], got -.*\(x \+ 1\) / 2"),
        ("no/such/folder", OSError, "no/such/folder"),
    ],
)
def test_bad_data_is_named(data, kind, culprit):
    with pytest.raises(kind, match=culprit):
        mirl.evaluate(None, data, progress=False)


def test_data_is_called_as_the_argument_is():
    with pytest.raises(TypeError, match="evaluate must be a folder, test sets or pairs, got int"):
        check_data(3, "evaluate")
    with pytest.raises(ValueError, match="evaluate has no pair"):
        check_data([], "evaluate")
    with pytest.raises(ValueError, match=r"test set none \(night\) has no image"):
        check_data(mirl.TestSet.from_pairs([], "night", name="none"))


def test_images_that_are_damaged_show_before_there_is_a_network(folder):
    for part in ("input", "target"):
        (image,) = (folder / "test/dehaze/Pairs" / part).iterdir()
        whole = image.read_bytes()
        image.write_bytes(whole[:-100])
        for data in (folder, mirl.test_sets(folder)):
            with pytest.raises(mirl.errors.FormatError, match=image.name):
                check_data(data)
        check_data(mirl.test_sets(folder, tasks=("denoise", "derain")))
        image.write_bytes(whole)
    check_data(folder)


def test_progress_is_a_switch(pairs, capsys):
    mirl.evaluate(None, pairs, progress=False)
    assert capsys.readouterr().err == ""
    mirl.evaluate(None, (pair for pair in pairs))
    assert "evaluate: 2pair" in capsys.readouterr().err


@pytest.mark.parametrize("by_task", [False, True])
def test_the_bar_counts_what_data_gives(pairs, by_task, capsys):
    batches = [tuple(np.stack(images) for images in zip(*pairs, strict=True)), pairs[0]]
    mirl.evaluate(None, {"night": batches, "fog": pairs[:1]} if by_task else batches)
    assert f"{2 + by_task}/{2 + by_task} " in capsys.readouterr().err


def test_a_length_may_be_asked_for_in_vain(pairs):
    class Streamed:
        def __len__(self):
            raise TypeError("a stream has none")

        def __iter__(self):
            return iter(pairs)

    assert mirl.evaluate(None, Streamed()) == mirl.evaluate(None, pairs)


def test_a_hidden_bar_needs_no_notebook(pairs, monkeypatch):
    """It would warn where ipywidgets are missing."""
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    mirl.evaluate(None, pairs, progress=False)


def test_a_result_of_another_shape_is_refused(pairs):
    with pytest.raises(
        ValueError, match=r"returned \(1, 1, 32, 48\) for images of shape \(1, 3, 32"
    ):
        mirl.evaluate(lambda images: images[:, :1], pairs, progress=False)


def test_a_function_may_work_in_place(pairs):
    def brighter(images):
        images *= 1.1
        return images

    before = [image.copy() for pair in pairs for image in pair]
    (row,) = mirl.evaluate(brighter, pairs, progress=False).rows
    np.testing.assert_array_equal([image for pair in pairs for image in pair], before)
    assert row.psnr_input == mirl.evaluate(None, pairs, progress=False).rows[0].psnr


def test_a_model_that_is_none_is_named(pairs):
    with pytest.raises(TypeError, match="model must be"):
        mirl.evaluate("net.safetensors", pairs)


def test_clean_images_may_leave_the_range_a_little():
    clean = image(0).copy()
    clean.flat[:2] = -0.5, 1.5
    assert len(mirl.evaluate(None, [(3 * clean, clean)], progress=False).images) == 1


@pytest.mark.parametrize("name", ["clip", "progress"])
def test_switches_are_true_or_false(pairs, name):
    with pytest.raises(TypeError, match=f"{name} must be True or False, got 'no'"):
        mirl.evaluate(None, pairs, **{name: "no"})


def test_a_model_is_named_by_its_type_alone(pairs):
    with pytest.raises(TypeError, match=r"model must be .*, got ndarray$"):
        mirl.evaluate(image(0), pairs)
