"""The network: names, values, images of any size, states and files."""

import copy
import pickle
import re

import numpy as np
import pytest

import mirl
from reference import SMALL, golden, golden_state, random_images
from same import assert_same_state


def test_names_and_shapes_are_the_published_ones(shared):
    expected = {name: tuple(shape) for name, shape in golden(shared, "parameters.json").items()}
    model = mirl.PromptIR()
    assert list(model.shapes.items()) == list(expected.items())
    assert model.num_parameters == 35_592_263


def test_forward_equals_the_published_network(shared, device):
    model = mirl.PromptIR(device=device)
    model.load_state_dict(golden_state(model.shapes))
    reference = np.load(shared / "goldens" / "forward_full.npz")
    for index in range(3):
        restored = model(reference[f"input{index}"])
        # PyTorch's float32 is 2e-5 from float64 here.
        np.testing.assert_allclose(restored, reference[f"output{index}"], rtol=0, atol=1e-4)


def test_initial_values_follow_from_the_seed(small):
    again, other = mirl.PromptIR(seed=1, **SMALL), mirl.PromptIR(seed=2, **SMALL)
    assert_same_state(small.state_dict(), again.state_dict())
    different = "encoder_level1.0.attn.qkv.weight"
    assert not np.array_equal(small.state_dict()[different], other.state_dict()[different])


def test_initial_values_follow_from_the_name(small):
    """Of a parameter's own, whatever other parameters there are."""
    more = mirl.PromptIR(seed=1, **SMALL | {"num_blocks": (2, 1, 1, 1)}).state_dict()
    state = small.state_dict()
    assert more.keys() > state.keys()
    assert_same_state({name: more[name] for name in state}, state)
    same_shape = "decoder_level1.0.attn.qkv.weight", "refinement.0.attn.qkv.weight"
    assert not np.array_equal(*(state[name] for name in same_shape))


def test_initial_values_are_pytorchs_defaults():
    state = mirl.PromptIR(seed=3, dim=32, num_blocks=(1, 1, 1, 1)).state_dict()
    for name, weight in state.items():
        if name.endswith("weight") and weight.ndim > 1:
            bound = 1 / np.sqrt(np.float32(weight[0].size))
            assert (np.abs(weight) <= bound).all(), name
            # Four deviations of the estimate, for values that are uniform.
            error = 4 * np.sqrt(0.2 / weight.size)
            assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=error), name
    bias = state["prompt3.linear_layer.bias"]
    assert np.abs(bias).max() <= 1 / np.sqrt(256)
    assert np.ptp(bias) > 0
    prompt = state["prompt3.prompt_param"]
    assert prompt.min() >= 0
    assert prompt.max() < 1
    assert prompt.mean() == pytest.approx(0.5, abs=0.01)
    assert (state["latent.0.norm1.body.weight"] == 1).all()
    assert (state["latent.0.norm1.body.bias"] == 0).all()
    assert (state["latent.0.attn.temperature"] == 1).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 8), (8, 8), (13, 40)])
def test_any_size_is_padded_by_reflection_and_cropped(small, size):
    image = random_images(1, (2, 3, *size))
    padding = [(0, -length % 8) for length in size]
    mode = {axis: "reflect" if length > 1 else "edge" for axis, length in enumerate(size)}
    padded = image
    for axis, pad in enumerate(padding):
        widths = [(0, 0)] * 4
        widths[axis + 2] = pad
        padded = np.pad(padded, widths, mode=mode[axis])
    restored = small(image)
    assert restored.shape == image.shape
    np.testing.assert_array_equal(restored, small(padded)[:, :, : size[0], : size[1]])


def test_images_of_a_batch_do_not_touch_each_other(small):
    images = random_images(2, (3, 3, 16, 16))
    together = small(images)
    for index in range(3):
        np.testing.assert_allclose(together[index], small(images[index : index + 1])[0], atol=1e-6)


def test_strided_arrays_are_read_right(small):
    image = random_images(3, (1, 16, 24, 3)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(small(image), small(np.ascontiguousarray(image)))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([[1.0]], TypeError, "list"),
        (np.zeros((1, 3, 8, 8)), TypeError, "float64"),
        (np.zeros((1, 3, 8, 8), np.uint8), TypeError, "uint8"),
        (np.zeros((3, 8, 8), np.float32), ValueError, r"\[3, 8, 8\]"),
        (np.zeros((1, 4, 8, 8), np.float32), ValueError, r"\[1, 4, 8, 8\]"),
        (np.zeros((0, 3, 8, 8), np.float32), ValueError, r"\[0, 3, 8, 8\]"),
        (np.zeros((1, 3, 0, 8), np.float32), ValueError, r"\[1, 3, 0, 8\]"),
        (np.full((1, 3, 8, 8), np.nan, np.float32), ValueError, "NaN"),
        (np.full((1, 3, 8, 8), np.inf, np.float32), ValueError, "inf"),
        (np.full((1, 3, 8, 8), 255, np.float32), ValueError, "255"),
    ],
)
def test_wrong_images_are_named(small, images, error, message):
    with pytest.raises(error, match=message):
        small(images)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"dim": 0}, "dim"),
        ({"dim": 7}, "dim"),
        ({"num_blocks": (1, 1, 1)}, "num_blocks|length"),
        ({"heads": (1, 2, 4, 0)}, "heads"),
        ({"heads": (5, 2, 4, 8)}, "5 heads"),
        ({"prompt_dims": (63, 128, 320)}, "heads"),
        ({"ffn_expansion_factor": 0.0}, "ffn_expansion_factor"),
        ({"ffn_expansion_factor": 0.001}, "ffn_expansion_factor"),
        ({"prompt_len": 0}, "prompt_len"),
    ],
)
def test_wrong_sizes_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        mirl.PromptIR(**sizes)


def test_state_dicts_must_fit(small):
    state = small.state_dict()
    other = {name: values + 1 for name, values in state.items()}
    missing = {name: values for name, values in other.items() if name != "output.weight"}
    with pytest.raises(ValueError, match=r"missing parameters: output\.weight"):
        small.load_state_dict(missing)
    with pytest.raises(ValueError, match=r"unexpected parameters: extra"):
        small.load_state_dict(other | {"extra": np.zeros(1, np.float32)})
    with pytest.raises(ValueError, match=r"output\.weight has shape \[1\]"):
        small.load_state_dict(other | {"output.weight": np.zeros(1, np.float32)})
    bad = state["output.weight"].copy()
    bad[0] = np.nan
    with pytest.raises(ValueError, match=r"output\.weight holds NaN"):
        small.load_state_dict(other | {"output.weight": bad})
    with pytest.raises(TypeError, match=r"output\.weight: .*float64"):
        small.load_state_dict(other | {"output.weight": bad.astype(np.float64)})
    assert_same_state(small.state_dict(), state)
    small.load_state_dict({"output.weight": np.ones_like(bad)}, False)  # by position, as PyTorch's
    for name, values in small.state_dict().items():
        expected = 1 if name == "output.weight" else state[name]
        np.testing.assert_array_equal(values, expected)


def test_sizes_follow_from_a_state_dict(small):
    again = mirl.PromptIR.from_state_dict(small.state_dict())
    assert again.config == small.config
    image = random_images(4, (1, 3, 16, 16))
    np.testing.assert_array_equal(again(image), small(image))
    with pytest.raises(ValueError, match=r"patch_embed\.proj\.weight"):
        mirl.PromptIR.from_state_dict({"weight": np.zeros(3, np.float32)})


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.2, 2.55, 2.66, 2.7, 3.3])
@pytest.mark.parametrize("dim", [6, 8, 24])
def test_the_expansion_follows_from_all_widths(factor, dim):
    """int(width · factor) at one width says too little of the others."""
    sizes = SMALL | {"dim": dim, "heads": (1, 1, 1, 1), "ffn_expansion_factor": factor}
    model = mirl.PromptIR(**sizes)
    again = mirl.PromptIR.from_state_dict(model.state_dict())
    assert again.shapes == model.shapes


def test_saving_to_no_folder_is_an_oserror(small, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        small.save(tmp_path / "nowhere" / "x.safetensors")


def test_rounded_products_are_close(small, batch):
    assert small.precision == "float32"
    full = small(batch[0])
    with pytest.raises(ValueError, match=r"precision.*'float16'"):
        small.precision = "float16"
    small.precision = "bfloat16"
    difference = np.abs(small(batch[0]) - full)
    assert 0 < difference.max() < 0.02
    assert small(batch[0]).tobytes() == small(batch[0]).tobytes()
    small.precision = "float32"
    assert small(batch[0]).tobytes() == full.tobytes()


def test_a_gpu_that_is_not_there_says_why():
    try:
        mirl.PromptIR(**SMALL, device="cuda")
    except mirl.errors.DeviceError as error:
        said = str(error)
    else:
        pytest.skip("there is a GPU")
    assert re.search("cuda.*not there", said)
    assert mirl.devices()["cuda"].startswith("not there: ")


def test_devices_that_are_none_are_refused():
    assert "threads" in mirl.devices()["cpu"]
    with pytest.raises(ValueError, match="'tpu'"):
        mirl.PromptIR(device="tpu")


def test_sizes_beyond_memory_are_refused_before_anything_is_allocated():
    with pytest.raises(ValueError, match="more than 268435456 parameters"):
        mirl.PromptIR(dim=4096)
    with pytest.raises(ValueError, match="dim must be at least 1 and at most"):
        mirl.PromptIR(dim=2**40)


@pytest.mark.parametrize("name", mirl.errors.__all__)
def test_exceptions_cross_processes(name):
    error = getattr(mirl.errors, name)("what was wrong")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.args == error.args
    assert f"{type(error).__module__}.{name}" == f"mirl.errors.{name}"


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_are_networks_of_their_own(small, copied):
    mirl.prune(small, 0.5)
    snapshot, mask = small.snapshot(), small.mask
    state = small.state_dict()
    twin = copied(small)
    assert twin.config == small.config
    assert twin.seed == small.seed
    assert_same_state(twin.state_dict(), state)
    assert twin.mask.keys() == mask.keys()
    assert all((twin.mask[name] == alive).all() for name, alive in mask.items())
    mirl.prune(twin, 0.5)
    assert small.density().all > twin.density().all
    assert_same_state(copied(snapshot).state_dict(), state)
    values = sum(value.size for value in state.values())
    assert repr(snapshot) == f"Snapshot({len(state)} tensors, {values:,} values)"


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"dim": 8.0}, TypeError, "dim must be a whole number, got 8.0"),
        ({"heads": 4}, TypeError, "heads must be 4 whole numbers, got 4"),
        ({"num_blocks": (1, 1, 1)}, ValueError, r"num_blocks must be 4 whole numbers, got \(1, 1"),
        ({"heads": (1, 2, "4", 8)}, TypeError, "heads must be a whole number, got '4'"),
        ({"num_blocks": (1, 1, 1, -1)}, ValueError, "num_blocks must be at least 0, got -1"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ],
)
def test_sizes_of_other_types_are_named(sizes, error, message):
    with pytest.raises(error, match=message):
        mirl.PromptIR(**sizes)


def test_numbers_of_numpy_will_do():
    sizes = {
        name: np.array(value) if name != "dim" else np.int64(value) for name, value in SMALL.items()
    }
    sizes["num_refinement_blocks"] = np.int64(SMALL["num_refinement_blocks"])
    assert mirl.PromptIR(**sizes).config == mirl.PromptIR(**SMALL).config


def test_a_masked_array_is_refused(small):
    image = np.ma.masked_less(np.ones((1, 3, 8, 8), np.float32), 0.5)
    with pytest.raises(TypeError, match="images: a masked array"):
        small(image)


def test_metadata_and_progress_are_strings(small, tmp_path):
    with pytest.raises(TypeError, match=r"metadata must be strings by name, got 0.1 for 'lr'"):
        small.save(tmp_path / "x.safetensors", {"lr": 0.1})
    with pytest.raises(TypeError, match="progress must be a string, got dict"):
        mirl.Trainer(small).save_checkpoint(tmp_path / "x.safetensors", {"step": 1})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda _: mirl.Trainer(None), TypeError, "model must be a mirl.Network, got NoneType"),
        (lambda _: mirl.prune("x"), TypeError, "model must be a mirl.Network, got str"),
        (lambda m: mirl.rewind(m, None), TypeError, "expected arrays by parameter name, got None"),
        (lambda m: m.load_state_dict(None), TypeError, "expected arrays by parameter name"),
        (lambda m: m.load_state_dict({1: [1]}), TypeError, "expected names as str, got 1"),
        (lambda m: m.from_state_dict({1: [1]}), TypeError, "expected names as str, got 1"),
        (lambda m: setattr(m, "mask", [1]), TypeError, "expected arrays by parameter name, got"),
        (lambda m: mirl.prune(m, include=5), TypeError, "include and exclude are sequences"),
        (lambda m: mirl.prune(m, include=(5,)), TypeError, "sequences of names, got 5 in one"),
        (lambda m: mirl.prune(m, criterion="random", seed=None), TypeError, "seed must be a whole"),
        (lambda _: mirl.set_num_threads("x"), TypeError, "num_threads must be a whole number"),
        (lambda _: mirl.PromptIR(seed=2**64), ValueError, "seed must be less than"),
        (
            lambda _: mirl.PromptIR(ffn_expansion_factor=float("nan")),
            ValueError,
            "ffn_expansion_factor must be finite",
        ),
    ],
)
def test_what_is_of_another_kind_is_named(small, call, error, message):
    with pytest.raises(error, match=message):
        call(small)


class Named(mirl.PromptIR):
    """A network with something of its own."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.note = self.state = "mine"


def test_copies_keep_what_a_subclass_has():
    model = Named(seed=4, **SMALL)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert (type(other), other.note, other.state, other.seed) == (Named, "mine", "mine", 4)
        np.testing.assert_array_equal(
            other.state_dict()["output.weight"], model.state_dict()["output.weight"]
        )


def test_what_files_tell_by_themselves_is_reserved(small, tmp_path):
    with pytest.raises(ValueError, match="'rounding' is written by mirl itself"):
        small.save(tmp_path / "x.safetensors", {"rounding": "none"})


def test_a_ticket_and_its_dense_network_look_different(small):
    dense = repr(small)
    assert dense.startswith(f"PromptIR({small.num_parameters:,} parameters, 100.00% alive; dim=")
    mirl.prune(small, 0.5)
    assert f"{small.density().all:.2%} alive" in repr(small)
    assert len(repr(small)) < 300
