"""A GPU does what the processor does: forward, training, pruning, files; and it says what it cannot.

Operators are held against the processor one by one where their cases are (`src/ops/*/tests.rs`),
the published values in `test_models.py` and `test_train.py`. Here: whole rounds, and moving between
devices.
"""

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest

import mirl
from reference import SMALL, random_images
from same import assert_same_state

pytestmark = pytest.mark.cuda


@pytest.fixture
def pair(cuda):
    """Two networks of the same values, on the processor and on the GPU."""
    return mirl.PromptIR(seed=1, **SMALL), mirl.PromptIR(seed=1, device=cuda, **SMALL)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 13, 40), (3, 3, 33, 8)])
def test_restored_images_agree(pair, shape):
    images = random_images(5, shape)
    on_cpu, on_gpu = (model(images) for model in pair)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=0, atol=1e-5)
    for _ in range(3):  # The second call is recorded, later ones are replayed.
        np.testing.assert_array_equal(on_gpu, pair[1](images))
    other = images[:, ::-1].copy()
    np.testing.assert_allclose(pair[1](other), pair[0](other), rtol=0, atol=1e-5)
    mirl.prune(pair[0], 0.5)
    pair[1].mask = pair[0].mask
    np.testing.assert_allclose(pair[1](images), pair[0](images), rtol=0, atol=1e-5)


def test_a_round_agrees(pair, batch):
    """Train, prune, rewind, train: the same weights go, the losses stay together."""
    losses, masks = [], []
    for model in pair:
        start = model.snapshot()
        trainer = mirl.Trainer(model, lr=1e-3)
        taken = [trainer.step(*batch) for _ in range(3)]
        mirl.prune(model, 0.3)
        mirl.rewind(model, start)
        trainer = mirl.Trainer(model, lr=1e-3)
        taken += [trainer.step(*batch) for _ in range(3)]
        losses.append(taken)
        masks.append(model.mask)
        for name, mask in model.mask.items():
            assert not model.state_dict()[name][~mask].any()
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    for name, mask in masks[0].items():
        # Weights about the threshold may differ in their last bits after training.
        assert (mask != masks[1][name]).mean() < 1e-3, name


@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_the_same_weights_are_pruned_to_the_same_mask(pair, scope):
    for preset in ("default", "paper-code"):
        for model in pair:
            mirl.prune(model, 0.2, scope=scope, preset=preset)
        masks = [model.mask for model in pair]
        assert masks[0].keys() == masks[1].keys()
        assert_same_state(masks[0], masks[1])


TRAIN = f"""
import numpy as np, mirl
mirl.set_float32_matmul_precision("highest")
model = mirl.PromptIR(seed=1, device="cuda", **{SMALL!r})
trainer = mirl.Trainer(model, lr=1e-3, clip_grad_norm=0.5)
images = [np.random.default_rng(i).random((2, 3, 16, 24), dtype=np.float32) for i in range(7)]
print([trainer.step(a, b) for a, b in zip(images, images[1:])])
print(trainer.seconds.optimizer > 0)
"""


def test_replayed_steps_are_the_steps_to_the_bit(cuda):
    said = []
    for graphs in ("0", "1"):
        environment = os.environ | {"MIRL_CUDA_GRAPHS": graphs}
        command = [sys.executable, "-c", TRAIN]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said.append(run.stdout.splitlines())
    assert said[0][0] == said[1][0]
    # Only steps that are not replayed know their parts.
    assert [lines[1] for lines in said] == ["True", "False"]


def test_masks_set_between_steps_count(pair, batch):
    """The trainer keeps the bits of masks on the GPU: new ones take their place."""
    masks = []
    for model in pair:
        trainer = mirl.Trainer(model, lr=1e-3)
        for round_ in range(3):
            if model is pair[0]:
                mirl.prune(model, 0.3)
                masks.append(model.mask)
            else:  # of weights that rounding may rank otherwise
                model.mask = masks[round_]
            for _ in range(3):  # The second is recorded, the third replayed.
                trainer.step(*batch)
            model.mask = model.mask  # equal, but not the same
            trainer.step(*batch)
            for name, mask in model.mask.items():
                assert not model.state_dict()[name][~mask].any()
    on_cpu, on_gpu = (model.state_dict() for model in pair)
    for name, values in on_cpu.items():
        np.testing.assert_allclose(on_gpu[name], values, rtol=0, atol=1e-5)


def test_moving_keeps_every_bit(small, cuda):
    mirl.prune(small, 0.3)
    before, mask = small.state_dict(), small.mask
    assert small.to(cuda) is small
    assert small.device == "cuda"
    small.to("cpu")
    assert small.device == "cpu"
    assert_same_state(small.state_dict(), before)
    assert_same_state(small.mask, mask)


@pytest.mark.parametrize(("first", "then"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_checkpoint_goes_on_elsewhere(cuda, batch, tmp_path, first, then):
    model = mirl.PromptIR(seed=1, device=first, **SMALL)
    trainer = mirl.Trainer(model, lr=1e-3)
    trainer.step(*batch)
    trainer.save_checkpoint(tmp_path / "run.safetensors")
    expected = [trainer.step(*batch) for _ in range(2)]
    again = mirl.PromptIR(seed=2, device=then, **SMALL)
    resumed = mirl.Trainer(again, lr=1e-3)
    resumed.load_checkpoint(tmp_path / "run.safetensors")
    np.testing.assert_allclose([resumed.step(*batch) for _ in range(2)], expected, rtol=1e-5)


@pytest.mark.parametrize(("first", "then"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_trainer_does_not_follow_its_network(cuda, batch, first, then):
    model = mirl.PromptIR(seed=1, device=first, **SMALL)
    trainer = mirl.Trainer(model)
    model.to(then)
    before = model.state_dict()
    with pytest.raises(ValueError, match="moved to another device"):
        trainer.step(*batch)
    assert trainer.steps == 0
    assert_same_state(model.state_dict(), before)


def test_photos_are_restored_and_measured(pair):
    photo = (random_images(6, (40, 56, 3)) * 255).astype(np.uint8)
    on_cpu, on_gpu = (mirl.restore(model, photo, tile=32, overlap=8) for model in pair)
    assert np.abs(on_cpu.astype(int) - on_gpu).max() <= 1


def test_bfloat16_restores_nearly_the_same(pair):
    images = random_images(8, (2, 3, 24, 40))
    on_cpu, on_gpu = pair
    on_gpu.precision = "bfloat16"
    expected = on_cpu(images)
    for _ in range(3):
        error = on_gpu(images) - expected
        assert 1e-5 < np.sqrt(np.mean(error**2)) < 2e-2 * expected.std()
    on_gpu.precision = "float32"
    np.testing.assert_allclose(on_gpu(images), expected, rtol=0, atol=1e-5)


def test_bfloat16_on_a_gpu_trains_nearly_the_same(pair, batch):
    """Weights and moments stay float32: small steps are not lost."""
    on_cpu, on_gpu = pair
    trainers = [mirl.Trainer(on_cpu, lr=1e-3), mirl.Trainer(on_gpu, lr=1e-3, precision="bfloat16")]
    losses = np.array([[trainer.step(*batch) for _ in range(8)] for trainer in trainers])
    assert (np.diff(losses) < 0).all()
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-2)
    mirl.prune(on_gpu, 0.3)
    trainers[1].step(*batch)
    for name, mask in on_gpu.mask.items():
        assert not on_gpu.state_dict()[name][~mask].any()


def test_bfloat16_is_recomputed_to_the_bit(cuda, batch):
    results = []
    for recompute in (None, "block"):
        model = mirl.PromptIR(seed=1, device=cuda, **SMALL)
        trainer = mirl.Trainer(model, lr=1e-3, recompute=recompute, precision="bfloat16")
        results.append([trainer.step(*batch) for _ in range(3)])
    assert results[0] == results[1]


def _step_in_child(queue):
    try:
        mirl.PromptIR(device="cuda", **SMALL)
    except mirl.errors.DeviceError as error:
        queue.put(str(error))


def test_a_forked_child_is_told_that_it_has_no_gpu(pair):
    pair[1](random_images(7, (1, 3, 8, 8)))
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    child = fork.Process(target=_step_in_child, args=(queue,))
    child.start()
    assert "forked" in queue.get(timeout=60)
    child.join()


def test_the_command_line_takes_the_device(cuda, tmp_path):
    model = mirl.PromptIR(seed=1, **SMALL)
    model.save(tmp_path / "model.safetensors")
    options = ["--size", "16", "--patch-size", "16", "--repeats", "1", "--device", cuda]
    command = [sys.executable, "-m", "mirl", "bench", str(tmp_path / "model.safetensors")]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert mirl.devices()["cuda"] in run.stdout
