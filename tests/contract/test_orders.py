"""Arrays mean what they hold, however they lie in memory."""

import numpy as np
import pytest

import mirl
from reference import SMALL, random_images
from same import assert_same_state


def by_columns(values):
    return np.asfortranarray(values)


def backwards(values):
    return np.ascontiguousarray(values[::-1])[::-1]


def spread(values):
    """Fields of records whose size is no multiple of theirs, so that they are not aligned either."""
    records = np.zeros(values.shape, np.dtype([("value", values.dtype), ("more", "u1")]))
    records["value"] = values
    return records["value"]


@pytest.fixture(params=[by_columns, backwards, spread])
def lay(request):
    def laid(values):
        other = request.param(values)
        np.testing.assert_array_equal(other, values)
        return other

    return laid


def test_images_to_restore_and_to_train_on(small, lay):
    degraded, clean = random_images(0, (2, 3, 16, 24)), random_images(1, (2, 3, 16, 24))
    np.testing.assert_array_equal(small(lay(degraded)), small(degraded))
    assert_same_state(small.gradients(lay(degraded), lay(clean)), small.gradients(degraded, clean))
    trainer = mirl.Trainer(small, lr=0.0)
    losses = trainer.step(lay(degraded), lay(clean)), trainer.step(degraded, clean)
    assert losses[0] == losses[1]
    assert mirl.psnr(lay(degraded), lay(clean)) == mirl.psnr(degraded, clean)
    assert mirl.ssim(lay(degraded), lay(clean)) == mirl.ssim(degraded, clean)


def test_gradients_of_an_own_loss(lay):
    batch = random_images(0, (1, 3, 16, 24)), random_images(1, (1, 3, 16, 24))

    def trained(lay):
        model = mirl.PromptIR(seed=1, **SMALL)
        loss = lambda restored, clean: (np.ones(1), lay(restored - clean))  # noqa: E731
        mirl.Trainer(model, lr=1e-3, loss=loss).step(*batch)
        return model.state_dict()

    assert_same_state(trained(lay), trained(lambda values: values))


def test_parameters_and_masks(small, lay):
    state = small.state_dict()
    other = mirl.PromptIR.from_state_dict({name: lay(values) for name, values in state.items()})
    assert_same_state(other.state_dict(), state)
    other = mirl.PromptIR(seed=2, **SMALL)
    other.load_state_dict({name: lay(values) for name, values in state.items()})
    assert_same_state(other.state_dict(), state)
    mirl.prune(small, 0.5)
    other.mask = {name: lay(alive) for name, alive in small.mask.items()}
    assert_same_state(other.mask, small.mask)


def test_scores(small, lay):
    other = mirl.PromptIR(seed=1, **SMALL)
    rng = np.random.default_rng(0)
    scores = {name: rng.random(shape, np.float32) for name, shape in small.shapes.items()}
    mirl.prune(small, 0.5, criterion=scores)
    mirl.prune(other, 0.5, criterion={name: lay(values) for name, values in scores.items()})
    assert_same_state(other.mask, small.mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_photos(lay, tmp_path, dtype):
    photo = np.random.default_rng(0).integers(0, 255, (40, 32, 3)).astype(dtype)
    mirl.write_image(tmp_path / "a.png", lay(photo))
    np.testing.assert_array_equal(mirl.read_image(tmp_path / "a.png").pixels, photo)
    mirl.write_image(tmp_path / "b.png", lay(photo[:, :, 0]))
    np.testing.assert_array_equal(mirl.read_image(tmp_path / "b.png").pixels[..., 0], photo[..., 0])
    if dtype == np.uint8:
        degraded = mirl.degrade(lay(photo), "denoise_25", seed=1)
        np.testing.assert_array_equal(degraded, mirl.degrade(photo, "denoise_25", seed=1))
        batches = [
            [degraded.tobytes() + clean.tobytes() for degraded, clean in loader.epoch(0)]
            for loader in (
                mirl.Loader.from_images([each], batch_size=1, patch_size=16)
                for each in (lay(photo), photo)
            )
        ]
        assert batches[0] == batches[1]


def test_any_byte_but_zero_is_true(small):
    """As numpy takes them, and PyTorch, where bytes were made bools without a comparison."""
    name, shape = next((n, s) for n, s in small.shapes.items() if n.endswith("qkv.weight"))
    alive = np.zeros(shape, bool)
    alive.ravel()[::4] = True
    small.mask = {name: (alive.view(np.uint8) * 2).view(bool)}
    np.testing.assert_array_equal(small.mask[name], alive)
