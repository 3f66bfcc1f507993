"""Networks from every kind of file, told apart by what is in them."""

import json
import os
import struct

import numpy as np
import pytest

import mirl
from mirl.errors import FormatError
from mirl.load import load
from mirl.safetensors import read_metadata, read_safetensors
from reference import SMALL
from safetensors_files import TYPES, write_safetensors
from same import assert_same_state
from torch_files import write_state


def assert_equal_networks(a, b):
    assert a.config == b.config
    assert_same_state(a.state_dict(), b.state_dict())
    assert_same_state(a.mask, b.mask)


@pytest.fixture
def pruned(small):
    mirl.prune(small, 0.5)
    return small


@pytest.mark.parametrize("name", ["x.safetensors", "x.mirl.safetensors", "x.ckpt"])
def test_our_own_files(pruned, tmp_path, name):
    if name == "x.safetensors":
        pruned.save(tmp_path / name, {"origin": "a test"})
    else:
        pruned.save(tmp_path / "y.mirl.safetensors", {"origin": "a test"}, unused=True)
        (tmp_path / "y.mirl.safetensors").rename(tmp_path / name)  # the name does not matter
    loaded = load(tmp_path / name)
    assert_equal_networks(loaded, pruned)
    for key, values in pruned.state_dict().items():
        assert loaded.state_dict()[key].tobytes() == values.tobytes()  # the signs of zeros, too
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_is_no_network_and_names_the_ticket_in_it(pruned, tmp_path):
    for read in (load, mirl.inspect):
        with pytest.raises(IsADirectoryError, match=rf"{tmp_path.name}: a folder, not a network$"):
            read(tmp_path)
    pruned.save(tmp_path / "ticket.mirl.safetensors")
    with pytest.raises(IsADirectoryError, match=r"; the ticket in it is .*/ticket\.mirl\.safet"):
        load(str(tmp_path))


def test_a_published_checkpoint_gets_its_mask_from_the_zeros(pruned, tmp_path):
    path = write_state(
        tmp_path / "x.ckpt",
        {f"net.{name}": values for name, values in pruned.state_dict().items()},
        lambda state: {"epoch": 1, "state_dict": state},
    )
    loaded = load(str(path))
    assert loaded.mask
    assert_equal_networks(loaded, pruned)


@pytest.mark.parametrize(
    "prefix", ["net.", "module.", "model.", "_orig_mod.", "net._orig_mod.", "generator.module.net."]
)
def test_every_way_in_takes_the_names_of_other_training_code(pruned, tmp_path, prefix):
    state = {f"{prefix}{name}": values for name, values in pruned.state_dict().items()}
    loss = {"lpips.lin0.weight": np.ones(1, np.float32)}
    pickled = write_state(tmp_path / "x.ckpt", state | loss, lambda held: {"state_dict": held})
    for path in (pickled, write_safetensors(tmp_path / "x.safetensors", state | loss, {})):
        with pytest.raises(FormatError, match=r"unexpected parameters: lpips\.lin0\.weight"):
            load(path)
        assert_equal_networks(load(path, strict=False), pruned)
    assert_equal_networks(load(write_safetensors(tmp_path / "y", state, {})), pruned)
    assert_equal_networks(mirl.PromptIR.from_state_dict(state), pruned)


def test_parameters_that_pytorch_has_masked_are_pruned(pruned, tmp_path):
    """torch.nn.utils.prune keeps what a weight was, and a mask, until prune.remove."""
    rng, state = np.random.default_rng(0), {}
    for name, values in pruned.state_dict().items():
        if name in pruned.mask:
            mask = pruned.mask[name]
            noise = rng.random(values.shape, np.float32)
            state[f"net.{name}_orig"] = np.where(mask, values, noise)
            state[f"net.{name}_mask"] = mask.astype(np.float32)
        else:
            state[f"net.{name}"] = values
    assert_equal_networks(load(write_state(tmp_path / "x.pth", state)), pruned)
    assert_equal_networks(load(write_safetensors(tmp_path / "y", state, {})), pruned)
    assert_equal_networks(mirl.PromptIR.from_state_dict(state), pruned)


def test_of_several_networks_that_of_the_published_module_or_none(small, tmp_path):
    state = small.state_dict()

    def both(name):
        average = {f"ema.{key}": np.zeros_like(values) for key, values in state.items()}
        return average | {f"{name}.{key}": values for key, values in state.items()}

    assert_equal_networks(load(write_state(tmp_path / "x.pth", both("net")), strict=False), small)
    path = write_state(tmp_path / "x.pth", both("model"))
    for strict in (True, False):
        with pytest.raises(FormatError, match=r"x\.pth: .*several networks, ema\.\* and model\.\*"):
            load(path, strict)
    with pytest.raises(ValueError, match=r"several networks, ema\.\* and model\.\*"):
        mirl.PromptIR.from_state_dict(both("model"))
    assert mirl.inspect(path).config is None  # which looks into all that load refuses


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_become_float32(small, tmp_path, dtype):
    state = {name: values.astype(dtype) for name, values in small.state_dict().items()}
    loaded = load(write_state(tmp_path / "x.pth", state))
    for name, values in loaded.state_dict().items():
        np.testing.assert_array_equal(values, state[name].astype(np.float32))


def test_dense_safetensors_of_other_programs(small, tmp_path):
    state = small.state_dict()
    path = write_safetensors(tmp_path / "x.safetensors", state, {"format": "pt"})
    assert_equal_networks(load(path), small)
    halves = {
        name: (values.view(np.uint32) >> 16).astype(np.uint16) for name, values in state.items()
    }
    loaded = load(write_safetensors(tmp_path / "y.safetensors", halves, {}))
    for name, values in loaded.state_dict().items():
        np.testing.assert_array_equal(values.view(np.uint32) >> 16, halves[name])
    halves = {name: values.astype(np.float16) for name, values in state.items()}
    loaded = load(write_safetensors(tmp_path / "z.safetensors", halves, {}))
    assert_same_state(loaded.state_dict(), halves)


@pytest.mark.parametrize("write", [write_state, lambda p, s: write_safetensors(p, s, {})])
def test_strict_names_what_does_not_fit(small, tmp_path, write):
    state = small.state_dict()
    del state["output.weight"]
    state["surplus"] = np.zeros(2, np.float32)
    path = write(tmp_path / "x.pth", state)
    with pytest.raises(FormatError, match=r"x\.pth: .*output\.weight"):
        load(path)
    loaded = load(path, strict=False)
    for name in state.keys() - {"surplus"}:
        np.testing.assert_array_equal(loaded.state_dict()[name], state[name])

    state["output.weight"] = np.zeros((3, 16, 3, 3), np.float32)
    with pytest.raises(FormatError, match=r"x\.pth: .*surplus"):
        load(write(tmp_path / "x.pth", state))


def test_values_that_float32_does_not_hold_are_named(small, tmp_path):
    state = {name: values.astype(np.float64) for name, values in small.state_dict().items()}
    state["output.weight"][0, 0, 0, 0] = 1e300
    with pytest.raises(FormatError, match=r"output\.weight"):
        load(write_state(tmp_path / "x.pth", state))


def test_the_golden_checkpoint_is_a_part(shared):
    path = shared / "goldens" / "lightning_small.ckpt"
    with pytest.raises(FormatError, match=r"lightning_small\.ckpt: 82 missing.*prompt_param"):
        mirl.load(path)
    model = mirl.load(path, strict=False)
    assert model.config["num_blocks"] == [1, 1, 1, 1]
    assert model(np.full((1, 3, 16, 16), 0.5, np.float32)).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("content", [b"", b"x", b"GIF89a...", b"\x00" * 100, b"[]" * 50])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"x\.ckpt: expected a safetensors file or a PyTorch"):
        load(path)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        load(tmp_path / "none.ckpt")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "do not hold shape"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}, "do not hold shape"),
        ({"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}, "no valid safetensors"),
        ({"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}, "F8_E4M3"),
        ({"dtype": "F32", "shape": [2**64], "data_offsets": [0, 8]}, "no shape of up to"),
        ({"dtype": "F32", "shape": [2] + [1] * 64, "data_offsets": [0, 8]}, "no shape of up to"),
        ({"dtype": "F32", "shape": ["a", 2], "data_offsets": [0, 8]}, "no shape of up to"),
        ({"dtype": "F32", "shape": "ab", "data_offsets": [0, 8]}, "no shape of up to"),
        ({"dtype": "F32"}, "no valid safetensors"),
        (3, "no valid safetensors"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [-8, -4]}, "do not hold shape"),
    ],
)
def test_damaged_safetensors_are_refused(tmp_path, about, message):
    head = json.dumps({"x": about}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    with pytest.raises(FormatError, match=rf"x\.safetensors: .*{message}"):
        load(path)


def write_ranges(path, ranges, metadata):
    """A file of eight bytes, and a tensor of bfloat16 for each range of them."""
    header = {"__metadata__": metadata}
    for name, (start, end) in ranges.items():
        shape = [(end - start) // 2]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    return path


@pytest.mark.parametrize("b", [(0, 8), (2, 8), (0, 6), (6, 8), (2, 6), (2, 2)])
def test_tensors_that_share_bytes_are_refused(tmp_path, b):
    path = write_ranges(tmp_path / "x.safetensors", {"b": b, "a": (0, 8)}, {})
    with pytest.raises(FormatError, match=r"x\.safetensors: .*bytes \d to \d are in part those of"):
        load(path)


def test_tensors_beside_each_other_are_read(tmp_path):
    ranges = {"b": (4, 8), "none": (4, 4), "a": (0, 2)}
    read = read_safetensors(write_ranges(tmp_path / "x", ranges, {"a": "b"}))
    assert [values.shape for values in read.tensors.values()] == [(2,), (0,), (1,)]
    assert read.metadata == {"a": "b"}


@pytest.mark.parametrize("metadata", [[], [["a", "b"]], {"a": 1}, {"a": {}}, "ab", "", 1, None])
def test_metadata_of_other_types_are_refused(tmp_path, metadata):
    path = write_ranges(tmp_path / "x", {}, metadata)
    for read in (read_safetensors, read_metadata, mirl.inspect):
        with pytest.raises(FormatError, match="x: no valid safetensors file: __metadata__"):
            read(path)


@pytest.mark.parametrize(
    "whole",
    [
        struct.pack("<Q", 2**64 - 1) + b"{",
        struct.pack("<Q", 10**5) + b"[" * 10**5,
        struct.pack("<Q", 3) + b"{}",
    ],
)
def test_headers_without_an_end_are_refused(tmp_path, whole):
    (tmp_path / "x").write_bytes(whole)
    for read in (read_safetensors, read_metadata):
        with pytest.raises(FormatError, match="x: no valid safetensors file"):
            read(tmp_path / "x")


@pytest.mark.parametrize("dtype", [name for name in TYPES if name != "u2"])
def test_values_of_every_type_are_read(tmp_path, dtype):
    values = np.array([[0, 1, 1], [1, 0, 100]]).astype(f"<{dtype}")
    arrays = {"a": values, "b": values[:1]}
    path = write_safetensors(tmp_path / "x", arrays, {})
    for key, found in read_safetensors(path).tensors.items():
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, arrays[key])


def test_truncated_files_of_ours_are_refused(tmp_path):
    model = mirl.PromptIR(seed=1, **SMALL)
    model.save(tmp_path / "x.safetensors")
    whole = (tmp_path / "x.safetensors").read_bytes()
    path = tmp_path / "short.safetensors"
    for length in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"short\.safetensors"):
            load(path)
    path.write_bytes(b"\xff" * 8 + whole[8:])
    with pytest.raises(FormatError, match=r"short\.safetensors"):
        load(path)


def test_a_header_that_begins_like_a_pickle_is_no_pickle(small, tmp_path):
    """The length of the header is its first bytes: metadata of the right length makes them 80 02."""
    path = tmp_path / "x.safetensors"
    small.save(path)
    length = int.from_bytes(path.read_bytes()[:2], "little")
    filler = (0x0280 - length) % 0x10000 - len(r",\"filler\":\"\"")
    small.save(path, {"filler": "x" * filler})
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert mirl.load(path).config == small.config


def test_masks_of_no_parameter_are_refused(small, tmp_path):
    mirl.prune(small, 0.5)
    path = tmp_path / "x.safetensors"
    small.save(path)
    data = path.read_bytes().replace(b"header_crc32", b"HEADER_CRC32")  # none of the header, then
    path.write_bytes(data.replace(b'"mask.output.weight"', b'"mask.outPut.weight"'))
    with pytest.raises(mirl.errors.FormatError, match=r"outPut\.weight is no parameter"):
        mirl.load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes by name")
def test_pipes_are_not_waited_for(small, tmp_path):
    pipe = tmp_path / "x.png"
    os.mkfifo(pipe)
    for read in (mirl.read_image, mirl.load, mirl.inspect, mirl.Trainer(small).load_checkpoint):
        with pytest.raises(OSError, match=r"x\.png: is not a file"):
            read(pipe)
