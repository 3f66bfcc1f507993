"""Image files: what is written comes back, and what is damaged is named."""

import errno
import io
import os
import re
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

import mirl
from mirl.errors import FormatError
from mirl.io import atomic, write_text

ENDINGS = ("png", "jpg", "bmp", "tiff", "webp")


def pixels(channels, dtype=np.uint8, shape=(20, 30)):
    rng = np.random.default_rng(channels)
    return rng.integers(0, np.iinfo(dtype).max, (*shape, channels), dtype, endpoint=True)


def pillow(path):
    """The file as pillow sees it, and closed."""
    return Image.open(io.BytesIO(path.read_bytes()))


@pytest.fixture(scope="module")
def profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    ("ending", "channels", "dtype"),
    [("png", channels, dtype) for channels in (1, 2, 3, 4) for dtype in (np.uint8, np.uint16)]
    + [("tiff", channels, dtype) for channels in (1, 3, 4) for dtype in (np.uint8, np.uint16)]
    + [("webp", channels, np.uint8) for channels in (3, 4)]
    + [("bmp", channels, np.uint8) for channels in (3, 4)],
)
def test_lossless_formats_give_back_what_they_got(tmp_path, ending, channels, dtype):
    image = pixels(channels, dtype)
    mirl.write_image(tmp_path / f"a.{ending}", image)
    read = mirl.read_image(tmp_path / f"a.{ending}")
    assert read.pixels.dtype == dtype
    np.testing.assert_array_equal(read.pixels, image)
    assert (read.icc, read.exif) == (None, None)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_needs_no_axis_of_channels(tmp_path, dtype):
    """As mirl.restore takes it, and gives it back; as a view of something larger, too."""
    image = pixels(3, dtype)
    mirl.write_image(tmp_path / "a.png", image[:, :, 1])
    np.testing.assert_array_equal(mirl.read_image(tmp_path / "a.png").pixels, image[:, :, 1:2])


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 1), (9, 1, 3)])
def test_an_image_may_have_one_row_or_column(tmp_path, shape):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    mirl.write_image(tmp_path / "a.png", image)
    np.testing.assert_array_equal(mirl.read_image(tmp_path / "a.png").pixels, image)


@pytest.mark.parametrize("ending", ENDINGS)
def test_reads_as_pillow_does(tmp_path, ending):
    smooth = np.linspace(0, 255, 20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
    options = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(smooth).save(tmp_path / f"a.{ending}", **options)
    expected = np.asarray(pillow(tmp_path / f"a.{ending}"))
    read = mirl.read_image(tmp_path / f"a.{ending}").pixels
    # JPEG decoders may round their transforms differently.
    np.testing.assert_allclose(read.astype(int), expected, rtol=0, atol=3 if ending == "jpg" else 0)


def test_jpeg_is_written_well(tmp_path):
    from skimage import data

    photo = data.astronaut()
    mirl.write_image(tmp_path / "a.jpg", photo)
    planes = [
        i.transpose(2, 0, 1) / 255 for i in (mirl.read_image(tmp_path / "a.jpg").pixels, photo)
    ]
    assert mirl.psnr(*planes) > 35
    # Quality 95, by the tables of the standard that libjpeg scales.
    Image.fromarray(photo).save(tmp_path / "b.jpg", quality=95)
    assert pillow(tmp_path / "a.jpg").quantization == pillow(tmp_path / "b.jpg").quantization


@pytest.mark.parametrize("mode", ["P", "1", "L"])
def test_other_kinds_of_png(tmp_path, mode):
    image = Image.fromarray(pixels(3)).convert(mode)
    image.save(tmp_path / "a.png")
    read = mirl.read_image(tmp_path / "a.png").pixels
    expected = np.asarray(image.convert("RGB" if mode == "P" else "L"))
    np.testing.assert_array_equal(read, expected.reshape(read.shape))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tiff", "webp"])
def test_orientation_is_applied_once(tmp_path, ending, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "a caption"
    options = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(pixels(3)).save(tmp_path / f"a.{ending}", exif=exif, **options)
    read = mirl.read_image(tmp_path / f"a.{ending}")
    upright = np.asarray(ImageOps.exif_transpose(pillow(tmp_path / f"a.{ending}")))
    np.testing.assert_array_equal(read.pixels, upright)
    if ending == "tiff":
        return  # its tags are no EXIF block that could be handed on
    mirl.write_image(tmp_path / f"b.{ending}", read.pixels, exif=read.exif)
    again = mirl.read_image(tmp_path / f"b.{ending}")
    np.testing.assert_array_equal(again.pixels, upright)
    kept = pillow(tmp_path / f"b.{ending}").getexif()
    assert (kept[0x0112], kept[0x010E]) == (1, "a caption")


def test_a_profile_of_tiff_is_kept_and_pages_are_told(tmp_path, profile):
    Image.fromarray(pixels(3)).save(tmp_path / "a.tiff", icc_profile=profile)
    assert mirl.read_image(tmp_path / "a.tiff").icc == profile
    mirl.write_image(tmp_path / "b.tiff", pixels(3), icc=profile)
    assert mirl.read_image(tmp_path / "b.tiff").icc == profile
    page = Image.fromarray(pixels(3))
    page.save(tmp_path / "c.tiff", save_all=True, append_images=[page])
    with pytest.warns(UserWarning, match=r"c\.tiff: the first of several pages"):
        read = mirl.read_image(tmp_path / "c.tiff")
    np.testing.assert_array_equal(read.pixels, pixels(3))


def test_grey_keeps_its_alpha_in_bmp(tmp_path):
    mirl.write_image(tmp_path / "a.bmp", pixels(2))
    read = mirl.read_image(tmp_path / "a.bmp").pixels
    np.testing.assert_array_equal(read, pixels(2)[:, :, [0, 0, 0, 1]])


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_colour_profile_and_exif_are_kept(tmp_path, ending, profile):
    exif = Image.Exif()
    exif[0x010E] = "a caption"
    raw = exif.tobytes().removeprefix(b"Exif\0\0")
    mirl.write_image(tmp_path / f"a.{ending}", pixels(3), icc=profile, exif=raw)
    read = mirl.read_image(tmp_path / f"a.{ending}")
    assert (read.icc, read.exif) == (profile, raw)
    seen = pillow(tmp_path / f"a.{ending}")
    assert seen.info["icc_profile"] == profile
    assert seen.getexif()[0x010E] == "a caption"


def test_formats_without_a_place_for_them_hold_the_pixels(tmp_path, profile):
    mirl.write_image(tmp_path / "a.bmp", pixels(3), icc=profile, exif=b"II*\0")
    read = mirl.read_image(tmp_path / "a.bmp")
    np.testing.assert_array_equal(read.pixels, pixels(3))
    assert (read.icc, read.exif) == (None, None)


def test_exif_that_is_too_long_for_jpeg_is_left_out(tmp_path):
    mirl.write_image(tmp_path / "a.jpg", pixels(3), exif=b"II*\0" + bytes(70_000))
    assert mirl.read_image(tmp_path / "a.jpg").exif is None
    pillow(tmp_path / "a.jpg").load()


def test_the_profile_of_cmyk_is_not_that_of_its_rgb(tmp_path, profile):
    cmyk = profile[:16] + b"CMYK" + profile[20:]
    Image.fromarray(pixels(3)).convert("CMYK").save(tmp_path / "a.jpg", icc_profile=cmyk)
    read = mirl.read_image(tmp_path / "a.jpg")
    assert read.pixels.shape == (20, 30, 3)
    assert read.icc is None


def test_files_are_told_by_their_content(tmp_path):
    mirl.write_image(tmp_path / "a.png", pixels(3))
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(mirl.read_image(tmp_path / "a.jpg").pixels, pixels(3))


def test_nothing_is_overwritten_without_force(tmp_path):
    path = tmp_path / "a.png"
    mirl.write_image(path, pixels(3))
    with pytest.raises(FileExistsError, match=r"a\.png"):
        mirl.write_image(path, pixels(1))
    np.testing.assert_array_equal(mirl.read_image(path).pixels, pixels(3))
    mirl.write_image(path, pixels(1), force=True)
    np.testing.assert_array_equal(mirl.read_image(path).pixels, pixels(1))


@pytest.mark.parametrize(
    ("name", "image", "error", "message"),
    [
        ("a.gif", pixels(3), ValueError, "Gif"),
        ("a.xyz", pixels(3), ValueError, "xyz"),
        ("a", pixels(3), ValueError, "format could not be determined"),
        ("a.jpg", pixels(4), ValueError, r"a\.jpg.*Rgba8"),
        ("a.webp", pixels(3, np.uint16), ValueError, r"a\.webp.*Rgb16"),
        ("a.jpg", np.zeros((1, 70_000, 3), np.uint8), ValueError, "70000 x 1"),
        ("a.png", np.zeros((0, 5, 3), np.uint8), ValueError, "without a pixel"),
        ("a.png", np.zeros(5, np.uint8), ValueError, r"\[5\]"),
        ("a.png", np.zeros((5, 5, 5), np.uint8), ValueError, r"\[5, 5, 5\]"),
        ("a.png", np.zeros((5, 5, 3)), TypeError, "uint8 or uint16, got float64"),
        ("a.png", [[0]], TypeError, "uint8 or uint16, got list"),
        ("no/a.png", pixels(3), FileNotFoundError, r"no/a\.png"),
    ],
)
def test_what_cannot_be_written_leaves_no_file(tmp_path, name, image, error, message):
    with pytest.raises(error, match=message):
        mirl.write_image(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_was_cut_is_damaged(tmp_path, ending):
    from skimage import data

    mirl.write_image(tmp_path / f"a.{ending}", data.astronaut())
    whole = (tmp_path / f"a.{ending}").read_bytes()
    for length in (0, 1, 20, len(whole) // 4, len(whole) * 9 // 10):
        (tmp_path / f"cut.{ending}").write_bytes(whole[:length])
        with pytest.raises(FormatError, match=rf"cut\.{ending}"):
            mirl.read_image(tmp_path / f"cut.{ending}")


@pytest.mark.filterwarnings("ignore:.*first of several pages")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_with_wrong_bytes_gives_pixels_or_an_error(tmp_path, ending):
    mirl.write_image(tmp_path / f"a.{ending}", pixels(3, shape=(40, 40)))
    whole = np.frombuffer((tmp_path / f"a.{ending}").read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    read = 0
    for _ in range(200):
        bad = whole.copy()
        bad[rng.integers(0, len(bad), 4)] = rng.integers(0, 256, 4)
        (tmp_path / f"bad.{ending}").write_bytes(bad)
        try:
            mirl.read_image(tmp_path / f"bad.{ending}")
            read += 1
        except (FormatError, OSError) as error:
            assert f"bad.{ending}" in str(error)  # noqa: PT017
    assert read < 200
    assert (read > 0) == (ending != "png")  # which has checksums


def png_head(width, height):
    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def bmp_head(width, height):
    return b"BM" + struct.pack(
        "<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0
    )


@pytest.mark.parametrize("head", [png_head, bmp_head])
@pytest.mark.parametrize("side", [20_000, 60_000, 2**31 - 1])
def test_a_head_that_promises_too_much_is_refused(tmp_path, head, side):
    (tmp_path / "bomb").write_bytes(head(side, side))
    why = "10800000000 bytes of pixels, more than" if side == 60_000 else ""
    with pytest.raises(FormatError, match=f"bomb: .*{why}"):
        mirl.read_image(tmp_path / "bomb")


def test_a_jpeg_that_promises_more_than_its_bytes_can_hold_is_refused(tmp_path):
    """Its decoder would fill gigabytes with grey."""
    mirl.write_image(tmp_path / "a.jpg", pixels(3))
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    size = data.index(b"\xff\xc0") + 5  # of the frame, behind marker, length and precision
    data[size : size + 4] = struct.pack(">HH", 26_000, 25_000)
    (tmp_path / "bomb.jpg").write_bytes(data)
    why = rf"bomb\.jpg: {len(data)} bytes cannot hold 25000x26000 pixels"
    with pytest.raises(FormatError, match=why):
        mirl.read_image(tmp_path / "bomb.jpg")


def test_a_jpeg_of_two_bits_a_block_is_read(tmp_path):
    Image.new("L", (4096, 4096), 128).save(tmp_path / "a.jpg", optimize=True, progressive=True)
    assert (tmp_path / "a.jpg").stat().st_size < 1.1 * 2 * 4096 * 4096 / 64 / 8
    assert (mirl.read_image(tmp_path / "a.jpg").pixels == 128).all()


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "note.png").write_text("hello")
    with pytest.raises(FormatError, match=r"note\.png: not an image: expected PNG, JPEG"):
        mirl.read_image(tmp_path / "note.png")
    Image.fromarray(pixels(3)).save(tmp_path / "a.gif")
    with pytest.raises(FormatError, match=r"a\.gif.*Gif"):
        mirl.read_image(tmp_path / "a.gif")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(FormatError, match=r"a\.tiff"):
        mirl.read_image(tmp_path / "a.tiff")
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        mirl.read_image(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError):
        mirl.read_image(tmp_path)


def test_colours_of_another_type_are_named(tmp_path):
    """A TIFF file of 2x2 pixels of three 32-bit floats, which pillow does not write."""
    long, short = 4, 3
    values = np.linspace(0, 1, 12).astype("<f4").tobytes()
    bits, pixels = 8 + 2 + 10 * 12 + 4, 8 + 2 + 10 * 12 + 4 + 2 * 6
    tags = [
        (256, short, 1, 2),  # width
        (257, short, 1, 2),  # height
        (258, short, 3, bits),
        (259, short, 1, 1),  # not compressed
        (262, short, 1, 2),  # RGB
        (273, long, 1, pixels),
        (277, short, 1, 3),
        (278, short, 1, 2),
        (279, long, 1, len(values)),
        (339, short, 3, bits + 6),
    ]
    directory = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<LH", 8, len(tags)) + directory + bytes(4)
    formats = struct.pack("<6H", 32, 32, 32, 3, 3, 3)
    path = tmp_path / "train" / "denoise" / "Set" / "a.tiff"
    path.parent.mkdir(parents=True)
    path.write_bytes(head + formats + values)
    for read in (
        lambda: mirl.read_image(path),
        lambda: list(mirl.Loader.from_folder(tmp_path, tasks=["denoise"], patch_size=2)),
    ):
        with pytest.raises(FormatError, match=r"a\.tiff: pixels of type Rgb32F are not support"):
            read()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_without_permission(tmp_path):
    mirl.write_image(tmp_path / "a.png", pixels(3))
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(PermissionError, match=r"a\.png"):
        mirl.read_image(tmp_path / "a.png")


def test_what_the_system_says_has_its_number(tmp_path):
    path = tmp_path / "no" / "a.png"
    for call in (lambda: mirl.write_image(path, pixels(3)), lambda: mirl.read_image(path)):
        with pytest.raises(FileNotFoundError, match=r"a\.png: ") as caught:
            call()
        assert caught.value.errno == errno.ENOENT


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    path = tmp_path / "file"
    meeting = threading.Barrier(2, timeout=10)

    def write(text):
        with atomic(path) as temporary:
            temporary.write_text(text)
            meeting.wait()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, ["first", "other"]))
    assert path.read_text() in ("first", "other")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_links_stay_and_what_is_no_file_is_refused(tmp_path, small):
    (tmp_path / "elsewhere").mkdir()
    file, link, pipe = (tmp_path / name for name in ("elsewhere/file", "link", "pipe"))
    link.symlink_to(file)
    os.mkfifo(pipe)
    for save in (lambda path: write_text(path, "text"), small.save):
        file.write_text("before")
        save(link)
        assert link.is_symlink()
        assert file.read_bytes() != b"before"
        with pytest.raises(FileExistsError, match="not a file"):
            save(pipe)
        with pytest.raises(IsADirectoryError, match=tmp_path.name):
            save(tmp_path)
        assert pipe.is_fifo()


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    there = []
    monkeypatch.setattr("os.fsync", lambda file: there.append((tmp_path / "x").exists()))
    write_text(tmp_path / "x", "text")
    assert there == [False]
    assert (tmp_path / "x").read_text() == "text"


@pytest.mark.parametrize("name", [255 * "a", 250 * "a" + ".html", "a." + 253 * "b"])
def test_names_may_be_as_long_as_they_can(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert (tmp_path / name).read_text() == "text"


def test_temporary_files_end_like_the_file(tmp_path):
    with atomic(tmp_path / "a.parquet") as temporary:
        assert re.fullmatch(r"\.mirl-\d+-\d+\.tmp\.parquet", temporary.name)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_who_may_read_a_file_stays_and_what_others_write_is_left_alone(tmp_path):
    """A process of another container may have the same number."""
    path, theirs = tmp_path / "a.txt", tmp_path / "theirs.txt"
    theirs.write_text("theirs")
    path.write_text("before")
    path.chmod(0o600)
    taken = threading.get_ident()
    for number in (taken, taken + 1):
        (tmp_path / f".mirl-{os.getpid()}-{number}.tmp.txt").symlink_to(theirs)
    write_text(path, "after")
    assert theirs.read_text() == "theirs"
    assert path.read_text() == "after"
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("named", [False, True])
def test_a_file_that_cannot_be_written_is_named(tmp_path, named):
    path = tmp_path / "a.txt"
    with pytest.raises(PermissionError, match=r"'.*a\.txt'") as caught, atomic(path) as temporary:
        raise PermissionError(errno.EACCES, "denied", *([str(temporary)] if named else []))
    assert caught.value.filename == str(path)


def test_names_may_be_as_long_as_they_can_be(small, tmp_path):
    for ending in (".safetensors", ".mirl.safetensors"):
        path = tmp_path / ("x" * (255 - len(ending)) + ending)
        small.save(path)
        assert mirl.load(path).shapes == small.shapes
    image = tmp_path / ("x" * 251 + ".png")
    mirl.write_image(image, np.zeros((8, 8, 3), np.uint8))
    assert image.exists()


FULL = """
import errno, resource, sys
import numpy as np
import mirl

image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for ending in ("png", "jpg", "bmp", "tif", "webp"):
    try:
        mirl.write_image(f"{sys.argv[1]}/x.{ending}", image)
    except OSError as error:
        assert error.errno == errno.EFBIG, (ending, error.errno, error)
        print(ending)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_what_cannot_be_written_has_the_systems_number(tmp_path):
    """Whatever an encoder makes of it: a folder of images ends there where a disk is full."""
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stdout.split() == ["png", "jpg", "bmp", "tif", "webp"], run.stderr
    assert [*tmp_path.iterdir()] == []


def test_an_image_is_short(tmp_path):
    mirl.write_image(tmp_path / "photo.png", np.zeros((8, 9, 3), np.uint8))
    image = mirl.read_image(tmp_path / "photo.png")
    assert repr(image) == "Image(pixels=uint8 (8, 9, 3), icc=None, exif=None)"
    assert "icc=1,000 bytes" in repr(image._replace(icc=bytes(1000)))


def test_force_is_a_switch(tmp_path):
    with pytest.raises(TypeError, match="force must be True or False, got 'no'"):
        mirl.write_image(tmp_path / "photo.png", np.zeros((8, 9, 3), np.uint8), force="no")
