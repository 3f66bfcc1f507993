"""Files for other programs: PyTorch's and ONNX, run by those programs where they are installed."""

import filecmp
import io
import pickletools
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import mirl
from command import mirl_command
from mirl.export import onnx as onnx_files
from mirl.export.pytorch import pickled
from mirl.unpickle import unpickle
from reference import SMALL, UNUSED, golden_state, random_images
from same import assert_same_state

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

TOLERANCE = 1e-4
"""Of restored pixels, beside our own."""

OTHER_SIZES = {
    "dim": 12,
    "num_blocks": (2, 1, 1, 2),
    "num_refinement_blocks": 2,
    "heads": (1, 2, 2, 4),
    "ffn_expansion_factor": 2.3,
    "prompt_dims": (4, 8, 20),
    "prompt_sizes": (5, 3, 7),
    "prompt_len": 3,
}


def random_network(**sizes):
    """A network in which every parameter matters, unlike in a fresh one."""
    model = mirl.PromptIR(**sizes)
    model.load_state_dict(golden_state(model.shapes))
    return model


@pytest.fixture(params=["dense", "pruned"])
def network(request):
    model = random_network(**SMALL)
    if request.param == "pruned":
        mirl.prune(model, 0.7)
    return model


def exported(model, path):
    mirl.export(model, path)
    return path


# PyTorch


def test_a_state_dict_comes_back(network, tmp_path):
    loaded = mirl.load(exported(network, tmp_path / "x.pth"))
    assert loaded.config == network.config
    assert list(loaded.state_dict()) == list(network.state_dict())
    assert_same_state(loaded.state_dict(), network.state_dict())
    assert loaded.density() == network.density()


def test_the_zip_is_laid_out_as_pytorch_does(network, tmp_path):
    path = exported(network, tmp_path / "x.pth")
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
        assert archive.read("archive/byteorder") == b"little"
        assert archive.read("archive/version") == b"3\n"
        for index, values in enumerate(network.state_dict().values()):
            assert archive.read(f"archive/data/{index}") == values.tobytes()
    assert entries[0].filename == "archive/data.pkl"
    assert len(entries) == 3 + len(network.shapes)
    for entry in entries:
        assert entry.compress_type == zipfile.ZIP_STORED
        assert entry.create_system == 0  # the same bytes on every system
        lengths = data[entry.header_offset + 26 :][:4]
        name, extra = int.from_bytes(lengths[:2], "little"), int.from_bytes(lengths[2:], "little")
        assert (entry.header_offset + 30 + name + extra) % 64 == 0


def test_the_pickle_names_nothing_but_tensors(small, tmp_path):
    with zipfile.ZipFile(exported(small, tmp_path / "x.pth")) as archive:
        data = archive.read("archive/data.pkl")
    operations = list(pickletools.genops(data))
    assert max(opcode.proto for opcode, _, _ in operations) == 2
    names = {argument for opcode, argument, _ in operations if opcode.name == "GLOBAL"}
    assert names == {
        "collections OrderedDict",
        "torch FloatStorage",
        "torch._utils _rebuild_tensor_v2",
    }
    pickletools.dis(data, out=io.StringIO())  # nothing is left on the stack


def test_strides_and_sizes_of_any_magnitude():
    shapes = {"σ": (2, 3, 4), "b": (5,), "large": (1 << 20, 1 << 20)}
    content = unpickle(io.BytesIO(pickled(shapes)), lambda storage: storage[2:])
    assert {name: tensor.args[:4] for name, tensor in content.items()} == {
        "σ": (("0", "cpu", 24), 0, (2, 3, 4), (12, 4, 1)),
        "b": (("1", "cpu", 5), 0, (5,), (1,)),
        "large": (("2", "cpu", 1 << 40), 0, (1 << 20, 1 << 20), (1 << 20, 1)),
    }


def test_pytorch_loads_it_and_restores_the_same(network, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency, not of the tests either")
    monkeypatch.syspath_prepend(BENCHMARKS)
    from peers.promptir import PromptIR

    path = exported(network, tmp_path / "x.pth")
    state = torch.load(path, weights_only=True)
    assert type(state).__name__ == "OrderedDict"
    expected = network.state_dict()
    assert list(state) == list(expected)
    for mapped in (state, torch.load(path, weights_only=True, mmap=True)):
        for name, tensor in mapped.items():
            np.testing.assert_array_equal(tensor.numpy(), expected[name])
            assert tensor.is_contiguous()
    peer = PromptIR(network.config)
    unused = {name for name in state if name.startswith(UNUSED)}
    peer.load_state_dict({name: state[name] for name in state if name not in unused}, strict=True)
    images = random_images(1, (2, 3, 24, 32))
    with torch.inference_mode():
        restored = peer(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(restored, network(images), rtol=0, atol=TOLERANCE)


# ONNX


def session(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def assert_restores_the_same(path, model, *shapes):
    run = session(path)
    for key, shape in enumerate(shapes):
        images = random_images(key, shape)
        (restored,) = run.run(["restored"], {"image": images})
        np.testing.assert_allclose(restored, model(images), rtol=0, atol=TOLERANCE)


def test_onnx_runtime_restores_the_same(network, tmp_path):
    shapes = ((1, 3, 16, 24), (2, 3, 40, 8), (1, 3, 64, 64), (3, 3, 8, 8))
    assert_restores_the_same(exported(network, tmp_path / "x.onnx"), network, *shapes)


def test_every_size_is_exported(tmp_path):
    model = random_network(**OTHER_SIZES)
    assert_restores_the_same(exported(model, tmp_path / "x.onnx"), model, (2, 3, 24, 40))


def test_the_published_sizes(tmp_path):
    model = random_network()
    mirl.prune(model, 0.5)
    path = exported(model, tmp_path / "x.onnx")
    assert_restores_the_same(path, model, (1, 3, 64, 48), (2, 3, 16, 16))


def test_the_graph_is_valid_and_holds_the_weights(network, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported(network, tmp_path / "x.onnx"))
    onnx.checker.check_model(model, full_check=True)
    # What ONNX Runtime 1.17 reads.
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 20)]
    assert model.ir_version == 9
    ends = [*model.graph.input, *model.graph.output]
    assert [end.name for end in ends] == ["image", "restored"]
    for end in ends:
        sizes = [size.dim_param or size.dim_value for size in end.type.tensor_type.shape.dim]
        assert sizes == ["N", 3, "H", "W"]
    held = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    read = {name for node in model.graph.node for name in node.input}
    assert held.keys() <= read
    for name, values in network.state_dict().items():
        if name.startswith(UNUSED):
            assert name not in held
            continue
        # Some are in parts, named by their rows.
        parts = [part for key, part in held.items() if key.partition("[")[0] == name]
        np.testing.assert_array_equal(np.concatenate(parts), values)


def test_without_onnx_the_extra_is_named(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"mirl\[onnx\]"):
        mirl.export(small, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_beyond_what_onnx_holds_is_named(small, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr(onnx_files, "MAX_BYTES", 1 << 16)
    with pytest.raises(ValueError, match="362,024 parameters do not fit"):
        mirl.export(small, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


# Both

ENDINGS = [".pth", ".onnx"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_equal_networks_make_equal_files(tmp_path, ending):
    paths = [tmp_path / f"{name}{ending}" for name in ("one", "another")]
    for path in paths:
        mirl.export(random_network(**SMALL), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    mirl.export(mirl.PromptIR(seed=2, **SMALL), paths[0])
    assert paths[0].read_bytes() != paths[1].read_bytes()


@pytest.mark.cuda
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_network_on_a_gpu_makes_the_same_file(small, cuda, tmp_path, ending):
    expected = exported(small, tmp_path / f"a{ending}").read_bytes()
    small.to(cuda)
    small.precision = "bfloat16"
    assert exported(small, tmp_path / f"b{ending}").read_bytes() == expected


@pytest.mark.parametrize("name", ["x", "x.pt", "x.ckpt", "x.safetensors", ".onnx"])
def test_other_endings_are_refused(small, tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name}: must end with \.onnx or \.pth"):
        mirl.export(small, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_places_that_cannot_be_written(small, tmp_path, ending):
    folder = tmp_path / f"folder{ending}"
    folder.mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        mirl.export(small, folder)
    assert raised.value.filename == str(folder)
    with pytest.raises(FileNotFoundError) as raised:
        mirl.export(small, tmp_path / "none" / f"x{ending}")
    assert raised.value.filename == str(tmp_path / "none")
    assert list(tmp_path.iterdir()) == [folder]


def test_what_was_there_survives_a_failure(small, tmp_path, monkeypatch):
    path = tmp_path / "x.pth"
    path.write_bytes(b"mine")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space"):
        mirl.export(small, path)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


# The command line


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_command_writes_what_the_function_does(network, tmp_path, ending):
    packed, out = tmp_path / "a.mirl.safetensors", tmp_path / f"b{ending}"
    network.save(packed, unused=True)
    assert "MB" in mirl_command("export", packed, out)
    expected = exported(network, tmp_path / f"c{ending}")
    assert filecmp.cmp(out, expected, shallow=False)
    out.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=out.name):
        mirl_command("export", packed, out)
    assert out.read_bytes() == b"mine"
    mirl_command("export", packed, out, "--force")
    assert filecmp.cmp(out, expected, shallow=False)


def test_the_command_refuses_endings_before_it_reads():
    with pytest.raises(ValueError, match=r"x\.ckpt: must end with"):
        mirl_command("export", "missing.safetensors", "x.ckpt")


def test_what_is_no_network_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"model must be a mirl\.Network, got str"):
        mirl.export("net.safetensors", tmp_path / "x.pth")
