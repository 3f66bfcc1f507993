"""What holds for each network; and what is Restormer's, DyNet's and SymUNet's own."""

import copy
import pickle

import numpy as np
import pytest

import mirl
from dataset import write_dataset
from float64 import dynet, restormer, symunet
from lottery_run import Noise, quality
from mirl.errors import CollapseWarning, FormatError
from mirl.lottery import Experiment
from mirl.lottery.analysis import dense_sizes, mask_overlap
from mirl.models import NETWORKS
from reference import (
    SMALL,
    SMALL_DYNET,
    SMALL_RESTORMER,
    SMALL_SYMUNET,
    golden_state,
    random_images,
)
from same import assert_same_run, assert_same_state

SIZES = {
    "PromptIR": SMALL,
    "Restormer": SMALL_RESTORMER,
    "DyNet": SMALL_DYNET,
    "SymUNet": SMALL_SYMUNET,
}
OTHERS = dict(zip(SIZES, [*list(SIZES)[1:], *SIZES], strict=False))
BIAS_FREE = {"layer_norm": "BiasFree"}
DEEPER = {"num_blocks": (1, 2, 1, 2), "heads": (2, 1, 4, 8)}
EQUATIONS = {
    "Restormer": (restormer, (2, 3, 16, 24)),
    "DyNet": (dynet, (2, 3, 16, 24)),
    "SymUNet": (symunet, (2, 3, 32, 64)),
}
"""What each is held against, and images that it does not pad. PromptIR has golden values."""


def made(name, **changes):
    return NETWORKS[name](**({"seed": 2} | SIZES[name] | changes))


@pytest.fixture(params=sorted(NETWORKS))
def name(request):
    return request.param


@pytest.fixture(params=[*sorted(NETWORKS), "Restormer without biases"])
def model(request):
    """One of each kind."""
    name, *variant = request.param.split(" ")
    return made(name, **(BIAS_FREE if variant else {}))


@pytest.fixture
def kind(model):
    """What it is called."""
    return type(model).__name__


def test_all_networks_are_tested():
    assert NETWORKS.keys() == SIZES.keys()
    assert all(getattr(mirl, name) is network for name, network in NETWORKS.items())


# Restormer's own


def test_restormer_has_the_published_size():
    """Its paper's code: 26.13 M parameters, 494 of them tensors."""
    model = mirl.Restormer()
    shapes = model.shapes
    assert model.num_parameters == 26_126_644
    assert len(shapes) == 494
    assert shapes["latent.7.ffn.project_in.weight"] == (2 * int(384 * 2.66), 384, 1, 1)
    assert shapes["up4_3.body.0.weight"] == (768, 384, 3, 3)
    assert shapes["decoder_level1.0.attn.temperature"] == (1, 1, 1)
    order = ["patch_embed", "encoder_level1", "down1_2", "encoder_level2", "down2_3"]
    order += ["encoder_level3", "down3_4", "latent", "up4_3", "reduce_chan_level3"]
    order += ["decoder_level3", "up3_2", "reduce_chan_level2", "decoder_level2", "up2_1"]
    order += ["decoder_level1", "refinement", "output"]
    assert list(dict.fromkeys(name.partition(".")[0] for name in shapes)) == order
    # All of it may be pruned but for biases of layer norms and temperatures.
    assert model.density("paper-code") == model.density() == (1, 1)


def test_layer_norms_may_have_no_bias():
    """As in the published weights of denoising, 26.11 M."""
    model = mirl.Restormer(layer_norm="BiasFree")
    assert model.num_parameters == 26_111_668
    assert len(model.shapes) == 406
    assert not [name for name in model.shapes if "bias" in name]
    with pytest.raises(ValueError, match="layer_norm must be one of"):
        mirl.Restormer(layer_norm="without")
    state = made("Restormer").state_dict()
    del state["latent.0.norm1.body.bias"]
    with pytest.raises(ValueError, match=r"missing parameters: latent\.0\.norm1\.body\.bias"):
        mirl.Network.from_state_dict(state)


# DyNet's own


def test_dynet_has_the_published_size():
    """As its code declares them; one for its small and its large network."""
    model = mirl.DyNet()
    shapes = model.shapes
    assert model.num_parameters == 16_726_031
    assert len(shapes) == 182
    assert shapes["latent.ffn.project_in.weight"] == (2 * int(384 * 2.66), 384, 1, 1)
    assert shapes["noise_level3.attn.temperature"] == (4, 1, 1)
    assert shapes["reduce_noise_channel_3.weight"] == (192, 448, 1, 1)
    order = ["patch_embed", "prompt1", "prompt2", "prompt3"]
    for i in (1, 2, 3):
        down = f"down{i}_{i + 1}"
        order += [f"reduce_noise_channel_{i}", f"encoder_level{i}", down]
    order += ["latent", "up4_3", "reduce_chan_level3", "noise_level3", "reduce_noise_level3"]
    order += ["decoder_level3", "up3_2", "reduce_chan_level2", "noise_level2"]
    order += ["reduce_noise_level2", "decoder_level2", "up2_1", "noise_level1"]
    order += ["reduce_noise_level1", "decoder_level1", "refinement", "output"]
    assert list(dict.fromkeys(name.partition(".")[0] for name in shapes)) == order
    unused = {name.partition(".")[0] for name in shapes if model._network.is_unused(name)}
    assert unused == {f"reduce_noise_channel_{i}" for i in (1, 2, 3)}


def test_the_small_dynet_has_the_weights_of_the_large_one(device):
    large = made("DyNet", num_blocks=(4, 6, 6, 8), device=device)
    mirl.prune(large, 0.5)
    small = mirl.DyNet(**large.config | {"num_blocks": (2, 3, 3, 4)}, device=device)
    assert small.shapes == large.shapes
    small.load_state_dict(large.state_dict())
    small.mask = large.mask
    image = random_images(8, (1, 3, 16, 16))
    assert not np.array_equal(small(image), large(image))
    assert mirl.Network.from_state_dict(small.state_dict()).config == large.config
    large.num_blocks = (2, 3, 3, 4)
    assert large.num_blocks == (2, 3, 3, 4)
    assert large.config == small.config
    np.testing.assert_array_equal(small(image), large(image))


def test_a_dynet_is_trained_small_and_large_in_turns(device):
    model = made("DyNet", device=device)
    trainer = mirl.Trainer(model, lr=1e-3)
    image = random_images(9, (1, 3, 16, 16))
    losses = []
    for num_blocks in ((4, 6, 6, 8), (2, 3, 3, 4)) * 3:
        model.num_blocks = num_blocks
        alone = mirl.DyNet(**model.config)
        alone.load_state_dict(model.state_dict())
        losses.append(trainer.step(image, image / 2))
        assert losses[-1] == pytest.approx(np.abs(alone(image) - image / 2).mean(), rel=1e-5)
    assert losses[4] < losses[0]
    assert losses[5] < losses[1]


def test_a_state_dict_does_not_tell_a_dynets_depth(tmp_path):
    model = made("DyNet", num_blocks=(2, 3, 3, 4))
    with pytest.warns(
        UserWarning, match=r"num_blocks is \[2, 3, 3, 4\]: who reads it takes \[4, 6"
    ):
        mirl.export(model, tmp_path / "x.pth")
    again = mirl.load(tmp_path / "x.pth")
    assert again.num_blocks == (4, 6, 6, 8)
    again.num_blocks = model.num_blocks
    image = random_images(10, (1, 3, 16, 8))
    np.testing.assert_array_equal(again(image), model(image))


def test_a_state_dict_tells_what_a_factor_comes_to(name, tmp_path):
    """Another factor may come to the same widths, of which nobody is warned."""
    model = made(name, ffn_expansion_factor=2.661)
    mirl.export(model, tmp_path / "x.pth")
    again = mirl.load(tmp_path / "x.pth")
    assert again.config != model.config
    image = random_images(11, (1, 3, 16, 8))
    np.testing.assert_array_equal(again(image), model(image))


@pytest.mark.parametrize("wrong", [(1, 1, 1), (0, 1, 1, 1), (1, 1, 1, 1.5), 3, (1, 1, 1, 1 << 40)])
def test_a_dynets_depth_is_four_numbers(wrong):
    model = made("DyNet")
    with pytest.raises((TypeError, ValueError), match="num_blocks"):
        model.num_blocks = wrong
    assert model.num_blocks == SMALL_DYNET["num_blocks"]
    with pytest.raises(ValueError, match="parameters depend on these sizes"):
        model._network.resize('{"dim": 16}')


# SymUNet's own


def test_symunet_has_the_published_size():
    """As its code declares them."""
    model = mirl.SymUNet()
    shapes = model.shapes
    assert model.num_parameters == 22_288_827
    assert len(shapes) == 453
    assert shapes["downs.2.weight"] == (384, 192, 2, 2)
    assert shapes["downs.2.bias"] == (384,)
    assert shapes["ups.0.0.weight"] == (768, 384, 1, 1)
    assert shapes["decoders.0.5.attn.temperature"] == (4, 1, 1)
    order = ["intro", "ending", "encoders", "decoders", "ups", "downs", "middle_blks"]
    assert list(dict.fromkeys(name.partition(".")[0] for name in shapes)) == order
    assert model.multiple == 32


# Each


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Restormer", {}),
        ("Restormer", DEEPER),
        ("Restormer", BIAS_FREE),
        ("DyNet", {"num_blocks": (2, 1, 2, 3)}),
        ("DyNet", DEEPER | {"prompt_sizes": (5, 3, 9), "num_refinement_blocks": 2}),
        ("SymUNet", {}),
        ("SymUNet", DEEPER | {"dim": 6}),
        ("SymUNet", BIAS_FREE),
    ],
)
def test_a_network_is_its_equations(name, sizes, device):
    equations, shape = EQUATIONS[name]
    model = made(name, device=device, **sizes)
    model.load_state_dict(golden_state(model.shapes))
    images = random_images(7, shape)
    expected = [equations(model.state_dict(), model.config, image) for image in images]
    np.testing.assert_allclose(model(images), expected, rtol=0, atol=2e-5)


def test_gradients_are_the_slopes_of_the_loss(model):
    image = random_images(0, (1, 3, 16, 8))
    clean = image + 0.5  # far from the corner of the absolute value
    start, gradients = model.state_dict(), model.gradients(image, clean)
    unused = {key for key in start if model._network.is_unused(key)}
    assert gradients.keys() == start.keys() - unused
    rng = np.random.default_rng(0)
    along = {key: rng.standard_normal(value.shape, np.float32) for key, value in start.items()}

    def loss(step):
        moved = {key: value + np.float32(step) * along[key] for key, value in start.items()}
        model.load_state_dict(moved)
        return np.abs(model(image) - clean).mean(dtype=np.float64)

    slope = sum(np.vdot(along[key], gradient) for key, gradient in gradients.items())
    assert (loss(1e-3) - loss(-1e-3)) / 2e-3 == pytest.approx(slope, rel=2e-2)


def test_sides_are_padded_by_reflection(model):
    image = random_images(1, (1, 3, 13, 18))
    down, right = -13 % model.multiple, -18 % model.multiple
    assert down > 0
    padded = np.pad(image, ((0, 0), (0, 0), (0, down), (0, right)), mode="reflect")
    np.testing.assert_array_equal(model(image), model(padded)[..., :13, :18])


def test_it_is_found_by_its_parameters(kind, model):
    state = model.state_dict()
    image = random_images(2, (1, 3, 8, 16))
    for network in (mirl.Network, type(model)):
        again = network.from_state_dict({f"net.{key}": value for key, value in state.items()})
        assert type(again) is type(model)
        assert again.config == model.config
        np.testing.assert_array_equal(again(image), model(image))
    with pytest.raises(ValueError, match=f"parameters of {kind}, not of {OTHERS[kind]}"):
        NETWORKS[OTHERS[kind]].from_state_dict(state)
    *_, norm = (key for key in state if key.endswith("norm1.body.weight"))  # of the last block
    place = norm.removesuffix("norm1.body.weight")
    part = {key: value for key, value in state.items() if not key.startswith(place)}
    part[norm] = np.full_like(state[norm], 3)
    again = mirl.Network.from_state_dict(part, strict=False)
    assert type(again) is type(model)
    np.testing.assert_array_equal(again.state_dict()[norm], 3)


@pytest.mark.parametrize("ending", [".safetensors", ".mirl.safetensors", ".pth"])
def test_files_tell_which_it_is(kind, model, tmp_path, ending):
    path = tmp_path / f"x{ending}"
    mirl.prune(model, 0.6)
    model.save(path) if ending != ".pth" else mirl.export(model, path)
    again = mirl.load(path)
    assert type(again) is type(model)
    image = random_images(3, (1, 3, 24, 8))
    np.testing.assert_array_equal(again(image), model(image))
    inspection = mirl.inspect(path)
    assert (inspection.network, inspection.config) == (kind, model.config)
    assert not inspection.missing
    assert not inspection.unexpected
    assert inspection.density.prunable == pytest.approx(model.density().prunable, abs=1e-6)


def test_onnx_runtime_restores_the_same(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    mirl.export(model, tmp_path / "x.onnx")
    run = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    images = random_images(4, (2, 3, 32, 64))
    (restored,) = run.run(["restored"], {"image": images})
    np.testing.assert_allclose(restored, model(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_of_its_class(kind, model, copied):
    mirl.prune(model, 0.5)
    twin = copied(model)
    assert type(twin) is type(model)
    assert_same_state(twin.mask, model.mask)
    assert repr(twin) == repr(model)
    assert repr(twin).startswith(f"{kind}(")


@pytest.mark.parametrize("scope", ["global", "layerwise"])
@pytest.mark.parametrize(
    ("name", "sizes"), [*((name, {}) for name in sorted(NETWORKS)), ("Restormer", BIAS_FREE)]
)
def test_a_pruned_one_runs_and_trains_as_its_dense_twin(name, sizes, device, scope):
    model = made(name, device=device, dim=16, **sizes)
    mirl.prune(model, 0.8, scope)
    dense = made(name, device=device, dim=16, **sizes)
    dense.load_state_dict(model.state_dict())
    image = random_images(5, (1, 3, 40, 24))
    np.testing.assert_allclose(model(image), dense(image), rtol=0, atol=1e-5)
    losses = [mirl.Trainer(each, eps=1e-3).step(image, image / 2) for each in (model, dense)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_bfloat16_is_near_float32(model, device):
    model.to(device)
    image = random_images(6, (2, 3, 33, 24))
    exact = model(image)
    losses = [mirl.Trainer(copy.deepcopy(model)).step(image, image / 2)]
    model.precision = "bfloat16"
    error = np.abs(model(image) - exact)
    assert 0 < error.max() < 0.05
    losses.append(mirl.Trainer(model, precision="bfloat16").step(image, image / 2))
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=5e-3)


def test_checkpoints_continue_to_the_bit_and_are_of_one_network(name, batch, device, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    first, again = (made(name, device=device, seed=seed) for seed in (1, 2))
    trainer, resumed = (mirl.Trainer(each, lr=1e-3) for each in (first, again))
    trainer.step(*batch)
    trainer.save_checkpoint(path)
    resumed.load_checkpoint(path)
    assert trainer.step(*batch) == resumed.step(*batch)
    assert_same_state(again.state_dict(), first.state_dict())
    with pytest.raises(FormatError, match="of a network of other sizes"):
        mirl.Trainer(made(OTHERS[name])).load_checkpoint(path)


@pytest.mark.parametrize("end", ["first", "last"])
def test_a_collapse_is_told(model, end):
    weights = dict(zip(("first", "last"), model._network.ends, strict=True))[end]
    what = "adds the same" if end == "first" else "returns its input"
    if "ending.bias" in model.shapes and end == "last":
        what = "adds one colour"
    largest = max(model.shapes, key=lambda key: np.prod(model.shapes[key]))
    scores = {weights: np.zeros(model.shapes[weights], np.float32)}
    scores[largest] = np.ones(model.shapes[largest], np.float32)
    amount = scores[weights].size / sum(score.size for score in scores.values())
    with pytest.warns(CollapseWarning, match=rf"nothing is left of {weights}: the network {what}"):
        mirl.prune(model, amount, criterion=scores, include=list(scores))


def test_a_network_may_have_nothing_of_a_group():
    """What is in one recipe for all networks."""
    model = made("Restormer", **BIAS_FREE)
    report = mirl.prune(model, include=("weights", "prompts"), exclude=("dead", "norms", "biases"))
    assert len(report) == sum("weight" in key and ".norm" not in key for key in model.shapes)
    with pytest.raises(ValueError, match="leave no parameter"):
        mirl.prune(model, include=("prompts",))
    with pytest.raises(ValueError, match=r"no parameter matches 'prompt\*'"):
        mirl.prune(model, include=("weights", "prompt*"))


@pytest.mark.parametrize("preset", ["default", "paper-code"])
def test_tickets_are_found_and_go_on(name, tmp_path, preset):
    settings = {"epochs": 2, "amount": 0.3, "lr": 1e-3, "evaluate": quality, "loggers": ()}
    settings["preset"] = preset
    for folder, parts in (("at once", [2]), ("in parts", [1, 2])):
        for rounds in parts:
            out = tmp_path / folder
            found = mirl.find_ticket(made(name), Noise(), rounds=rounds, out=out, **settings)
    assert_same_run(tmp_path / "in parts", tmp_path / "at once")
    assert found.model.density(preset).prunable == pytest.approx(0.49, abs=1e-3)
    with pytest.raises(ValueError, match=rf"network\.name is '{name}' there and"):
        mirl.find_ticket(made(OTHERS[name]), Noise(), rounds=2, out=out, **settings)


def test_a_control_has_its_masks(name, tmp_path):
    settings = {"rounds": 1, "epochs": 1, "amount": 0.5, "loggers": ()}
    mirl.find_ticket(made(name), Noise(), out=tmp_path / "ticket", **settings)
    for control in ("reinit", "shuffle", "random"):
        found = mirl.find_ticket(
            made(name), Noise(), masks_of=tmp_path / "ticket", control=control, **settings
        )
        assert found.model.density().prunable == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(ValueError, match=f"its network is another: name is '{name}' there"):
        mirl.find_ticket(made(OTHERS[name]), Noise(), masks_of=tmp_path / "ticket", **settings)


def test_a_recipe_names_it(name, tmp_path):
    write_dataset(tmp_path / "data")
    sizes = {key: list(v) if isinstance(v, tuple) else v for key, v in SIZES[name].items()}
    experiment = Experiment(
        data={"root": tmp_path / "data", "patch_size": 16},
        network={"name": name} | sizes,
        ticket={"rounds": 0, "epochs": 1},
    )
    experiment.save(tmp_path / "recipe.toml")
    again = Experiment.load(tmp_path / "recipe.toml")
    assert again.hash() == experiment.hash()
    assert type(again.run(tmp_path / "run", progress=False).model) is NETWORKS[name]


def test_recipes_refuse_what_a_network_has_not(tmp_path):
    data = {"root": tmp_path}
    with pytest.raises(ValueError, match=r"no layer_norm; network\.layer_norm\?$"):
        Experiment(data).changed({"layer_norm": "BiasFree"})
    with pytest.raises(ValueError, match=r"unknown in network \(of Restormer\): prompt_len"):
        Experiment(data, network={"name": "Restormer", "prompt_len": 3})
    for other in ("Other", 5, [], None):
        with pytest.raises(ValueError, match=r"network\.name must be one of \('DyNet', 'Prompt"):
            Experiment(data, network={"name": other})


def test_a_run_of_before_there_were_several_is_promptirs(tmp_path):
    settings = {"epochs": 1, "amount": 0.3, "loggers": (), "out": tmp_path}
    mirl.find_ticket(made("PromptIR"), Noise(), rounds=0, **settings)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"name": "PromptIR",', ""))
    assert '"PromptIR"' not in recipe.read_text()
    assert len(mirl.find_ticket(made("PromptIR"), Noise(), rounds=1, **settings).rounds) == 2


def test_a_dense_one_of_a_tickets_size(name):
    ticket = made(name, dim=16)
    mirl.prune(ticket, 0.7)
    dense = NETWORKS[name](**dense_sizes(ticket))
    wanted = ticket.density().all * ticket.num_parameters
    assert abs(dense.num_parameters - wanted) < 0.3 * wanted
    assert mask_overlap(ticket, ticket).jaccard == 1


def test_there_is_no_network_without_an_architecture():
    with pytest.raises(TypeError, match=f"by itself; there are {', '.join(sorted(NETWORKS))}$"):
        mirl.Network()
