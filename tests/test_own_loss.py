"""Losses of the user's own."""

import json

import numpy as np
import pytest

import mirl
from reference import SMALL
from same import assert_same_state


def squared(restored, clean):
    """The mean squared error, as ``loss="l2"`` has it."""
    error = restored - clean
    return np.square(error).mean((1, 2, 3)), 2 * error / error[0].size


def trained(batch, device, loss, weights=None, **settings):
    """Losses, restored images, and scores and averages where they are kept, after three steps."""
    images = [np.concatenate([part, part[:1, :, ::-1]]) for part in batch]
    model = mirl.PromptIR(seed=1, device=device, **SMALL)
    mirl.prune(model, 0.5)
    trainer = mirl.Trainer(model, lr=1e-3, loss=loss, ema_decay=0.9, movement=True, **settings)
    losses = [trainer.step(*images, weights) for _ in range(3)]
    assert len(trainer.losses) == 3
    kept = {"average": trainer.average(), "movement": trainer.movement()}
    return losses + trainer.losses, model(images[0]), kept


@pytest.mark.parametrize("settings", [{}, {"micro_batch": 2}, {"recompute": "block"}])
@pytest.mark.parametrize("weights", [None, [2.0, 0.0, 1.0]])
def test_a_loss_of_ones_own_trains_like_the_packages(batch, device, settings, weights):
    losses, restored, kept = trained(batch, device, "l2", weights, **settings)
    own_losses, own_restored, own_kept = trained(batch, device, squared, weights, **settings)
    np.testing.assert_allclose(own_losses, losses, rtol=1e-5)
    np.testing.assert_allclose(own_restored, restored, atol=1e-4)
    for what, states in kept.items():
        for name, values in states.items():
            scale = np.abs(values).max()
            np.testing.assert_allclose(
                own_kept[what][name], values, atol=1e-3 * scale, err_msg=f"{what} of {name}"
            )


def test_it_sees_the_images_of_its_part(batch):
    seen = []

    def loss(restored, clean):
        seen.append((restored.copy(), clean))
        return squared(restored, clean)

    model = mirl.PromptIR(seed=1, **SMALL)
    trainer = mirl.Trainer(model, lr=0.0, loss=loss, micro_batch=1)
    trainer.step(*batch)
    assert trainer.seconds.forward > 0 < trainer.seconds.backward
    assert [restored.shape for restored, _ in seen] == [(1, 3, 16, 24)] * 2
    expected = model(batch[0])
    for image, (restored, clean) in enumerate(seen):
        np.testing.assert_allclose(restored[0], expected[image], atol=1e-5)
        np.testing.assert_array_equal(clean[0], batch[1][image])


def test_it_may_use_the_network_and_float64(batch, device):
    model = mirl.PromptIR(seed=1, device=device, **SMALL)

    def loss(restored, clean):
        assert mirl.psnr(np.clip(model(batch[0])[0], 0, 1), clean[0]) > 0
        losses, gradient = squared(restored.astype(np.float64), clean)
        return list(losses), gradient

    mine = mirl.Trainer(model, lr=1e-3, loss=loss).step(*batch)
    theirs = mirl.Trainer(mirl.PromptIR(seed=1, **SMALL), loss="l2").step(*batch)
    assert mine == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        (lambda x: np.zeros(2), TypeError, r"must return \(losses, gradient\), got ndarray"),
        (lambda x: (0.5, x), ValueError, "one loss for each of 2 images"),
        (lambda x: (np.zeros((2, 1)), x), ValueError, r"one loss for each .*, got shape \(2, 1\)"),
        (lambda x: (np.zeros(2), x[0]), ValueError, r"gradient of the shape \(2, 3, 16, 24\)"),
        (
            lambda x: (np.zeros(2), x.transpose(0, 1, 3, 2)),
            ValueError,
            r"gradient of the shape \(2, 3, 16, 24\) .*, got \(2, 3, 24, 16\)",
        ),
        (lambda x: (np.zeros(2), x > 0), TypeError, "gradient: expected floating-point"),
        (lambda x: ([None, None], x), TypeError, "losses: expected floating-point"),
        (lambda x: ([1.0, np.inf], x), mirl.errors.DivergenceError, "loss of step 1 is inf"),
        (
            lambda x: ([1.0, 1.0], x * np.nan),
            mirl.errors.DivergenceError,
            "gradient's norm of step 1",
        ),
        (lambda x: 1 / 0, ZeroDivisionError, "division"),
    ],
)
def test_what_it_must_return_is_said_and_nothing_changes(batch, device, found, error, message):
    returned = squared
    model = mirl.PromptIR(seed=1, device=device, **SMALL)
    trainer = mirl.Trainer(model, lr=1e-3, loss=lambda x, clean: returned(x, clean))
    trainer.step(*batch)
    before = model.state_dict()
    returned = lambda x, clean: found(x)  # noqa: E731
    with pytest.raises(error, match=message):
        trainer.step(*batch)
    assert trainer.steps == 1
    assert_same_state(model.state_dict(), before)
    returned = squared
    trainer.step(*batch)
    assert trainer.steps == 2


def test_a_gradient_that_no_weight_sees_must_be_finite_too(small, batch):
    small.mask = {"output.weight": np.zeros(small.shapes["output.weight"], bool)}
    before = small.state_dict()
    trainer = mirl.Trainer(small, loss=lambda x, _: ([0.0] * len(x), np.full_like(x, np.nan)))
    with pytest.raises(mirl.errors.DivergenceError, match="step 0 is NaN"):
        trainer.step(*batch)
    assert_same_state(small.state_dict(), before)


def test_wrong_batches_are_named_before_it_is_asked(small, batch):
    def never(restored, clean):
        raise AssertionError

    trainer = mirl.Trainer(small, loss=never)
    degraded, clean = batch
    with pytest.raises(ValueError, match="differ in shape"):
        trainer.step(degraded, clean[:1])
    with pytest.raises(ValueError, match="clean holds NaN"):
        trainer.step(degraded, np.full_like(clean, np.nan))
    with pytest.raises(ValueError, match="degraded holds NaN"):
        trainer.step(np.full_like(degraded, np.nan), clean)
    with pytest.raises(ValueError, match="1 weights for 2 images"):
        trainer.step(degraded, clean, [1.0])
    trainer.lr = 1e39
    with pytest.raises(ValueError, match=r"lr must be at least 0 and .*float32"):
        trainer.step(degraded, clean)
    with pytest.raises(TypeError, match="loss must be a name, weights by name, or a function"):
        mirl.Trainer(small, loss=3)


def test_rounds_are_trained_by_it(small, batch, tmp_path):
    result = mirl.find_ticket(
        small, [batch] * 3, rounds=1, lr=1e-3, loss=squared, out=tmp_path / "run"
    )
    other = mirl.find_ticket(
        mirl.PromptIR(seed=1, **SMALL), [batch] * 3, rounds=1, lr=1e-3, loss="l2"
    )
    for mine, theirs in zip(result.rounds, other.rounds, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]
    assert recipe["loss"].endswith("test_own_loss.squared")
