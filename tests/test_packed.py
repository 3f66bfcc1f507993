"""Packed files: nothing is lost but what was asked for, they are small, and damage is found."""

import json
import re
import struct

import numpy as np
import pytest

import mirl
from mirl.load import load_native
from mirl.rounding import cost_of_rounding
from reference import UNUSED, random_images
from same import assert_same_state

TINY = {
    "dim": 2,
    "num_blocks": (1, 1, 1, 1),
    "num_refinement_blocks": 1,
    "heads": (1, 1, 1, 1),
    "prompt_dims": (2, 2, 5),
    "prompt_sizes": (2, 2, 1),
    "prompt_len": 1,
}
BITS = {"float32": 32, "float16": 16, "bfloat16": 16}


def rounded(values, dtype):
    """To the nearest value, ties to even."""
    if dtype != "bfloat16":
        return values.astype(dtype).astype(np.float32)
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("density", [1.0, 0.99, 0.5, 0.1, 0.01, 0.0])
def test_survivors_and_masks_come_back(small, tmp_path, dtype, density):
    draw = np.random.default_rng(0).random
    shapes = small.shapes.items()
    small.mask = {name: draw(shape) < density for name, shape in shapes if "weight" in name}
    small.save(tmp_path / "x.mirl.safetensors", dtype=dtype, unused=True)
    again = mirl.load(tmp_path / "x.mirl.safetensors")
    assert again.config == small.config
    masks, state = again.mask, again.state_dict()
    assert_same_state(masks, small.mask)
    for name, values in small.state_dict().items():
        expected = rounded(values, dtype)
        np.testing.assert_array_equal(state[name].view(np.uint32), expected.view(np.uint32))


def test_what_no_forward_uses_is_left_out(small, tmp_path):
    image = random_images(0, (1, 3, 16, 16))
    mirl.prune(small, 0.5)
    small.save(tmp_path / "x.mirl.safetensors")
    again = mirl.load(tmp_path / "x.mirl.safetensors")
    np.testing.assert_array_equal(again(image), small(image))
    state, masks = again.state_dict(), again.mask
    for name, values in small.state_dict().items():
        if name.startswith(UNUSED):
            assert not state[name].any()
            assert not masks[name].any()
        else:
            np.testing.assert_array_equal(state[name], values)
    assert again.density().prunable == small.density().prunable


@pytest.mark.parametrize(("dtype", "most"), [("float32", 15.3e6), ("float16", 8.2e6)])
def test_the_published_density_is_small(tmp_path, dtype, most):
    """Masks without any pattern: those of a trained network are shorter."""
    model = mirl.PromptIR(seed=0)
    draw = np.random.default_rng(0).random
    shapes = model.shapes.items()
    model.mask = {name: draw(shape) < 0.0352 for name, shape in shapes if "weight" in name}
    assert model.density("paper-code").all == pytest.approx(0.1001, abs=1e-4)
    model.save(tmp_path / "x.mirl.safetensors", dtype=dtype, unused=True)
    assert (tmp_path / "x.mirl.safetensors").stat().st_size <= most


def test_files_tell_what_they_are(small, tmp_path):
    mirl.prune(small, 0.5)
    small.save(tmp_path / "x.mirl.safetensors", {"round": "3"}, dtype="float16")
    found = mirl.inspect(tmp_path / "x.mirl.safetensors")
    about = found.metadata
    assert (about["seed"], about["dtype"], about["round"]) == (1, "float16", 3)
    # Of what the file holds: without the convolutions that the forward never uses.
    assert about["density"] == pytest.approx(found.density._asdict())
    assert about["density"]["all"] < small.density().all
    cost = about["rounding"]
    assert cost["cost"] == pytest.approx(cost["psnr_float32"] - cost["psnr"])
    assert abs(cost["cost"]) < 0.05
    assert cost["between"] > 50
    assert {tensor.dtype for tensor in found.tensors} == {"float16"}
    assert " dB on an image, " in found.table()
    assert max(map(len, found.table().splitlines())) <= 80
    assert "mirl-packed" in repr(found)
    assert len(repr(found)) < 300


def test_strings_that_look_like_numbers_stay_strings(small, tmp_path):
    """A checksum of 12e45678 is no infinity, a commit of 12e4 no 120000."""
    names = [f"x{number}.mirl.safetensors" for number in range(2)]
    for name in names:
        small.save(tmp_path / name, {"commit": "12e4", "long": "1e999", "round": "3"})
        about = mirl.inspect(tmp_path / name).metadata
        assert (about["commit"], about["long"], about["round"]) == ("12e4", "1e999", 3)
        assert isinstance(about["crc32"], str)


@pytest.mark.parametrize("suffix", [".pth", ".onnx", ".ckpt", ".PTH"])
def test_other_kinds_of_files_are_exported(small, tmp_path, suffix):
    """As those that there are: no .ckpt is written."""
    with pytest.raises(ValueError, match=r"for \.pth and \.onnx see mirl\.export$"):
        small.save(tmp_path / f"x{suffix}")
    assert not list(tmp_path.iterdir())


def test_what_rounding_costs_is_told_of_clipped_images_with_noise():
    """Of σ = 25, 20.2 dB, a little more where it was clipped."""
    cost = cost_of_rounding(lambda noisy: noisy, lambda noisy: np.where(noisy == 1, 7, noisy))
    assert cost["psnr_float32"] == pytest.approx(20.3, abs=0.2)
    assert cost["cost"] == 0
    assert cost["between"] is None


def test_rounding_to_fewer_bits_costs_more(small, tmp_path):
    costs = {}
    for dtype in ("float16", "bfloat16"):
        small.save(tmp_path / "x.mirl.safetensors", dtype=dtype)
        costs[dtype] = mirl.inspect(tmp_path / "x.mirl.safetensors").metadata["rounding"]
    assert costs["float16"]["between"] > costs["bfloat16"]["between"] + 10


def test_wrong_requests_write_nothing(small, tmp_path):
    state = small.state_dict()
    state["output.weight"][0, 0, 0, 0] = 1e6
    small.load_state_dict(state)
    with pytest.raises(ValueError, match=r"output\.weight holds 1000000"):
        small.save(tmp_path / "x.mirl.safetensors", dtype="float16")
    with pytest.raises(ValueError, match="dtype must be"):
        small.save(tmp_path / "x.mirl.safetensors", dtype="int8")
    for wish in ({"dtype": "float16"}, {"unused": True}):
        with pytest.raises(ValueError, match="packed files"):
            small.save(tmp_path / "x.safetensors", **wish)
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small file, and what it holds."""
    model = mirl.PromptIR(seed=0, **TINY)
    mirl.prune(model, 0.7)
    path = tmp_path_factory.mktemp("tiny") / "x.mirl.safetensors"
    model.save(path)
    return path.read_bytes(), mirl.load(path)


def is_refused_or_equal(path, data, model):
    path.write_bytes(data)
    try:
        again = load_native(path)
    except mirl.errors.FormatError as error:
        assert path.name in str(error)  # noqa: PT017
        return
    masks, state = again.mask, again.state_dict()
    assert masks.keys() == model.mask.keys()
    assert all(np.array_equal(masks[name], mask) for name, mask in model.mask.items())
    assert_same_state(state, model.state_dict())


def test_every_changed_byte_is_found(tiny, tmp_path):
    data, model = tiny
    draw = np.random.default_rng(0)
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= int(draw.integers(1, 256))
        is_refused_or_equal(tmp_path / "x.mirl.safetensors", bytes(changed), model)


def test_every_length_is_found(tiny, tmp_path):
    data, model = tiny
    for length in range(0, len(data), 97):
        is_refused_or_equal(tmp_path / "x.mirl.safetensors", data[:length], model)
        is_refused_or_equal(tmp_path / "x.mirl.safetensors", data + data[:length], model)


def rewritten(data, change):
    """The file with another header, whose checksum is as it was, and the header's own left out."""
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:end])
    change(header)
    metadata = json.loads(header["__metadata__"]["mirl"])
    metadata.pop("header_crc32", None)
    header["__metadata__"]["mirl"] = json.dumps(metadata)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[end:]


def about(**changes):
    def change(header):
        metadata = json.loads(header["__metadata__"]["mirl"])
        config = json.loads(metadata["config"])
        config.update({key: value for key, value in changes.items() if key in config})
        metadata["config"] = json.dumps(config)
        metadata.update({key: value for key, value in changes.items() if key not in config})
        header["__metadata__"]["mirl"] = json.dumps(metadata)

    return change


def without_checksum(header):
    about = header["__metadata__"]
    about["mirl"] = about["mirl"].replace("crc32", "crc")


HOSTILE = {
    "larger than any memory": about(dim=1 << 40),
    "more blocks than memory": about(num_blocks=[1 << 60, 1, 1, 1]),
    "other sizes": about(dim=4),
    "other heads": about(heads=[2, 1, 1, 1]),
    "another version": about(version="1"),
    "another network": about(network="Restormer"),
    "another checksum": about(crc32="00000000"),
    "no checksum": without_checksum,
    "no config": lambda header: header["__metadata__"].update(
        mirl=header["__metadata__"]["mirl"].replace("config", "confix")
    ),
    "a tensor too many": lambda header: header.update(
        more={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    ),
    "a tensor less": lambda header: header.pop("output.weight"),
    "a tensor of another name": lambda header: header.update(other=header.pop("output.weight")),
    "a mask less": lambda header: header.update(other=header.pop("mask.output.weight")),
    "a type that is none": lambda header: header["output.weight"].update(dtype="I32"),
    "overlapping tensors": lambda header: header["output.weight"].update(data_offsets=[0, 4]),
    "a shape beyond the file": lambda header: header["output.weight"].update(shape=[1 << 62]),
}


def test_a_header_of_the_same_words_is_read(tiny, tmp_path):
    """As rewritten, and without its own checksum, as those of earlier versions were."""
    path = tmp_path / "x.mirl.safetensors"
    path.write_bytes(rewritten(tiny[0], lambda header: None))
    assert_same_state(mirl.load(path).state_dict(), tiny[1].state_dict())


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers_are_refused(tiny, tmp_path, change):
    path = tmp_path / "x.mirl.safetensors"
    path.write_bytes(rewritten(tiny[0], change))
    with pytest.raises(mirl.errors.FormatError, match=r"x\.mirl\.safetensors"):
        mirl.load(path)


@pytest.mark.parametrize("changes", [{"version": "2"}, {"network": "Other"}, {"format": "?"}])
def test_dense_files_of_another_kind_are_refused(tiny, tmp_path, changes):
    path = tmp_path / "x.safetensors"
    tiny[1].save(path)
    path.write_bytes(rewritten(path.read_bytes(), about(**changes)))
    with pytest.raises(
        mirl.errors.FormatError, match=rf"x\.safetensors.*{re.escape(*changes.values())}"
    ):
        mirl.load(path)


def test_dense_files_may_lack_checksums(tiny, tmp_path):
    path = tmp_path / "x.safetensors"
    tiny[1].save(path)
    path.write_bytes(rewritten(path.read_bytes(), without_checksum))
    assert_same_state(mirl.load(path).state_dict(), tiny[1].state_dict())


@pytest.mark.parametrize("name", ["x.mirl.safetensors", "x.safetensors"])
def test_every_changed_byte_of_a_header_is_found(tmp_path, name):
    """What it tells is the same, too: a round, a mask's name."""
    model = mirl.PromptIR(seed=0, **TINY)
    mirl.prune(model, 0.7)
    path = tmp_path / name
    model.save(path, {"round": "3"})
    data, told = path.read_bytes(), mirl.inspect(path).metadata
    end = 8 + struct.unpack("<Q", data[:8])[0]
    draw = np.random.default_rng(0)
    for place in range(8, end, 11):
        changed = bytearray(data)
        changed[place] ^= int(draw.integers(1, 256))
        path.write_bytes(changed)
        try:
            load_native(path)
        except mirl.errors.FormatError:
            continue
        # Changed in the key of the checksum itself.
        found = mirl.inspect(path).metadata
        assert all(found[key] == told[key] for key in told.keys() - {"header_crc32"}), place


@pytest.mark.parametrize("name", ["t.mirl.safetensors", "t.safetensors"])
@pytest.mark.parametrize(
    "key", ["format", "version", "network", "config", "seed", "density", "mirl"]
)
def test_metadata_cannot_say_that_a_file_is_another(small, tmp_path, name, key):
    path = tmp_path / name
    small.save(path, {"run": "first"})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"metadata.*{key}"):
        small.save(path, {key: "other"})
    assert path.read_bytes() == before
    assert mirl.inspect(path).metadata["run"] == "first"


def test_packed_files_are_small(small, tmp_path):
    for _ in range(10):
        mirl.prune(small, 0.2)
    names = ("dense.safetensors", "packed.mirl.safetensors")
    for name in names:
        small.save(tmp_path / name)
    dense, packed = (
        (tmp_path / f).stat().st_size for f in ("dense.safetensors", "packed.mirl.safetensors")
    )
    alive = small.density().all * small.num_parameters * 4
    header = 0.2 * dense
    assert packed < alive + 0.06 * small.num_parameters + header
    assert packed < 0.4 * dense
