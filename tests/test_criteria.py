"""Criteria: each against its formula, and what a user's own may do."""

from dataclasses import replace

import numpy as np
import pytest

import mirl
from mirl.criteria import CRITERIA, HESSIAN_STEP, criterion_of, scores_of
from mirl.data import Progressive
from mirl.data.batches import first_batches
from reference import SMALL
from same import assert_same_state


@pytest.fixture
def batches(batch):
    degraded, clean = batch
    return [(degraded, clean), (degraded[:, :, ::-1].copy(), clean[:, :, ::-1].copy())]


def scores(model, name, batches=(), seed=0):
    criterion = CRITERIA[name]
    return scores_of(model, criterion, list(model.shapes), list(batches), [seed])


def test_gradient_criteria_are_their_formulas(small, batches):
    weights = small.state_dict()
    gradients = [small.gradients(*batch) for batch in batches]
    found = {name: scores(small, name, batches) for name in ("snip", "taylor")}
    for name in gradients[0]:
        both = [each[name].astype(np.float64) for each in gradients]
        snip = np.abs(weights[name] * np.mean(both, axis=0))
        taylor = np.mean([(weights[name] * gradient) ** 2 for gradient in both], axis=0)
        np.testing.assert_allclose(found["snip"][name], snip, rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(found["taylor"][name], taylor, rtol=1e-4, atol=1e-12)
    assert not found["snip"]["chnl_reduce1.weight"].any()


def test_grasp_is_what_the_error_bends_along_the_gradient(small, batches):
    """With the gradient for weights the scores sum up to gᵀHg, of the error with its signs kept."""
    (degraded, clean), weights = batches[0], small.state_dict()
    gradients, signs = small.gradients(degraded, clean), np.sign(small(degraded) - clean)
    (product,) = CRITERIA["grasp"].signals(small, batches[:1], [0])
    norm, size = (
        np.sqrt(sum(float(np.sum(np.square(v, dtype=np.float64))) for v in d.values()))
        for d in (gradients, weights)
    )
    step = 3e-3 * size / norm
    at = []
    for place in (-1, 0, 1):
        moved = {n: v + np.float32(place * step) * gradients.get(n, 0) for n, v in weights.items()}
        restored = mirl.PromptIR.from_state_dict(moved, {})(degraded)
        at.append(float(np.mean(signs * restored.astype(np.float64))))
    bend = (at[0] - 2 * at[1] + at[2]) / step**2
    found = sum(float(np.sum(gradients[n].astype(np.float64) * product[n])) for n in product)
    assert found == pytest.approx(bend, rel=0.1)


def test_grasp_does_not_depend_on_its_step(small, batches, monkeypatch):
    """Between kinks of the absolute error it would."""
    found = []
    for factor in (1, 10):
        monkeypatch.setattr(mirl.criteria, "HESSIAN_STEP", factor * HESSIAN_STEP)
        each = scores(small, "grasp", batches)
        found.append(np.concatenate([values.ravel() for values in each.values()]))
    assert np.corrcoef(found)[0, 1] > 0.99


def test_without_a_gradient_all_is_worth_nothing_to_grasp(small, batches):
    state = small.state_dict()
    state["output.weight"][:] = 0
    small.load_state_dict(state)
    found = scores(small, "grasp", [(clean, clean) for _, clean in batches])
    assert not any(values.any() for values in found.values())


def test_synflow_prunes_as_often_as_published():
    assert CRITERIA["synflow"].steps == 100


def test_a_hundred_prunings_remove_what_one_would(small):
    """Also of few weights, of which each removes none or one."""
    for include in (["output.weight"], ["weights"]):
        (*layers,) = mirl.prune(small, 0.2, criterion="synflow", include=include)
        total = sum(layer.total for layer in layers)
        assert sum(layer.alive for layer in layers) == total - round(0.2 * total)
        small.mask = {}


def test_synflow_is_conserved_where_a_layer_is_linear(small):
    """What flows out of the network flows through its last convolution: the scores add up to R - x."""
    found = scores(small, "synflow")
    positive = {name: np.abs(values) for name, values in small.state_dict().items()}
    ones = np.ones((1, 3, 64, 64), np.float32)
    out = mirl.PromptIR.from_state_dict(positive, {})(ones)
    through = float(out.astype(np.float64).sum() - ones.sum())
    assert float(found["output.weight"].sum()) == pytest.approx(through, rel=1e-4)
    assert all((values >= 0).all() for values in found.values())


def test_random_follows_from_the_seed_and_the_name(small):
    first, again, other = (scores(small, "random", seed=seed) for seed in (1, 1, 2))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        if first[name].size > 1:
            assert not np.array_equal(first[name], other[name])
    assert not np.array_equal(
        first["encoder_level1.0.norm1.body.weight"], first["encoder_level1.0.norm2.body.weight"]
    )


@pytest.mark.parametrize("name", CRITERIA)
def test_the_smallest_scores_go(batches, name):
    model = mirl.PromptIR(seed=1, **SMALL)
    report = mirl.prune(model, 0.4, criterion=name, data=batches, seed=3)
    assert sum(layer.alive for layer in report) == pytest.approx(
        0.6 * sum(layer.total for layer in report), abs=1
    )
    if CRITERIA[name].steps == 1:
        of = mirl.PromptIR(seed=1, **SMALL)
        found = scores_of(of, CRITERIA[name], list(model.mask), batches, [3])
        kept = np.concatenate([found[n][mask] for n, mask in model.mask.items()])
        gone = np.concatenate([found[n][~mask] for n, mask in model.mask.items()])
        assert gone.max() <= kept.min()


def test_a_criterion_of_your_own(small, batches):
    seen = []

    def large(weights, gradients):
        seen.append(gradients.any())
        return -np.abs(weights)

    before = small.state_dict()
    mirl.prune(small, 0.3, criterion=large, data=batches, include=["encoder_level1.*"])
    assert any(seen)
    name = "encoder_level1.0.attn.qkv.weight"
    kept, gone = (np.abs(before[name][each]) for each in (small.mask[name], ~small.mask[name]))
    assert kept.max() <= gone.min()


def test_scores_can_be_given(small):
    values = {name: np.ones(shape, np.float32) for name, shape in small.shapes.items()}
    values["output.weight"][0] = -1
    count = values["output.weight"][0].size
    total = sum(layer.total for layer in mirl.prune(small, 1e-9))
    mirl.prune(small, count / total, criterion=values)
    assert small.mask.keys() == {"output.weight"}
    np.testing.assert_array_equal(small.mask["output.weight"], values["output.weight"] > 0)


def test_movement_is_summed_over_the_steps(small, batch, device):
    small.to(device)
    trainer = mirl.Trainer(small, lr=1e-3, movement=True)
    expected = {name: np.zeros(shape) for name, shape in small.shapes.items()}
    for _ in range(3):
        weights, gradients = small.state_dict(), small.gradients(*batch)
        for name, gradient in gradients.items():
            expected[name] -= gradient.astype(np.float64) * weights[name]
        trainer.step(*batch)
    for name, values in trainer.movement().items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(values, expected[name], atol=1e-5 * scale + 1e-12)
    scores = {name: each.astype(np.float64) for name, each in trainer.movement().items()}
    mirl.prune(small, 0.5, criterion=scores)
    assert small.density().prunable == pytest.approx(0.5, abs=1e-4)


def test_movement_survives_a_checkpoint(small, batch, tmp_path, device):
    small.to(device)
    trainer = mirl.Trainer(small, movement=True)
    trainer.step(*batch)
    trainer.save_checkpoint(tmp_path / "x.safetensors")
    before = trainer.movement()
    trainer.step(*batch)
    trainer.load_checkpoint(tmp_path / "x.safetensors")
    assert_same_state(trainer.movement(), before)
    mirl.Trainer(small).save_checkpoint(tmp_path / "y.safetensors")
    with pytest.raises(mirl.errors.FormatError, match=r"movement\..* is missing"):
        trainer.load_checkpoint(tmp_path / "y.safetensors")


@pytest.mark.cuda
def test_a_gpu_is_pruned_by_scores_alike(batches, cuda):
    for settings in (
        {"criterion": "taylor", "data": batches},
        {"granularity": "channels"},
        {"granularity": "2:4"},
        {"scope": "erk", "min_density": 0.1},
    ):
        settings.setdefault("criterion", lambda weights, _: np.abs(weights))
        models = [mirl.PromptIR(seed=1, **SMALL, device=device) for device in ("cpu", cuda)]
        for model in models:
            mirl.prune(model, 0.5, **settings)
        agree = [(models[0].mask[n] == mask).mean() for n, mask in models[1].mask.items()]
        assert models[0].mask.keys() == models[1].mask.keys()
        assert np.mean(agree) > (0.99 if "data" in settings else 1 - 1e-9)


def test_a_function_that_uses_gradients_needs_data(small):
    """Zeros would be worth the same everywhere, and what comes first would go."""
    with pytest.raises(ValueError, match=r"patch_embed.*: a score of NaN; .* needs data"):
        mirl.prune(small, 0.5, criterion=lambda weights, gradients: np.abs(weights * gradients))
    assert small.density().all == 1
    mirl.prune(small, 0.5, criterion=lambda weights, _: np.abs(weights))
    assert small.density().prunable == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_what_a_network_restores_in_does_not_matter(batches, criterion):
    models = [mirl.PromptIR(seed=1, **SMALL) for _ in range(2)]
    models[1].precision = "bfloat16"
    for model in models:
        mirl.prune(model, 0.5, criterion=criterion, data=batches)
    assert_same_state(models[1].mask, models[0].mask)


@pytest.mark.parametrize("criterion", ["magnitude", "random", "synflow"])
def test_what_needs_no_data_reads_none(criterion):
    data = iter([(np.zeros((1, 3, 8, 8), np.float32),) * 2])
    mirl.prune(mirl.PromptIR(seed=1, **SMALL), 0.5, criterion=criterion, data=data)
    assert len(list(data)) == 1


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"criterion": "size"}, ValueError, "criterion must be one of"),
        ({"criterion": 3}, TypeError, "criterion must be a name"),
        ({"criterion": "snip"}, ValueError, "needs data"),
        ({"criterion": "snip", "data": []}, ValueError, "data has no batch"),
        ({"criterion": "random", "batches": 0}, ValueError, "batches"),
        ({"criterion": "random", "batches": 1.5}, TypeError, "batches must be a whole number"),
        ({"criterion": "random", "seed": -1}, ValueError, "seed must be at least 0"),
        ({"criterion": {}}, ValueError, "no scores"),
        ({"criterion": lambda w, g: w.ravel()}, ValueError, "scores of shape"),
        ({"criterion": lambda w, g: w * np.nan}, ValueError, "a score of NaN"),
        ({"criterion": "synflow", "amount": 1.5}, ValueError, "amount"),
        ({"granularity": "rows"}, ValueError, "granularity must be"),
        ({"granularity": "4:4"}, ValueError, "pattern"),
        ({"granularity": "0:4"}, ValueError, "pattern"),
        ({"granularity": "2:1021"}, ValueError, "no parameter to prune"),
        (
            {"include": ["encoder_level9.*"]},
            ValueError,
            r"no parameter matches 'encoder_level9\.\*'",
        ),
        ({"exclude": ["output"]}, ValueError, "no parameter matches 'output'"),
        ({"include": "weights"}, TypeError, "sequences of names"),
        ({"exclude": ["*"]}, ValueError, "leave no parameter"),
        ({"min_density": 1.0}, ValueError, "min_density"),
        ({"min_density": float("nan")}, ValueError, "min_density"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(small, settings, error, message):
    before = small.state_dict()
    with pytest.raises(error, match=message):
        mirl.prune(small, **({"amount": 0.3} | settings))
    assert small.mask == {}
    assert_same_state(small.state_dict(), before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_between_two_prunings_undoes_the_first(small, monkeypatch, error):
    calls = iter(range(100))

    def later(weights, _):
        if next(calls) > 40:
            raise error("enough")
        return np.abs(weights)

    before = small.state_dict()
    monkeypatch.setitem(CRITERIA, "later", replace(criterion_of(later), steps=50))
    with pytest.raises(error, match="enough"):
        mirl.prune(small, 0.5, criterion="later", include=["output.weight"])
    assert small.mask == {}
    np.testing.assert_array_equal(small.state_dict()["output.weight"], before["output.weight"])


def test_only_the_first_batches_are_asked_for(batch):
    asked = []

    def batches():
        for index in range(10):
            asked.append(index)
            yield batch

    assert len(first_batches(batches(), 3)) == 3
    assert asked == [0, 1, 2]


def test_the_first_batches_of_a_loader_are_always_the_same(small):
    photos = [np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8) for i in range(4)]
    loader = mirl.Loader.from_images(photos, tasks=("denoise",), batch_size=2, patch_size=16)
    first, again, grown = (
        first_batches(data, 3) for data in (loader, loader, Progressive([(1, loader)]))
    )
    for batches in zip(first, again, grown, loader, strict=False):
        for degraded, _ in batches:
            np.testing.assert_array_equal(degraded, batches[0][0])
    with pytest.raises(ValueError, match="got a tuple of 3"):
        mirl.prune(small, criterion="snip", data=[(first[0][0],) * 3])


@pytest.mark.parametrize("name", ["grasp", "synflow"])
def test_sizes_are_not_guessed(small, batches, name, monkeypatch):
    expected = scores(small, name, batches)
    monkeypatch.setattr(mirl.PromptIR, "from_state_dict", None)
    assert_same_state(scores(small, name, batches), expected)


def test_seeds_may_be_numpys():
    models = [mirl.PromptIR(seed=1, **SMALL) for _ in range(2)]
    for model, seed in zip(models, (3, np.int64(3)), strict=True):
        mirl.prune(model, 0.4, criterion="random", seed=seed)
    assert_same_state(models[1].mask, models[0].mask)


@pytest.mark.parametrize("preset", ["default", "paper-code"])
@pytest.mark.parametrize("scope", ["global", "layerwise", "uniform", "erk"])
@pytest.mark.parametrize("amount", [0.2, 0.8])
def test_the_steps_of_synflow_leave_what_one_would(small, scope, amount, preset):
    other = mirl.PromptIR(seed=1, **SMALL)
    settings = {"scope": scope, "preset": preset}
    found = mirl.prune(small, amount, criterion="synflow", **settings)
    expected = mirl.prune(other, amount, threshold="exact", alive="mask", **settings)
    assert found.alive == expected.alive
    if scope != "global":
        assert [layer.alive for layer in found] == [layer.alive for layer in expected]
