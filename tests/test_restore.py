"""Images of every kind and size through a network, in one piece or in tiles."""

import errno
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mirl
from mirl.errors import DivergenceError, FormatError
from mirl.io import read_image, write_image
from mirl.restore import BYTES_PER_PIXEL, restore, restore_files


class Fake(mirl.PromptIR):
    """A network that applies a function to its input and counts its calls."""

    _network = SimpleNamespace(channels=16)
    device = "cpu"
    multiple = 8
    shapes = None
    """Of the images of each call; no longer of the parameters."""

    def __init__(self, function=lambda images: images):
        self.function = function
        self.shapes = []

    def __call__(self, images):
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        self.shapes.append(images.shape)
        return self.function(images).astype(np.float32)


def pixels(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == np.float32:
        return rng.random(shape, np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 2), (9, 7, 3), (9, 7, 4)])
def test_the_identity_gives_the_image_back(dtype, shape):
    image = pixels(shape, dtype)
    before = image.copy()
    restored = restore(Fake(), image)
    assert restored.dtype == dtype
    np.testing.assert_allclose(restored, image, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(image, before)
    assert not np.shares_memory(restored, image)


def test_colours_change_and_alpha_does_not():
    image = pixels((6, 5, 4), np.uint8)
    restored = restore(Fake(lambda x: 1 - x), image)
    np.testing.assert_array_equal(restored[..., :3], 255 - image[..., :3])
    np.testing.assert_array_equal(restored[..., 3], image[..., 3])


def test_gray_is_the_mean_of_the_restored_colours():
    image = pixels((6, 5, 2), np.float32)
    weights = np.array([0.1, 0.2, 0.6], np.float32).reshape(1, 3, 1, 1)
    restored = restore(Fake(lambda x: x * weights), image)
    np.testing.assert_allclose(restored[..., 0], 0.3 * image[..., 0], atol=1e-6)
    np.testing.assert_array_equal(restored[..., 1], image[..., 1])


def test_sixteen_bits_stay_sixteen_bits():
    image = np.arange(3 * 256 * 4, dtype=np.uint16).reshape(16, 64, 3)
    np.testing.assert_array_equal(restore(Fake(lambda x: x + 1 / 65535), image), image + 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_results_are_clipped(dtype):
    image = pixels((4, 4, 3), dtype)
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    assert (restore(Fake(lambda x: x + 2), image) == white).all()
    assert (restore(Fake(lambda x: x - 2), image) == 0).all()


def test_batches_keep_their_layout():
    images = pixels((3, 3, 8, 10), np.float32)
    fake = Fake()
    np.testing.assert_array_equal(restore(fake, images), images)
    assert fake.shapes == [(3, 3, 8, 10)]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 40).flatmap(
        lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1))
    )
)  # fmt: skip
def test_tiles_of_the_identity_give_the_image_back(height, width, tiling):
    tile, overlap = tiling
    images = pixels((2, 3, height, width), np.float32)
    fake = Fake()
    restored = restore(fake, images, tile=tile, overlap=overlap)
    np.testing.assert_allclose(restored, images, rtol=0, atol=1e-6)
    assert all(h <= tile and w <= tile for _, _, h, w in fake.shapes)


def test_tiles_overlap_as_much_as_asked_and_are_blended_linearly():
    # Two tiles side by side; the first gives 0, the second 1.
    numbers = iter([0.0, 1.0])
    fake = Fake(lambda x: np.full_like(x, next(numbers)))
    restored = restore(fake, np.zeros((1, 3, 8, 56), np.float32), tile=32, overlap=8)
    assert fake.shapes == [(1, 3, 8, 32), (1, 3, 8, 32)]
    row = restored[0, 0, 3]
    assert (row[:24] == 0).all()
    assert (row[32:] == 1).all()
    np.testing.assert_allclose(np.diff(row[23:33]), 1 / 9, atol=1e-6)


def test_seams_do_not_show_with_a_real_network(small):
    image = pixels((3, 40, 72), np.float32)[np.newaxis]
    tiled = restore(small, image, tile=32, overlap=16)
    rows = [slice(0, 32), slice(8, 40)]
    alone = np.clip(small(np.ascontiguousarray(image[:, :, rows[0], :32])), 0, 1)
    np.testing.assert_allclose(tiled[:, :, :8, :12], alone[:, :, :8, :12], atol=1e-6)


def test_large_images_are_tiled_to_fit_the_memory(monkeypatch):
    area = 64 * 64
    memory = 2 * area * BYTES_PER_PIXEL * Fake._network.channels
    sizes = {"SC_PHYS_PAGES": memory // 4096, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", lambda name: sizes[name])
    images = pixels((3, 3, 64, 64), np.float32)
    fake = Fake()
    restore(fake, images)
    assert fake.shapes == [(1, 3, 64, 64)] * 3  # one by one, and still whole
    fake = Fake()
    image = pixels((100, 65, 3), np.uint8)
    np.testing.assert_array_equal(restore(fake, image), image)
    assert len(fake.shapes) > 1
    assert {(h, w) for _, _, h, w in fake.shapes} == {(64, 64)}


@pytest.mark.parametrize(("side", "tile"), [(70, 64), (20, 16), (3, 8)])
def test_automatic_tiles_need_no_padding_and_overlap_by_half_at_most(monkeypatch, side, tile):
    memory = 2 * side**2 * BYTES_PER_PIXEL * Fake._network.channels
    monkeypatch.setattr(sys.modules["mirl.restore"], "memory", lambda: memory)
    images = pixels((2, 3, 100, 90), np.float32)
    fake = Fake()
    np.testing.assert_allclose(restore(fake, images), images, rtol=0, atol=1e-6)
    assert {(h, w) for _, _, h, w in fake.shapes} == {(tile, tile)}


def test_what_the_network_pads_counts(monkeypatch):
    memory = 2 * (2 * 16**2) * BYTES_PER_PIXEL * Fake._network.channels
    monkeypatch.setattr(sys.modules["mirl.restore"], "memory", lambda: memory)
    fake = Fake()
    restore(fake, pixels((4, 3, 9, 9), np.float32))  # 16x16 to a network of multiples of 8
    assert fake.shapes == [(2, 3, 9, 9)] * 2


def test_an_unknown_memory_is_taken_to_hold_a_photo(monkeypatch):
    monkeypatch.setattr(sys.modules["mirl.restore"], "memory", lambda: None)
    fake = Fake()
    restore(fake, pixels((200, 300, 3), np.uint8))
    assert fake.shapes == [(1, 3, 200, 300)]


def test_a_gpu_restores_no_more_at_once_than_its_kernels_can_number(monkeypatch):
    class OnGpu(Fake):
        device = "cuda"

    restoring = sys.modules["mirl.restore"]
    monkeypatch.setattr(restoring._mirl, "gpu_memory", lambda: 2**60)
    monkeypatch.setattr(restoring, "GPU_MAX_ELEMENTS", Fake._network.channels * 64**2)
    for size, calls in (((64, 64), 1), ((64, 65), 2), ((100, 65), 6)):
        fake = OnGpu()
        image = pixels((*size, 3), np.uint8)
        np.testing.assert_array_equal(restore(fake, image), image)
        assert fake.shapes == [(1, 3, 64, 64)] * calls


def test_a_function_that_has_a_device_is_no_network_of_ours():
    """As modules of PyTorch have, and settings that are another thing than ours."""

    class Other:
        device, config = "cuda", None

        def __call__(self, images):
            return 1 - images

    image = pixels((16, 20, 3), np.uint8)
    np.testing.assert_array_equal(restore(Other(), image), 255 - image)


def test_a_function_is_restored_by_in_one_piece_or_in_tiles():
    image = pixels((16, 20, 3), np.uint8)
    for tiling in ({}, {"tile": 8, "overlap": 4}):
        np.testing.assert_array_equal(restore(lambda x: 1 - x, image, **tiling), 255 - image)


@pytest.mark.parametrize("tiling", [{}, {"tile": 8, "overlap": 4}])
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x[:, :1], r"returned \(1, 1, (16, 20|8, 8)\) for images of shape \(1, 3, "),
        (lambda x: x.mean((2, 3), keepdims=True), r"returned \(1, 3, 1, 1\) for"),
        (lambda x: x.repeat(2, axis=3), r"returned \(1, 3, (16, 40|8, 16)\) for"),
        (lambda x: x[0], r"returned \(3, (16, 20|8, 8)\) for"),
        (lambda x: (x, x), "returned tuple for"),
    ],
)
def test_a_result_of_another_shape_is_refused(function, message, tiling):
    with pytest.raises(ValueError, match=message):
        restore(function, pixels((16, 20, 3), np.uint8), **tiling)


@pytest.mark.parametrize("tiling", [{}, {"tile": 8, "overlap": 4}])
def test_a_function_may_return_what_exports_itself(tiling):
    class Exported:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    images = pixels((2, 3, 16, 20), np.float32)
    restored = restore(lambda x: Exported(1 - x.astype(float)), images, **tiling)
    np.testing.assert_allclose(restored, 1 - images, rtol=0, atol=1e-6)
    assert restored.dtype == np.float32


def test_progress_over_tiles_is_a_switch(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    image = pixels((16, 20, 3), np.uint8)
    restore(Fake(), image, tile=8, overlap=4)
    restore(Fake(), image, progress=True)
    assert capsys.readouterr().err == ""
    fake = Fake()
    restore(fake, image, tile=8, overlap=4, progress=True)
    assert f"/{len(fake.shapes)} " in capsys.readouterr().err
    write_image(tmp_path / "a.png", image)
    restore_files(Fake(), tmp_path / "a.png", tmp_path / "out", tile=8, overlap=4)
    said = capsys.readouterr().err
    assert f"/{len(fake.shapes)} " in said
    assert "1/1" in said


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((4, 4, 3)), TypeError, "float64"),
        (np.zeros((4, 4, 3), ">u2"), TypeError, ">u2"),
        ([[0]], TypeError, "list"),
        (np.zeros((4, 4, 5), np.uint8), ValueError, r"\(4, 4, 5\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"\(0, 4, 3\)"),
        (np.zeros((4,), np.uint8), ValueError, r"\(4,\)"),
        (np.zeros((1, 1, 4, 4), np.float32), ValueError, r"\(1, 1, 4, 4\)"),
        (np.zeros((1, 3, 4, 4), np.uint8), ValueError, "uint8"),
        (np.full((4, 4, 3), np.nan, np.float32), ValueError, "NaN"),
    ],
)
def test_other_arrays_are_refused(image, error, message):
    with pytest.raises(error, match=message):
        restore(Fake(), image)


def test_a_file_that_was_read_is_not_its_pixels(tmp_path):
    write_image(tmp_path / "a.png", pixels((9, 9, 3), np.uint8))
    with pytest.raises(TypeError, match=r"image: .* take its \.pixels"):
        restore(Fake(), read_image(tmp_path / "a.png"))


@pytest.mark.parametrize("name", ["tile", "overlap", "batch_size"])
def test_numbers_that_are_not_whole_are_named(tmp_path, name):
    with pytest.raises(TypeError, match=f"{name} must be a whole number, got 2.5"):
        restore_files(Fake(), [], tmp_path, **{name: 2.5})


@pytest.mark.parametrize(("tile", "overlap"), [(32, 32), (0, 0), (-8, 0), (None, -1)])
def test_tiles_that_make_no_sense_are_refused(tile, overlap):
    with pytest.raises(ValueError, match=r"tile|overlap"):
        restore(Fake(), np.zeros((4, 4), np.uint8), tile=tile, overlap=overlap)


@pytest.fixture
def photos(tmp_path):
    """Files of several formats: path to pixels."""
    images = {
        "a.png": pixels((12, 10, 3), np.uint8, 1),
        "b.png": pixels((12, 10, 4), np.uint8, 2),
        "c.png": pixels((12, 10, 1), np.uint16, 3),
        "d.tiff": pixels((9, 10, 3), np.uint16, 4),
        "e.bmp": pixels((9, 11, 3), np.uint8, 5),
    }
    for name, image in images.items():
        write_image(tmp_path / name, image)
    return {tmp_path / name: image for name, image in images.items()}


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_files_keep_name_and_kind(photos, tmp_path, batch_size, capsys):
    fake = Fake(lambda x: 1 - x)
    written = restore_files(fake, photos, tmp_path / "out" / "put", batch_size=batch_size)
    assert written == [tmp_path / "out" / "put" / path.name for path in photos]
    for path, (source, image) in zip(written, photos.items(), strict=True):
        expected = np.iinfo(image.dtype).max - image
        if image.shape[2] == 4:
            expected[..., 3] = image[..., 3]
        np.testing.assert_array_equal(read_image(path).pixels, expected, err_msg=str(source))
    counts = {1: [1, 1, 1, 1, 1], 2: [2, 1, 1, 1], 8: [3, 1, 1]}
    assert [shape[0] for shape in fake.shapes] == counts[batch_size]
    assert "restore: 100%" in capsys.readouterr().err


def test_a_photo_keeps_its_profile_and_orientation(tmp_path):
    from PIL import Image

    source = tmp_path / "x.jpg"
    photo = Image.fromarray(np.repeat(pixels((4, 6, 3), np.uint8), 8, 0).repeat(8, 1))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"  # turned by 90 degrees; who made it
    photo.save(source, exif=exif, icc_profile=b"profile", quality=95)
    (written,) = restore_files(Fake(), [source], tmp_path / "out", progress=False)
    with Image.open(written) as restored:
        assert restored.size == (32, 48)
        assert restored.info["icc_profile"] == b"profile"
        assert restored.getexif()[0x010F] == "maker"
        assert restored.getexif().get(0x0112, 1) == 1


def test_nothing_is_overwritten_without_force(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "d.tiff").write_bytes(b"mine")
    fake = Fake(lambda x: 1 - x)
    with pytest.raises(FileExistsError, match=r"d\.tiff: is already there"):
        restore_files(fake, photos, out, progress=False)
    with pytest.raises(FileExistsError, match=r"a\.png"):
        restore_files(fake, photos, tmp_path, progress=False)
    assert fake.shapes == []
    assert [path.name for path in out.iterdir()] == ["d.tiff"]
    assert (out / "d.tiff").read_bytes() == b"mine"
    restore_files(fake, photos, out, force=True, progress=False)
    np.testing.assert_array_equal(
        read_image(out / "d.tiff").pixels, 65535 - photos[tmp_path / "d.tiff"]
    )


def test_missing_files_and_equal_names_are_found_first(photos, tmp_path):
    fake, out = Fake(), tmp_path / "out"
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        restore_files(fake, [*photos, tmp_path / "none.png"], out)
    with pytest.raises(ValueError, match=r"a\.png"):
        restore_files(fake, [*photos, tmp_path / "." / "a.png"], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no image"):
        restore_files(fake, [*photos, tmp_path / "empty"], out)
    with pytest.raises(ValueError, match="batch_size"):
        restore_files(fake, photos, out, batch_size=0)
    assert fake.shapes == []
    assert not out.exists()


def test_a_folder_stands_for_its_images(photos, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    names = sorted(path.name for path in photos)
    for paths, out in ((tmp_path, "a"), (str(tmp_path), "b"), ([tmp_path], "c")):
        written = restore_files(Fake(), paths, tmp_path / out, progress=False)
        assert [path.name for path in written] == names
    (written,) = restore_files(Fake(), str(tmp_path / "a.png"), tmp_path / "d", progress=False)
    assert written == tmp_path / "d" / "a.png"


def test_unreadable_files_are_named_and_the_others_restored(photos, tmp_path):
    broken = [tmp_path / "broken.png", tmp_path / "text.jpg"]
    broken[0].write_bytes((tmp_path / "a.png").read_bytes()[:60])
    broken[1].write_text("hello")
    paths = [broken[0], *photos, broken[1]]
    with pytest.raises(FormatError, match=r"2 of 7 [^$]*broken\.png[^$]*text\.jpg"):
        restore_files(Fake(), paths, tmp_path / "out", progress=False)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in photos}


def test_files_that_cannot_be_written_are_named_and_the_others_restored(photos, tmp_path):
    misnamed = [tmp_path / name for name in ("alpha.jpg", "none")]
    misnamed[0].write_bytes((tmp_path / "b.png").read_bytes())
    misnamed[1].write_bytes((tmp_path / "a.png").read_bytes())
    broken = tmp_path / "broken.png"
    broken.write_text("hello")
    paths = [broken, *misnamed, *photos]
    message = r"3 of 8 [^$]*cannot be restored[^$]*broken\.png[^$]*alpha\.jpg[^$]*none"
    with pytest.raises(FormatError, match=message):
        restore_files(Fake(), paths, tmp_path / "out", batch_size=4, progress=False)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in photos}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_disk_ends_it(photos, tmp_path, monkeypatch, number):
    """The photos to come would not fit either."""

    def full(path, *_, **__):
        error = OSError(f"{path}: {os.strerror(number)}")  # as the core does
        error.errno = number
        raise error

    monkeypatch.setattr(sys.modules["mirl.restore"], "write_image", full)
    fake = Fake()
    with pytest.raises(OSError, match=r"a\.png: "):
        restore_files(fake, photos, tmp_path / "out", progress=False)
    assert len(fake.shapes) == 1


def test_the_public_name():
    assert mirl.restore is restore


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_diverged_restores_nothing(tmp_path, value):
    diverged = Fake(lambda images: images * value)
    with pytest.raises(DivergenceError, match="NaN or infinity"):
        restore(diverged, pixels((16, 16, 3), np.uint8) | 1)
    write_image(tmp_path / "photo.png", pixels((16, 16, 3), np.uint8) | 1)
    with pytest.raises(DivergenceError, match="NaN or infinity"):
        restore_files(diverged, [tmp_path / "photo.png"], tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_function_may_work_in_place():
    batch = pixels((2, 3, 16, 16), np.float32)
    before = batch.copy()
    restore(lambda images: np.negative(images, out=images), batch)
    np.testing.assert_array_equal(batch, before)


def test_a_model_that_is_none_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"model must be .* got None"):
        restore(None, pixels((9, 7, 3), np.uint8))
    with pytest.raises(TypeError, match=r"model must be .* got None"):
        restore_files(None, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["force", "progress"])
def test_switches_are_true_or_false(photos, tmp_path, name):
    with pytest.raises(TypeError, match=f"{name} must be True or False, got 'no'"):
        restore_files(Fake(), photos, tmp_path / "out", **{name: "no"})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("paths", [3, None, [3]])
def test_paths_that_are_none_are_named(tmp_path, paths):
    with pytest.raises(TypeError, match="paths must be a file, a folder, or several of them, got "):
        restore_files(Fake(), paths, tmp_path / "out")


def test_counts_without_a_default_of_none_are_named(tmp_path):
    with pytest.raises(TypeError, match="batch_size must be a whole number, got None"):
        restore_files(Fake(), [], tmp_path / "out", batch_size=None)
    with pytest.raises(TypeError, match="overlap must be a whole number, got True"):
        restore(Fake(), pixels((9, 7), np.uint8), overlap=True)
