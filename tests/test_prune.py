"""Pruning and rewinding."""

import time
import warnings

import numpy as np
import pytest

import mirl
from mirl.safetensors import read_safetensors
from reference import SMALL, UNUSED, golden, golden_state, random_images, statistics
from same import assert_same_state


@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_fifteen_published_rounds_to_the_weight(shared, scope):
    expected = golden(shared, "prune_rounds_full.json")[scope]
    model = mirl.PromptIR()
    model.load_state_dict(golden_state(model.shapes))
    for round_ in range(1, 16):
        report = mirl.prune(model, 0.2, scope, preset="paper-code")
        if str(round_) in expected:
            assert {layer.name: layer.alive for layer in report} == expected[str(round_)]["alive"]
            assert sum(layer.alive for layer in report) == expected[str(round_)]["total_alive"]
            state = model.state_dict()
            nonzero = sum(int(np.count_nonzero(values)) for values in state.values())
            assert nonzero == report.alive == expected[str(round_)]["nonzero_of_all"]
    assert report.density.all == pytest.approx(0.1001, abs=1e-4)
    assert report.density.prunable == pytest.approx(0.0352, abs=1e-4)


def test_training_prunes_and_rewinds_as_published(shared):
    reference = golden(shared, "train_prune_shallow.json")
    model = mirl.PromptIR(num_blocks=(1, 1, 1, 1), num_refinement_blocks=1)
    model.load_state_dict(golden_state(model.shapes))
    initial = model.snapshot()
    train(model, [1000 + 2 * i for i in range(5)])
    for index, round_ in enumerate(reference["rounds"]):
        report = mirl.prune(model, round_["percent"] / 100, round_["kind"], preset="paper-code")
        for layer in report:
            allowed = max(3, 0.001 * layer.total)
            assert abs(layer.alive - round_["alive"][layer.name]) <= allowed, layer.name
        # The published training overwrites the initial biases that the first rewinding hands out.
        mirl.rewind(model, initial, preset="paper-code", biases=index == 0)
        state = model.state_dict()
        for name, expected in round_["rewound"].items():
            # Its gradients are about as small as the rounding of sums, and AdamW steps as far by
            # them as by any: two orders of our own sums end 0.97e-3 and 1.02e-3 from the published.
            bound = 2e-3 if name.startswith("prompt3.linear_layer") else 1e-3
            atol = bound * np.abs(expected).max()
            np.testing.assert_allclose(statistics(state[name]), expected, atol=atol)
        losses = train(model, [2000 + 100 * index + 2 * i for i in range(3)])
        np.testing.assert_allclose(losses, round_["loss"], rtol=5e-3)


def train(model, keys):
    trainer = mirl.Trainer(model)
    shape = (2, 3, 64, 64)
    return [trainer.step(random_images(key, shape), random_images(key + 1, shape)) for key in keys]


def is_candidate(name):
    return "weight" in name and not name.startswith(UNUSED)


def test_default_removes_exactly_the_smallest_share(small):
    before = small.state_dict()
    report = mirl.prune(small, 0.3)
    values = np.concatenate([v.ravel() for k, v in before.items() if is_candidate(k)])
    assert len(report.layers) == sum(map(is_candidate, before))
    assert sum(layer.alive for layer in report) == len(values) - round(0.3 * len(values))
    after = small.state_dict()
    kept = np.concatenate([np.abs(before[k][small.mask[k]]) for k in small.mask])
    gone = np.concatenate([np.abs(before[k][~small.mask[k]]) for k in small.mask])
    assert gone.max() <= kept.min()
    for name, values in after.items():
        mask = small.mask.get(name, np.ones(values.shape, bool))
        np.testing.assert_array_equal(values, np.where(mask, before[name], 0))


def test_ties_fall_in_order(small):
    small.load_state_dict({k: np.ones_like(v) for k, v in small.state_dict().items()})
    report = mirl.prune(small, 0.25)
    candidates = [layer.total for layer in report]
    assert sum(layer.alive for layer in report) == sum(candidates) - round(0.25 * sum(candidates))
    mask = np.concatenate(
        [small.mask.get(layer.name, np.ones(layer.total, bool)).ravel() for layer in report]
    )
    assert (np.diff(mask.astype(int)) >= 0).all()


def test_unused_convolutions_compete_only_where_asked(small):
    mirl.prune(small, 0.9)
    assert not any(name.startswith(UNUSED) for name in small.mask)
    mirl.prune(small, 0.5, exclude=())
    assert any(name.startswith(UNUSED) for name in small.mask)


@pytest.mark.parametrize("preset", ["default", "paper-code"])
def test_a_report_has_the_density_of_what_its_preset_prunes(small, preset):
    small.mask = {"chnl_reduce1.weight": np.zeros(small.shapes["chnl_reduce1.weight"], bool)}
    report = mirl.prune(small, 0.5, preset=preset)
    alive, total = (sum(getattr(each, name) for each in report) for name in ("alive", "total"))
    assert report.density.prunable == pytest.approx(alive / total, rel=1e-9)


def test_layerwise_halves_the_rate_of_the_output(small):
    report = {layer.name: layer for layer in mirl.prune(small, 0.5, "layerwise")}
    output = report["output.weight"]
    assert output.alive == output.total - round(0.25 * output.total)
    other = report["latent.0.attn.qkv.weight"]
    assert other.alive == other.total - round(0.5 * other.total)
    report = {layer.name: layer for layer in mirl.prune(small, 0.5, "layerwise", output_rate=1.0)}
    assert report["output.weight"].alive == output.alive - round(0.5 * output.alive)


def test_a_weight_that_becomes_zero_is_dead_in_the_published_code_only(small):
    state = small.state_dict()
    state["output.weight"][0, 0, 0, 0] = 0
    for preset, removed in (("default", 0), ("paper-code", 1)):
        model = mirl.PromptIR.from_state_dict(state, mask={})
        total = sum(
            layer.alive for layer in mirl.prune(model, 1e-9, preset=preset, threshold="exact")
        )
        # Nothing is asked to go: only the published rule sees the zero.
        candidates = sum(
            v.size
            for k, v in state.items()
            if "weight" in k and (preset != "default" or is_candidate(k))
        )
        assert candidates - total == removed


def densities(report):
    return {layer.name: layer.density for layer in report}


def test_uniform_and_erk_allot_densities(small):
    """ERK: the density of a tensor goes with (n_out + n_in + h + w)/(n_out n_in h w)."""
    mirl.prune(small, 0.3, include=["encoder_level1.*"])
    before = densities(mirl.prune(small, 1e-9))
    found = densities(mirl.prune(small, 0.5, "uniform"))
    kept = [density for name, density in found.items() if density < before[name]]
    level = max(kept)
    assert all(found[name] == pytest.approx(min(level, before[name]), abs=0.1) for name in found)
    large = [n for n, shape in small.shapes.items() if n in found and np.prod(shape) > 1000]
    shared = [found[name] for name in large if found[name] < before[name]]
    assert max(shared) == pytest.approx(min(shared), abs=1e-3)
    assert len(shared) > 10

    model = mirl.PromptIR(seed=1, **SMALL)
    report = mirl.prune(model, 0.8, "erk")
    ratios = [
        layer.density / (sum(model.shapes[layer.name]) / layer.total)
        for layer in report
        if layer.density < 1 and layer.total > 1000
    ]
    assert min(ratios) == pytest.approx(max(ratios), rel=0.01)
    assert densities(report)["encoder_level1.0.norm1.body.weight"] == 1
    total = sum(layer.total for layer in report)
    assert sum(layer.alive for layer in report) == pytest.approx(0.2 * total, rel=0.01)


def test_no_layer_collapses_below_a_least_density(small):
    state = small.state_dict()
    state["output.weight"] *= np.float32(1e-6)
    small.load_state_dict(state)
    guarded = mirl.PromptIR.from_state_dict(state, {})
    assert densities(mirl.prune(small, 0.9))["output.weight"] == 0
    report = mirl.prune(guarded, 0.9, min_density=0.05)
    assert min(layer.density for layer in report) >= 0.05
    assert report.alive == mirl.prune(small, 1e-9).alive
    # The largest stay.
    weights, mask = np.abs(state["output.weight"]), guarded.mask["output.weight"]
    assert weights[mask].min() >= weights[~mask].max()


def test_whole_channels_go(small):
    before = small.state_dict()
    report = mirl.prune(small, 0.25, granularity="channels")
    channels = {layer.name: small.shapes[layer.name][0] for layer in report}
    gone = 0
    for name, mask in small.mask.items():
        rows = mask.reshape(len(mask), -1)
        assert (rows.all(axis=1) | ~rows.any(axis=1)).all(), name
        gone += int((~rows.any(axis=1)).sum())
    candidates = [n for n in channels if len(small.shapes[n]) >= 2]
    assert gone == round(0.25 * sum(channels[n] for n in candidates))
    means = {n: np.abs(before[n]).reshape(channels[n], -1).mean(axis=1) for n in candidates}
    alive = {n: small.mask.get(n, np.ones(before[n].shape, bool)) for n in candidates}
    alive = {n: mask.reshape(channels[n], -1).any(axis=1) for n, mask in alive.items()}
    kept = np.concatenate([means[n][alive[n]] for n in candidates])
    lost = np.concatenate([means[n][~alive[n]] for n in candidates])
    assert lost.max() <= kept.min() * (1 + 1e-6)


def test_a_channel_lives_by_one_weight(small):
    name = "output.weight"
    weight, mask = np.ones(small.shapes[name], np.float32), np.zeros(small.shapes[name], bool)
    weight[0, 0, 0, 0] = 2 * weight[0].size  # the larger mean
    mask[0, 0, 0, 0] = mask[1] = True
    small.load_state_dict({name: weight}, strict=False)
    small.mask = {name: mask}
    report = mirl.prune(small, 0.5, granularity="channels", include=[name])
    assert [layer.alive for layer in report] == [1]


def test_two_of_four_along_the_input_channels(small):
    before = small.state_dict()
    mirl.prune(small, granularity="2:4")
    assert "patch_embed.proj.weight" not in small.mask  # three input channels
    assert not any("norm" in name or "dwconv" in name for name in small.mask)
    for name, mask in small.mask.items():
        groups = np.moveaxis(mask, 1, -1).reshape(-1, 4)
        assert (groups.sum(axis=1) == 2).all(), name
        weights = np.abs(np.moveaxis(before[name], 1, -1).reshape(-1, 4))
        kept = np.where(groups, weights, np.inf).min(axis=1)
        assert (kept >= np.where(groups, 0, weights).max(axis=1)).all(), name
    again = {name: mask.copy() for name, mask in small.mask.items()}
    mirl.prune(small, granularity="2:4")
    assert_same_state(small.mask, again)


def test_groups_and_patterns_choose_what_competes(small):
    names = set(small.shapes)
    for group, part in {
        "norms": ".norm",
        "biases": "bias",
        "prompts": "prompt_param",
        "temperatures": "temperature",
        "dead": UNUSED,
    }.items():
        report = mirl.prune(small, 0.3, include=[group], exclude=())
        competed = {layer.name for layer in report}
        parts = (part,) if isinstance(part, str) else part
        assert competed == {name for name in names if any(each in name for each in parts)}
    report = mirl.prune(small, 0.3, include=["weights"], exclude=["dead", "norms", "output.*"])
    assert {layer.name for layer in report} == {
        name
        for name in names
        if is_candidate(name) and ".norm" not in name and name[:7] != "output."
    }


def test_a_network_without_any_kind_of_weight_runs_sparse_as_dense(small, batch):
    """Masks of biases, norms, prompts and temperatures too, which are never pruned by default."""
    mirl.prune(small, 0.5, include=["*"], exclude=(), criterion="random")
    kinds = ("norm1.body.bias", "prompt_param", "temperature", "dwconv.weight")
    assert all(any(name.endswith(kind) for name in small.mask) for kind in kinds)
    dense = mirl.PromptIR.from_state_dict(small.state_dict(), mask={})
    np.testing.assert_allclose(small(batch[0]), dense(batch[0]), atol=1e-5)
    expected = dense.gradients(*batch)
    for name, gradient in small.gradients(*batch).items():
        scale = np.abs(expected[name]).max()
        alive = small.mask.get(name, np.ones(gradient.shape, bool))
        close = np.abs(gradient - expected[name])[alive] <= 1e-4 * scale + 1e-8
        assert close.all(), name


def test_rewinding_sets_back_what_it_should(small, batch):
    initial = small.snapshot()
    before = initial.state_dict()
    train_some(small, batch)
    mirl.prune(small, 0.4)
    trained = small.state_dict()
    mirl.rewind(small, initial)
    for name, values in small.state_dict().items():
        if name.endswith(("prompt_param", "temperature")):
            np.testing.assert_array_equal(values, trained[name])
            assert not np.array_equal(values, before[name])
        else:
            mask = small.mask.get(name, np.ones(values.shape, bool))
            np.testing.assert_array_equal(values, np.where(mask, before[name], 0))
    mirl.rewind(small, before, prompts=True, temperatures=True)
    for name, values in small.state_dict().items():
        if name.endswith(("prompt_param", "temperature")):
            np.testing.assert_array_equal(values, before[name])


def train_some(model, batch, steps=2):
    trainer = mirl.Trainer(model, lr=1e-2)
    for _ in range(steps):
        trainer.step(*batch)


def test_pruned_weights_stay_zero_in_training_and_loading(small, batch):
    mirl.prune(small, 0.5)
    train_some(small, batch, 3)
    small.load_state_dict({k: v + 1 for k, v in small.state_dict().items()})
    for name, mask in small.mask.items():
        assert (small.state_dict()[name][~mask] == 0).all()


def test_pruning_between_steps_clears_the_moments(small, batch, tmp_path):
    """In a checkpoint before the next step, too."""
    trainer = mirl.Trainer(small, lr=1e-2)
    trainer.step(*batch)
    mirl.prune(small, 0.5)
    for steps in (0, 1):
        for _ in range(steps):
            trainer.step(*batch)
        trainer.save_checkpoint(tmp_path / "checkpoint.safetensors")
        held = read_safetensors(tmp_path / "checkpoint.safetensors").tensors
        for name, mask in small.mask.items():
            for kept in ("", "exp_avg.", "exp_avg_sq."):
                assert not held[kept + name][~mask].any()
        assert held["exp_avg_sq.output.weight"].any()


def test_pruning_is_quick():
    model = mirl.PromptIR()
    start = time.perf_counter()
    mirl.prune(model, 0.2)
    # Well under a second on two cores; the bound leaves room for a machine that is busy.
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"amount": 0.0}, "amount"),
        ({"amount": 1.0}, "amount"),
        ({"amount": -0.1}, "amount"),
        ({"amount": float("nan")}, "amount"),
        ({"scope": "local"}, "scope"),
        ({"preset": "paper"}, "preset"),
        ({"threshold": "median"}, "threshold"),
        ({"alive": "maybe"}, "alive"),
        ({"output_rate": 0.0}, "output_rate"),
    ],
)
def test_wrong_arguments_are_named(small, arguments, message):
    with pytest.raises(ValueError, match=message):
        mirl.prune(small, **arguments)
    assert small.mask == {}


@pytest.mark.parametrize("name", ["amount", "output_rate", "min_density"])
def test_numbers_that_are_none_are_named(small, name):
    with pytest.raises(TypeError, match=f"{name} must be a number, got '0.2'"):
        mirl.prune(small, **{name: "0.2"})
    assert small.mask == {}


def test_a_criterion_that_is_an_array_is_named(small):
    with pytest.raises(TypeError, match="a name, a function or scores by name, got ndarray"):
        mirl.prune(small, 0.2, criterion=np.ones(3))
    assert small.mask == {}


@pytest.mark.parametrize("name", ["biases", "prompts", "temperatures"])
def test_a_switch_of_rewinding_that_is_none_is_named(small, name):
    with pytest.raises(TypeError, match=f"{name} must be True or False, got 'no'"):
        mirl.rewind(small, small.snapshot(), **{name: "no"})


def test_an_amount_may_be_a_tensor_of_no_dimension(small):
    mirl.prune(small, np.array(0.5))
    assert small.density().prunable == pytest.approx(0.5, abs=1e-3)


def test_nothing_is_left_to_prune(small):
    with pytest.raises(ValueError, match="would leave none"):
        mirl.prune(small, 0.999999999)
    assert small.mask == {}
    assert small.density() == (1.0, 1.0)


def test_a_snapshot_of_another_network_is_refused(small):
    other = mirl.PromptIR(
        dim=8,
        num_blocks=(1, 1, 1, 2),
        num_refinement_blocks=1,
        prompt_dims=(8, 16, 40),
        prompt_sizes=(8, 4, 4),
    )
    before = small.state_dict()
    with pytest.raises(ValueError, match=r"prompt3\.prompt_param has shape"):
        mirl.rewind(small, other.snapshot(), prompts=True)
    partial = {name: values for name, values in before.items() if name != "output.weight"}
    with pytest.raises(ValueError, match=r"holds no output\.weight"):
        mirl.rewind(small, mirl.Snapshot(partial))
    assert_same_state(small.state_dict(), before)


@pytest.mark.parametrize(
    ("emptied", "left"),
    [
        ("output.weight", "the network returns its input"),
        ("patch_embed.proj.weight", "the network adds the same to every image of one size"),
    ],
)
def test_a_collapse_is_told_once(small, batch, emptied, left):
    """Where nothing is left of what all goes through, and of no other layer."""
    weights = [name for name in small.shapes if name.endswith("weight")]
    scores = {name: np.full(small.shapes[name], name != emptied) for name in weights}
    scores = {name: each.astype(np.float32) for name, each in scores.items()}
    share = scores[emptied].size / sum(each.size for each in scores.values())
    with pytest.warns(mirl.errors.CollapseWarning, match=f"left of {emptied}: {left}") as told:
        mirl.prune(small, share, criterion=scores, exclude=())
    assert len(told) == 1
    added = [small(images) - images for images in batch]
    np.testing.assert_allclose(added[0], added[1], rtol=0, atol=1e-6)
    assert added[0].any() == (emptied != "output.weight")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mirl.prune(small, 0.2)
        mirl.prune(mirl.PromptIR(**SMALL), 0.99, min_density=0.01)


def test_masks_can_be_assigned(small):
    mask = np.zeros(small.shapes["output.weight"], bool)
    mask[0] = True
    small.mask = {"output.weight": mask}
    np.testing.assert_array_equal(small.mask["output.weight"], mask)
    assert (small.state_dict()["output.weight"][1:] == 0).all()
    state = small.state_dict()
    right = {"patch_embed.proj.weight": np.zeros(small.shapes["patch_embed.proj.weight"], bool)}
    with pytest.raises(ValueError, match="nothing"):
        small.mask = right | {"nothing": mask}
    with pytest.raises(ValueError, match="mask of shape"):
        small.mask = right | {"output.weight": mask[:1]}
    with pytest.raises(TypeError, match=r"output\.weight: .*float32"):
        small.mask = right | {"output.weight": mask.astype(np.float32)}
    assert small.mask.keys() == {"output.weight"}
    np.testing.assert_array_equal(small.mask["output.weight"], mask)
    assert_same_state(small.state_dict(), state)


@pytest.mark.parametrize("scope", ["global", "layerwise", "uniform", "erk"])
@pytest.mark.parametrize("granularity", ["weights", "channels"])
def test_an_amount_of_all_is_a_density(small, scope, granularity):
    """However it is come to; and nothing goes where there is less already."""
    whole = mirl.PromptIR(seed=1, **SMALL)
    settings = {"granularity": granularity, "exclude": ("dead", "norms")}
    mirl.prune(whole, 0.6, scope, **settings)
    for amount in (0.1, 0.35, 0.6):
        report = mirl.prune(small, amount, scope, of="all", **settings)
    expected = mirl.prune(whole, 0.1, scope, of="all", **settings)
    assert [layer.total for layer in report] == [layer.total for layer in expected]
    if scope == "global":
        assert report.alive == pytest.approx(expected.alive, rel=0.01)
    else:
        assert [layer.alive for layer in report] == [layer.alive for layer in expected]
    with pytest.raises(ValueError, match=r"of must be one of \('alive', 'all'\), got 'both'"):
        mirl.prune(small, 0.1, of="both")
