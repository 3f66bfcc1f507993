"""PyTorch files: every layout that torch.save writes, and nothing that a file may try."""

import codecs
import collections
import contextlib
import io
import os
import pickle
import struct
import sys
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirl.errors import FormatError
from mirl.pytorch import read_checkpoint
from mirl.unpickle import UnpickleError, unpickle
from torch_files import (
    Call,
    Name,
    Tensor,
    pickled,
    tensors,
    write_legacy,
    write_state,
    write_zip,
)

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.array([0.5, -2], np.float32),
}
LANDMARK = "patch_embed.proj.weight"
SYMUNETS = "encoders.0.0.attn.temperature"
NETWORK = {LANDMARK: ARRAYS["a.weight"], "a.bias": ARRAYS["a.bias"]}
NAMESPACE = Call(
    Name("argparse", "Namespace"), (), new=True, state={"lr": 2e-4, "mode": ["derain"]}
)


def assert_same(state, arrays):
    assert list(state) == list(arrays)
    for name, array in arrays.items():
        assert state[name].dtype == array.dtype
        np.testing.assert_array_equal(state[name], array)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: Call(Name("collections", "OrderedDict"), ([[k, v] for k, v in s.items()],)),
        lambda s: {"params": s},
        lambda s: {"model_state_dict": s, "model": "PromptIR"},
        lambda s: {"model": {f"_orig_mod.{k}": v for k, v in s.items()}, "optimizer": {}},
        lambda s: {"params": {"old": 1}, "params_ema": s},
        lambda s: {"epoch": 3, "state_dict": {f"net.{k}": v for k, v in s.items()}},
        lambda s: {"state_dict": {"params": {f"module.{k}": v for k, v in s.items()}}},
        lambda s: {f"module.net.{k}": v for k, v in s.items()},
        lambda s: {
            k: Call(Name("torch._utils", "_rebuild_parameter"), (v, True, {})) for k, v in s.items()
        },
    ],
)
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_state_dicts_are_found_in_every_wrapping(tmp_path, wrap, write):
    records, storages = tensors(NETWORK)
    path = write(tmp_path / "x.pth", wrap(records), storages)
    assert_same(read_checkpoint(path).state_dict, NETWORK)


@pytest.mark.parametrize(
    ("names", "own"),
    [
        (["net.a", "net.b"], ["net.a", "net.b"]),  # another network
        (["lpips.a", f"net.{LANDMARK}", "net.a"], ["lpips.a", LANDMARK, "a"]),
        ([f"ema.{LANDMARK}", f"net.{LANDMARK}"], [f"ema.{LANDMARK}", LANDMARK]),
        ([f"net.{LANDMARK}", LANDMARK], [f"net.{LANDMARK}", LANDMARK]),
        ([f"overlap_{LANDMARK}", "a"], [f"overlap_{LANDMARK}", "a"]),
        ([f"m.{SYMUNETS}", "m.intro.weight"], [SYMUNETS, "intro.weight"]),
        (["nafnet.intro.weight", f"net.{LANDMARK}"], ["nafnet.intro.weight", LANDMARK]),
        ([f"m.{LANDMARK}", f"m.{SYMUNETS}"], [LANDMARK, SYMUNETS]),
        ([f"m.{LANDMARK}", f"n.{SYMUNETS}"], [f"m.{LANDMARK}", f"n.{SYMUNETS}"]),
        ([f"ema.{LANDMARK}", f"model.{LANDMARK}"], [f"ema.{LANDMARK}", f"model.{LANDMARK}"]),
    ],
)
def test_what_stands_before_the_names_of_the_network_is_left_out(tmp_path, names, own):
    arrays = {name: np.full(2, index, np.float32) for index, name in enumerate(names)}
    path = write_state(tmp_path / "x.pth", arrays)
    assert_same(read_checkpoint(path).state_dict, dict(zip(own, arrays.values(), strict=True)))


def test_masks_that_are_of_no_parameter_stay(tmp_path):
    one, two = np.zeros(1, np.float32), np.zeros(2, np.float32)
    arrays = {"a_orig": two, "a_mask": one, "b_mask": one, "c_orig": one, "d_mask": one}
    arrays |= {"d_orig": one, "d": one}
    path = write_state(tmp_path / "x.pth", arrays)
    assert_same(read_checkpoint(path).state_dict, arrays)


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", "<i8", "u1", "?"])
def test_element_types_are_kept(tmp_path, dtype):
    arrays = {"x": np.array([[0, 1], [1, 0]], dtype)}
    assert_same(read_checkpoint(write_state(tmp_path / "x.pth", arrays)).state_dict, arrays)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_bfloat16_becomes_float32(tmp_path, shape):
    values = np.array([1.5, -3.0, 2.0**-126], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    tensor = Tensor("0", "BFloat16Storage", 3, shape, (1,) * len(shape))
    read = read_checkpoint(write_zip(tmp_path / "x.pth", {"x": tensor}, {"0": halves}))
    assert read.state_dict["x"].dtype == np.float32
    np.testing.assert_array_equal(read.state_dict["x"], values[0] if shape == () else values)


def test_strided_views_of_one_storage(tmp_path):
    values = np.arange(12, dtype=np.float32)
    views = {
        "transposed": Tensor("0", "FloatStorage", 12, (4, 3), (1, 4)),
        "offset": Tensor("0", "FloatStorage", 12, (2, 2), (4, 1), offset=5),
        "column": Tensor("0", "FloatStorage", 12, (3,), (4,), offset=3),
        "scalar": Tensor("0", "FloatStorage", 12, (), (), offset=11),
        "empty": Tensor("0", "FloatStorage", 12, (0, 3), (3, 1)),
    }
    grid = values.reshape(3, 4)
    expected = {
        "transposed": grid.T,
        "offset": grid[1:, 1:3],
        "column": grid[:, 3],
        "scalar": values[11],
        "empty": np.zeros((0, 3), np.float32),
    }
    for write in (write_zip, write_legacy):
        state = read_checkpoint(write(tmp_path / "x", views, {"0": values.tobytes()})).state_dict
        assert_same(state, expected)
        state["transposed"][:] = 0  # writable, and no view of the others
        assert state["scalar"] == 11


def test_what_else_a_checkpoint_tells(tmp_path):
    records, storages = tensors(ARRAYS)
    content = {
        "state_dict": records,
        "epoch": 119,
        "hyper_parameters": NAMESPACE,
        "model": "PromptIR",  # no state dict
        "optimizer_states": [{"exp_avg": records["a.weight"]}],
        "best": Call(Name("numpy.core.multiarray", "scalar"), (1, 0.5)),
        "folder": Call(Name("pathlib", "PosixPath"), ("runs", "1")),
        "loss": Name("torch.nn", "L1Loss"),
        7: {"set": Call(Name("__builtin__", "set"), ([1, 2],))},
    }
    info = read_checkpoint(write_zip(tmp_path / "x.ckpt", content, storages)).info
    assert info == {
        "epoch": 119,
        "model": "PromptIR",
        "hyper_parameters": {"class": "argparse.Namespace", "lr": 2e-4, "mode": ["derain"]},
        "optimizer_states": [{"exp_avg": "tensor of f4, shape (2, 3)"}],
        "best": {"class": "numpy.core.multiarray.scalar", "args": [1, 0.5]},
        "folder": {"class": "pathlib.PosixPath", "args": ["runs", "1"]},
        "loss": "torch.nn.L1Loss",
        "7": {"set": [1, 2]},
    }


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            Call(Name("collections", "defaultdict"), (Name("builtins", "list"),), items={"a": [1]}),
            {"class": "collections.defaultdict", "args": ["builtins.list"], "items": {"a": [1]}},
        ),
        (
            Call(Name("collections", "deque"), ([], 3), items=[1, 2]),
            {"class": "collections.deque", "args": [[], 3], "items": [1, 2]},
        ),
        (
            Call(Name("mymodel", "Losses"), (), new=True, items=[0.5, 0.25], state={"best": 1}),
            {"class": "mymodel.Losses", "items": [0.5, 0.25], "best": 1},
        ),
        (
            Call(
                Name("mymodel", "Config"), (), new=True, items={"lr": 0.1}, state={"frozen": True}
            ),
            {"class": "mymodel.Config", "items": {"lr": 0.1}, "frozen": True},
        ),
        (Call(Name("collections", "OrderedDict"), (), items={"a": 1}, state={"b": 2}), {"a": 1}),
    ],
    ids=lambda value: value.function.name if isinstance(value, Call) else "",
)
def test_containers_of_other_classes_are_kept_beside_the_state_dict(tmp_path, value, told):
    records, storages = tensors(NETWORK)
    content = {"state_dict": records, "held": value}
    read = read_checkpoint(write_zip(tmp_path / "x.ckpt", content, storages))
    assert_same(read.state_dict, NETWORK)
    assert read.info == {"held": told}


def test_items_that_come_one_by_one_are_kept():
    """As pickles of a single item have them; and in what is no list, append is damage."""
    value = collections.defaultdict(list, {"a": 1})
    assert unpickle(io.BytesIO(pickle.dumps(value, 2))).items == {"a": 1}
    value = collections.deque([7])
    assert unpickle(io.BytesIO(pickle.dumps(value, 2))).items == [7]
    with pytest.raises(UnpickleError, match="damaged pickle"):
        unpickle(io.BytesIO(b"ccollections\ndeque\n)RK\x01K\x02sK\x03a."))


def test_the_published_structure(shared):
    checkpoint = read_checkpoint(shared / "goldens" / "lightning_small.ckpt")
    state, info = checkpoint.state_dict, checkpoint.info
    assert len(state) == 70
    assert state["patch_embed.proj.weight"].shape == (48, 3, 3, 3)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in state.values())
    assert (info["epoch"], info["global_step"]) == (119, 4242)
    assert info["hyper_parameters"] == {
        "class": "argparse.Namespace",
        "mode": ["derain"],
        "epochs": 120,
    }


class Malice:
    """Pickles itself as a call."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


TARGETS = [
    ("posix" if os.name == "posix" else "nt", "system"),
    ("os", "system"),
    ("os", "popen"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("__builtin__", "eval"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("importlib", "import_module"),
    ("runpy", "run_path"),
    ("pickle", "loads"),
    ("shutil", "rmtree"),
    ("ctypes", "CDLL"),
    ("socket", "create_connection"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("numpy", "load"),
    ("numpy.testing._private.utils", "runstring"),
    ("pip._internal", "main"),
    ("mirl", "PromptIR"),
    ("collections", "OrderedDict.fromkeys"),
]


@pytest.mark.parametrize(("module", "name"), TARGETS)
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_functions_are_refused_by_name_and_not_called(tmp_path, module, name, write):
    mark = tmp_path / "mark"
    records, storages = tensors(ARRAYS)
    attack = Call(Name(module, name), (f"open({str(mark)!r}, 'w')",))
    path = write(tmp_path / "x.ckpt", {"state_dict": records, "callbacks": attack}, storages)
    codecs.lookup("cp437")  # what names of a zip file are in is imported when the first is read
    modules = set(sys.modules)
    full_name = f"{module.replace('__builtin__', 'builtins')}.{name}"
    with pytest.raises(FormatError, match=rf"x\.ckpt: .*{full_name}.*nothing was executed"):
        read_checkpoint(path)
    assert not mark.exists()
    assert set(sys.modules) == modules


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_by_python_itself_that_call_are_refused(tmp_path, protocol):
    mark = tmp_path / "mark"
    for attack in (Malice(os.system, f"touch {mark}"), Malice(eval, f"open({str(mark)!r}, 'w')")):
        data = pickle.dumps({"state_dict": attack}, protocol)
        path = write_zip(tmp_path / "x.ckpt", data, {})
        with pytest.raises(FormatError, match=r"(system|eval), which has no place"):
            read_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"(S'touch mark'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch mark'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",  # STACK_GLOBAL
        b"\x80\x02csubprocess\nPopen\n)\x81.",  # NEWOBJ
        b"\x80\x02cos\nsystem\n.",  # a mere mention
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02ctorch\nload\n}b.",  # BUILD onto a function
    ],
)
def test_other_ways_to_a_function_are_refused(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    for content in (data, data.replace(b".", b"0}.", 1)):
        with pytest.raises(FormatError, match=r"x\.ckpt: "):
            read_checkpoint(write_zip(tmp_path / "x.ckpt", content, {}))
    assert not (tmp_path / "mark").exists()


def test_a_bare_pickle_is_refused_by_name(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps(Malice(os.system, "true"), 2))
    with pytest.raises(FormatError, match="system"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps({"a": 1}, 2))
    with pytest.raises(FormatError, match=r"not of torch\.save"):
        read_checkpoint(path)


def test_unpickle_gives_what_pickle_gives():
    value = {
        "numbers": [0, 255, -1, 2**40, 2**80, 1.5, float("inf")],
        "texts": ("", "σ", "x" * 300, b"", b"\x00" * 300, None, True),
        "nested": [[], {}, (), [(1,), (1, 2), (1, 2, 3, 4)], {"a": {2: []}}],
    }
    value["again"] = value["nested"]
    for protocol in range(6):
        data = pickle.dumps(value, protocol)
        if protocol < 3:  # bytes are a call of _codecs.encode then
            data = pickle.dumps({**value, "texts": value["texts"][:3]}, protocol)
        assert unpickle(io.BytesIO(data)) == pickle.loads(data)


def damaged(path, **changes):
    tensor = Tensor("0", "FloatStorage", 6, (2, 3), (3, 1))
    for field, value in changes.items():
        setattr(tensor, field, value)
    return write_zip(path, {"x": tensor}, {"0": ARRAYS["a.weight"].tobytes()})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": 1}, "reaches beyond the storage"),
        ({"offset": 2**62}, "reaches beyond the storage"),
        ({"offset": -1}, "misformed tensor"),
        ({"shape": (2, 4)}, "reaches beyond the storage"),
        ({"shape": (2**40, 2**40), "strides": (0, 0)}, "reaches beyond the storage"),
        ({"shape": (2, 2), "strides": (5, 1)}, "reaches beyond the storage"),
        ({"strides": (3, -1)}, "misformed tensor"),
        ({"strides": (3,)}, "misformed tensor"),
        ({"shape": (2.0, 3)}, "misformed tensor"),
        ({"shape": [2, 3]}, "misformed tensor"),
        ({"shape": (2**63, 3)}, "over 63 bits"),
        ({"strides": (3, -(2**63))}, "over 63 bits"),
        ({"offset": 2**20_000}, "over 63 bits"),
        ({"shape": (2**20_000,) * 40, "strides": (1,) * 40}, "over 63 bits"),
        ({"shape": (2,) * 65, "strides": (1,) * 65}, "not of up to 64 sizes"),
        ({"numel": 7, "shape": (7,), "strides": (1,)}, "24 bytes, too few for 7 values"),
        ({"numel": 2**62}, "too few"),
        ({"numel": -1}, "misformed storage"),
        ({"key": "1"}, "archive/data/1 is missing"),
        ({"key": "../data.pkl"}, "is missing"),
        ({"storage": "QUInt8Storage"}, "QUInt8Storage are not read"),
    ],
)
def test_tensors_beyond_their_storage_are_refused(tmp_path, changes, message):
    with pytest.raises(FormatError, match=rf"x\.pth: .*{message}"):
        read_checkpoint(damaged(tmp_path / "x.pth", **changes))


def test_many_tensors_of_one_storage_are_a_bomb(tmp_path):
    numel = 10_000
    one = Tensor("0", "FloatStorage", numel, (numel,), (1,))
    storages = {"0": bytes(4 * numel)}
    write_zip(tmp_path / "tied.pth", {"a": one, "b": one}, storages)
    assert len(read_checkpoint(tmp_path / "tied.pth").state_dict) == 2
    path = write_zip(tmp_path / "bomb.pth", {f"x{i}": one for i in range(100)}, storages)
    with pytest.raises(FormatError, match="far more than"):
        read_checkpoint(path)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    "other", [("FloatStorage", 5), ("FloatStorage", 0), ("IntStorage", 6), ("HalfStorage", 6)]
)
def test_a_storage_of_two_types_or_sizes_is_refused(tmp_path, write, other):
    storages = {"0": ARRAYS["a.weight"].tobytes()}
    one, two = Tensor("0", "FloatStorage", 6, (1,), (1,)), Tensor("0", *other, (0,), (1,))
    for content in ({"a": one, "b": two}, {"state_dict": {"a": one}, "b": two}):
        path = write(tmp_path / "x.pth", content, storages)
        with pytest.raises(FormatError, match=r"x\.pth: storage '0' is of two types or sizes"):
            read_checkpoint(path)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_an_empty_storage_may_be_of_two_types(tmp_path, write):
    """As torch.save writes torch.empty(0) and a view of it."""
    types = {"a": "FloatStorage", "b": "IntStorage"}
    content = {name: Tensor("0", storage, 0, (0,), (1,)) for name, storage in types.items()}
    expected = {"a": np.zeros(0, np.float32), "b": np.zeros(0, np.int32)}
    path = write(tmp_path / "x.pth", content, {"0": b""})
    assert_same(read_checkpoint(path).state_dict, expected)


def test_entries_within_others_are_refused(tmp_path):
    tensor = {key: Tensor(key, "FloatStorage", 1000, (1,), (1,)) for key in "01"}
    path = write_zip(tmp_path / "x.pth", tensor, dict.fromkeys("01", bytes(4000)))
    data = bytearray(path.read_bytes())
    names = [b"archive/data/0", b"archive/data/1"]
    start, end = (data.index(name) + len(name) for name in names)
    whole = data[start : end + 4000]  # both storages, and the header between them
    entry = data.rindex(names[0]) - 46  # as below
    struct.pack_into("<III", data, entry + 16, zlib.crc32(whole), len(whole), len(whole))
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"x\.pth: .*(where others leave|Overlapped)"):
        read_checkpoint(path)


def test_compressed_entries_are_refused(tmp_path):
    records, _ = tensors({"x": np.zeros(10**6, np.float32)})
    path = write_zip(
        tmp_path / "x.pth", records, {"0": bytes(4 * 10**6)}, compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 10**5
    with pytest.raises(FormatError, match="compressed"):
        read_checkpoint(path)


def test_sizes_that_the_directory_only_claims_are_refused(tmp_path):
    path = write_state(tmp_path / "x.pth", ARRAYS)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"archive/data/0") - 46  # the central directory's header has 46 bytes
    assert data[entry : entry + 4] == b"PK\x01\x02"
    struct.pack_into("<II", data, entry + 20, 2**31, 2**31)
    path.write_bytes(data)
    with pytest.raises(FormatError, match="claims 2,147,483,648"):
        read_checkpoint(path)


def test_changed_values_are_noticed(tmp_path):
    path = write_state(tmp_path / "x.pth", ARRAYS)
    data = bytearray(path.read_bytes())
    data[data.index(ARRAYS["a.weight"].tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match="CRC"):
        read_checkpoint(path)


def test_big_endian_files_are_refused(tmp_path):
    records, storages = tensors(ARRAYS)
    with pytest.raises(FormatError, match="big-endian"):
        read_checkpoint(write_zip(tmp_path / "x.pth", records, storages, byteorder="big"))
    with pytest.raises(FormatError, match="big-endian"):
        read_checkpoint(write_legacy(tmp_path / "x.pth", records, storages, little_endian=False))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "empty"),
        ({"model": {}}, "empty"),
        ({"network": {}}, "'network' is no tensor, but dict"),
        ({"state_dict": {"a": 1}}, "'a' is no tensor, but int"),
        ([1, 2], "no state dict, but list"),
        (Call(Name("mymodel", "Net"), (), new=True, state={}), "no state dict, but mymodel.Net"),
    ],
)
def test_files_without_a_state_dict(tmp_path, content, message):
    with pytest.raises(FormatError, match=message):
        read_checkpoint(write_zip(tmp_path / "x.pth", content, {}))


def test_structures_without_an_end(tmp_path):
    # {"state_dict": itself}
    loop = b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s."
    with pytest.raises(FormatError, match="under more than"):
        read_checkpoint(write_zip(tmp_path / "x.pth", loop, {}))
    records, storages = tensors({"x": np.zeros(1, np.float32)})
    state = pickled({"state_dict": records})[:-2]  # open: }( … u.
    # A list that holds itself; lists that each hold the one before ten times.
    itself = b"X\x01\x00\x00\x00l]q\x05h\x05a"
    lists = b"X\x01\x00\x00\x00l]q\x05" + b"".join(
        b"0](" + 10 * bytes([ord("h"), i]) + b"e" + bytes([ord("q"), i + 1]) for i in range(5, 45)
    )
    for attack, message in ((itself, "nested too deeply"), (lists, "more than 1,000,000 values")):
        path = write_zip(tmp_path / "x.pth", state + attack + b"u.", storages)
        with pytest.raises(FormatError, match=message):
            read_checkpoint(path)


def test_words_for_keys(tmp_path):
    records, storages = tensors(NETWORK)
    device = Name("torch", "device")
    keys = {
        7: "7",
        1.5: "1.5",
        None: "None",
        (0, "a", None): "[0, 'a', None]",
        (): "[]",
        Name("torch", "float32"): "torch.float32",
        (Name("torch", "float32"), 1): "['torch.float32', 1]",
        Call(device, ("cuda", 0)): "['torch.device', 'cuda', 0]",
        Call(device, ("cuda", 1)): "['torch.device', 'cuda', 1]",
        Call(device, (2**80, [1])): "['torch.device', 'int', 'list']",
        records["a.bias"]: "tensor of f4, shape (2,)",
        "x" * 1000: "x" * 1000,
    }
    content = {"state_dict": records, "held": dict.fromkeys(keys, 1)}
    info = read_checkpoint(write_zip(tmp_path / "x.pth", content, storages)).info
    assert info == {"held": dict.fromkeys(keys.values(), 1)}


def test_keys_that_share_long_strings_stay_short(tmp_path):
    records, storages = tensors(NETWORK)
    state = pickled({"state_dict": records})[:-2]  # open: }( … u.
    text = b"X" + struct.pack("<I", 100_000) + 100_000 * b"x" + b"q\x05"
    for key in (
        b"(%s%st" % (text, 6 * b"h\x05"),
        b"ccollections\ndeque\n)R(%s%se" % (text, 99 * b"h\x05"),  # items
        b"ctorch\ndevice\n(%s%stR" % (text, 99 * b"h\x05"),  # arguments
        b"cmymodel\nKey\n)\x81%sb" % text,  # state
        b"cmymodel\n%s\n)\x81" % (100_000 * b"x"),  # name of the class
    ):
        path = write_zip(tmp_path / "x.pth", state + key + b"Nu.", storages)
        (word,) = read_checkpoint(path).info
        assert len(word) < 1000


def test_shapes_count_for_what_else_a_checkpoint_tells(tmp_path, monkeypatch):
    monkeypatch.setattr("mirl.pytorch.MAX_INFO", 100)
    records, storages = tensors(NETWORK)
    many = Tensor("0", "FloatStorage", 6, (1,) * 64, (1,) * 64)
    content = {"state_dict": records, "held": [many, "a"]}
    assert len(read_checkpoint(write_zip(tmp_path / "x.pth", content, storages)).info) == 1
    content["held"] = [many, many, "a"]
    with pytest.raises(FormatError, match="more than 100 values beside"):
        read_checkpoint(write_zip(tmp_path / "x.pth", content, storages))


def test_memo_indices_cost_nothing(tmp_path):
    data = b"\x80\x02}r\xff\xff\xff\x7f."
    with pytest.raises(FormatError, match="empty"):
        read_checkpoint(write_zip(tmp_path / "x.pth", data, {}))


def test_other_zip_files_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(FormatError, match="not of PyTorch"):
        read_checkpoint(path)


def test_missing_files_are_oserrors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_truncated_files_are_refused(tmp_path, write):
    records, storages = tensors(ARRAYS)
    whole = write(tmp_path / "x.pth", {"state_dict": records}, storages).read_bytes()
    path = tmp_path / "short.pth"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"short\.pth: "):
            read_checkpoint(path)


@pytest.mark.filterwarnings("ignore:invalid:DeprecationWarning")  # Python's, on odd strings
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_is_wrong_is_a_format_error(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    records, storages = tensors(ARRAYS)
    write = data.draw(st.sampled_from([write_zip, write_legacy]))
    path = write(folder / "fuzz.pth", {"state_dict": records, "args": NAMESPACE}, storages)
    file = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(file)
    # Most changes are noticed; any other exception than this one fails the test.
    with contextlib.suppress(FormatError):
        state = read_checkpoint(path).state_dict
        assert all(isinstance(array, np.ndarray) for array in state.values())


def test_unpickle_names_what_it_refuses():
    with pytest.raises(UnpickleError, match="outside"):
        unpickle(io.BytesIO(b"\x80\x02K\x01Q."))


SET = b"c__builtin__\nset\n"
ORDERED_DICT = b"ccollections\nOrderedDict\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # A list of one hundred entries a hundred times, whose hundred entries are no pairs.
        (b"(%slq\x010%s((%sltR" % (100 * b"N", ORDERED_DICT, 100 * b"h\x01"), "than pairs"),
        (ORDERED_DICT + b"](K\x01K\x02e\x85R", "than pairs"),
        (ORDERED_DICT + b"]X\x02\x00\x00\x00aba\x85R", "than pairs"),
        # Sets, and ordered dicts, of one list.
        (b"(%slq\x010(%sl" % (100 * b"N", 100 * (SET + b"h\x01\x85R")), "more items than"),
        (
            b"(%slq\x010(%sl" % (100 * b"NN\x86", 100 * (ORDERED_DICT + b"h\x01\x85R")),
            "more items than",
        ),
        (SET + b"X\x02\x00\x00\x00ab\x85R", "of no list"),
        (SET + b"}\x85R", "of no list"),
    ],
)
def test_what_calls_build_follows_from_the_length_of_the_pickle(data, message):
    with pytest.raises(UnpickleError, match=message):
        unpickle(io.BytesIO(b"\x80\x02" + data + b"."))


def test_sets_and_ordered_dicts_of_any_number_are_read():
    shared = frozenset(range(100))
    value = [set(), {1}, *({i, i + 1} for i in range(100)), *100 * [shared]]
    for protocol in range(6):
        found = unpickle(io.BytesIO(pickle.dumps(value, protocol)))
        assert list(map(set, found)) == value
    pairs = [[[i, None]] for i in range(100)]  # as Python 2 pickles ordered dicts
    data = pickled([Call(Name("collections", "OrderedDict"), (items,)) for items in pairs])
    assert unpickle(io.BytesIO(data)) == [{i: None} for i in range(100)]


DEEP = b")" + b"\x85" * 300_000
DOUBLED = b")" + b"2\x86" * 60
"""Tuples of a few bytes that overflow the stack of the processor, or take forever, where hashed."""


@pytest.mark.parametrize(
    "key", [DEEP, DOUBLED, pickled(2**64)[2:-1], pickled(tuple(range(9)))[2:-1]]
)
@pytest.mark.parametrize(
    "data",
    [
        b"}%sK\x01s.",
        b"}(%sK\x01u.",
        b"(%sK\x01d.",
        b"ccollections\nOrderedDict\n]%sK\x01\x86a\x85R.",
    ],
)
def test_keys_that_may_not_be_hashed_are_refused(key, data):
    with pytest.raises(UnpickleError, match="a key of a dict that no checkpoint has"):
        unpickle(io.BytesIO(b"\x80\x02" + data % key))


@pytest.mark.parametrize("value", [DEEP, DOUBLED, b"cmymodel\nNet\n%s\x81" % DOUBLED])
def test_values_without_an_end_are_neither_hashed_nor_shown(tmp_path, value):
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(K\x00K\x00%s)tR" % value
    for data in (b"%sQ." % value, b"(%stQ." % (5 * value), b"%s%s\x93." % (value, value)):
        with pytest.raises(FormatError):
            read_checkpoint(write_zip(tmp_path / "x.pth", b"\x80\x02" + data, {}))
    state = b"\x80\x02}X\x01\x00\x00\x00a%ss." % tensor
    with pytest.raises(FormatError, match=r"misformed tensor|must be an iterable"):
        read_checkpoint(write_zip(tmp_path / "x.pth", state, {}))
    legacy = write_legacy(tmp_path / "y.pth", {}, {}).read_bytes()
    assert legacy.endswith(pickled([]))
    (tmp_path / "y.pth").write_bytes(legacy.removesuffix(pickled([])) + b"\x80\x02]%sa." % value)
    with pytest.raises(FormatError, match="key of a storage"):
        read_checkpoint(tmp_path / "y.pth")


def test_keys_of_checkpoints_are_read():
    keys = ["a", b"a", 1, -(2**60), 2**64 - 1, 1.5, None, True, (0, "a"), ()]
    data = pickle.dumps(dict.fromkeys(keys, 1), 3)
    assert list(unpickle(io.BytesIO(data))) == list(dict.fromkeys(keys))
