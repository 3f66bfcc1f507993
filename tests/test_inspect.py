"""What `mirl inspect` tells, of whole networks, parts of them and other things."""

import html
import json

import numpy as np
import pytest

import mirl
from mirl.errors import FormatError
from mirl.inspect import inspect
from torch_files import write_state


@pytest.mark.parametrize(
    ("name", "format_", "options"),
    [("x.safetensors", "mirl", {}), ("x.mirl.safetensors", "mirl-packed", {"unused": True})],
)
def test_our_own_files(small, tmp_path, name, format_, options):
    mirl.prune(small, 0.5)
    small.save(tmp_path / name, {"run": json.dumps({"lr": 2e-4}), "note": "first"}, **options)
    found = inspect(tmp_path / name)
    assert (found.format, found.config) == (format_, small.config)
    assert found.file_size == (tmp_path / name).stat().st_size
    assert {tensor.name: tensor.shape for tensor in found.tensors} == small.shapes
    assert found.num_parameters == small.num_parameters
    assert found.density == pytest.approx(small.density())
    assert found.density.prunable == pytest.approx(0.5, abs=1e-4)
    mask = small.mask
    for tensor in found.tensors:
        if tensor.name in mask:
            assert tensor.alive == mask[tensor.name].sum()
    assert (found.missing, found.unexpected) == ((), ())
    assert found.metadata["run"] == {"lr": 2e-4}
    assert found.metadata["note"] == "first"


def test_a_published_checkpoint(small, tmp_path):
    mirl.prune(small, 0.3, preset="paper-code")
    path = write_state(
        tmp_path / "x.ckpt",
        {f"net.{name}": values for name, values in small.state_dict().items()},
        lambda state: {"epoch": 7, "state_dict": state},
    )
    found = inspect(path)
    assert (found.format, found.config) == ("pytorch", small.config)
    assert found.density == pytest.approx(small.density())
    assert found.metadata == {"epoch": 7}


def test_the_golden_checkpoint_is_a_part(shared):
    found = mirl.inspect(shared / "goldens" / "lightning_small.ckpt")
    assert found.config["dim"] == 48
    assert (len(found.tensors), len(found.missing), found.unexpected) == (70, 82, ())
    assert found.num_parameters == sum(tensor.count for tensor in found.tensors) == 33_088
    table = found.table()
    assert max(map(len, table.splitlines())) <= 80
    for text in ("PromptIR", "patch_embed.proj.weight", "48x3x3x3", "global_step", "4242"):
        assert text in table


def test_other_networks(tmp_path):
    arrays = {
        "layer.weight": np.array([[0, 1], [0, 2]], np.float64),
        "layer.bias": np.zeros(2, np.float16),
        "a" * 100: np.zeros((), np.int64),
    }
    found = inspect(write_state(tmp_path / "x.pth", arrays))
    assert found.config is None
    assert found.density == (5 / 7, 2 / 4)
    assert [tensor.dtype for tensor in found.tensors] == ["float64", "float16", "int64"]
    table = found.table()
    assert max(map(len, table.splitlines())) <= 80
    assert "unknown" in table
    assert " 50.00%" in table


def test_surplus_and_misshapen_tensors_are_listed(small, tmp_path):
    state = dict(small.state_dict())
    state["extra.weight"] = np.ones(3, np.float32)
    state["output.bias"] = np.ones(7, np.float32)
    state["empty.weight"] = np.ones((0, 3), np.float32)
    turned = "latent.0.attn.project_out.weight"
    state[turned] = state[turned].transpose(0, 2, 1, 3)
    del state["output.weight"]
    found = inspect(write_state(tmp_path / "x.pth", state))
    assert found.config == small.config
    assert found.missing == ("output.weight",)
    assert set(found.unexpected) == {"extra.weight", "output.bias", "empty.weight", turned}
    assert [tensor.density for tensor in found.tensors if tensor.name == "empty.weight"] == [1]


def test_words_that_look_like_numbers_stay_words(small, tmp_path):
    words = {"commit": "12e4", "source_crc32": "12345678", "note": "NaN", "list": "[Infinity]"}
    numbers = {"round": "3", "recipe": '{"lr": 1e-3}'}
    small.save(tmp_path / "x.safetensors", words | numbers)
    told = inspect(tmp_path / "x.safetensors").metadata
    assert {name: told[name] for name in words} == words
    assert told["round"] == 3
    assert told["recipe"] == {"lr": 0.001}


def test_a_network_with_values_that_are_not_finite_is_known(small, tmp_path):
    state = dict(small.state_dict())
    state["patch_embed.proj.weight"][0] = np.nan
    found = inspect(write_state(tmp_path / "x.pth", state))
    assert (found.config, found.missing, found.unexpected) == (small.config, (), ())


def test_notebooks_show_the_table(small, tmp_path):
    small.save(tmp_path / "x.safetensors")
    found = inspect(tmp_path / "x.safetensors")
    assert html.unescape(found._repr_html_()) == f"<pre>{found.table()}</pre>"


def test_the_dict_is_json(small, tmp_path):
    small.save(tmp_path / "x.safetensors")
    found = json.loads(json.dumps(inspect(tmp_path / "x.safetensors").to_dict()))
    assert found["network"] == "PromptIR"
    assert found["config"] == small.config
    assert found["tensors"][0] == {
        "name": "patch_embed.proj.weight",
        "shape": [8, 3, 3, 3],
        "dtype": "float32",
        "count": 216,
        "alive": 216,
        "prunable": True,
        "density": 1.0,
    }


def test_what_is_no_network(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(FormatError, match=r"x\.txt"):
        inspect(tmp_path / "x.txt")
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        inspect(tmp_path / "none.ckpt")


def test_words_of_others_in_our_place_are_shown_as_they_are(small, tmp_path):
    path = tmp_path / "x.safetensors"
    small.save(path)
    head = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    values = path.read_bytes()[8 + int.from_bytes(path.read_bytes()[:8], "little") :]

    def table(**changes):
        about = json.loads(head["__metadata__"]["mirl"]) | changes
        del about["header_crc32"]
        text = json.dumps(head | {"__metadata__": {"mirl": json.dumps(about)}}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + values)
        mirl.load(path)
        found = inspect(path)
        assert {tensor.dtype for tensor in found.tensors} == {"float32"}
        return found.table()

    for word in ("none", "{}", '{"cost": 1}', "[1]", 1000 * "["):
        assert f"{'rounding':<25} {word}"[:70] in table(rounding=word)
    for word in ("weird", "float16"):
        assert f"{'dtype':<25} {word}" in table(dtype=word)


def test_what_a_terminal_takes_for_commands_is_not_shown(tmp_path):
    escape = "\x1b]0;owned\x07\x9b"
    state = {f"net.a{escape}": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}
    path = write_state(tmp_path / "x.pth", state, lambda held: {"state_dict": held, escape: escape})
    table = inspect(path).table()
    assert all(line.isprintable() for line in table.splitlines())
    assert "�]0;owned��" in table
