"""Training steps against the published code, and what a checkpoint keeps."""

import copy
import json
import time

import numpy as np
import pytest

import mirl
from mirl.safetensors import read_safetensors
from reference import SMALL, golden, golden_state, random_images, statistics
from safetensors_files import write_safetensors
from same import assert_same_state


def test_losses_and_parameters_follow_pytorch(shared, device):
    reference = golden(shared, "train_prune_shallow.json")
    model = mirl.PromptIR(num_blocks=(1, 1, 1, 1), num_refinement_blocks=1, device=device)
    model.load_state_dict(golden_state(model.shapes))
    trainer = mirl.Trainer(model, lr=reference["lr"])
    shape = (2, 3, 64, 64)
    losses = [
        trainer.step(random_images(1000 + 2 * i, shape), random_images(1001 + 2 * i, shape))
        for i in range(5)
    ]
    np.testing.assert_allclose(losses, reference["loss"], rtol=1e-3)
    state = model.state_dict()
    for name, expected in reference["after_steps"].items():
        # A step moves a parameter by about lr whatever its gradient, so that a gradient within
        # float32's rounding of zero may move it either way: 1 % of the five steps' way.
        allowed = 1e-6 * np.abs(expected) + 0.01 * 5 * reference["lr"]
        allowed[2] *= state[name].size
        assert (np.abs(statistics(state[name]) - expected) <= allowed).all(), name


def test_gradients_equal_pytorchs(shared, device):
    reference = golden(shared, "train_prune_shallow.json")
    model = mirl.PromptIR(num_blocks=(1, 1, 1, 1), num_refinement_blocks=1, device=device)
    model.load_state_dict(golden_state(model.shapes))
    shape = (2, 3, 64, 64)
    gradients = model.gradients(random_images(1000, shape), random_images(1001, shape))
    assert gradients.keys() == {name for name, values in reference["grad"].items() if values}
    for name, values in gradients.items():
        expected = np.array(reference["grad"][name])
        scale = np.abs(values).mean()
        got = statistics(values)[: len(expected)]
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3 * scale, err_msg=name)


def test_training_lowers_the_loss(small, batch):
    trainer = mirl.Trainer(small, lr=2e-3)
    losses = [trainer.step(*batch) for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert trainer.steps == 30


def test_adamw_is_the_algorithm(small, batch, device):
    """Two steps against the algorithm in float64, on the gradients of the network itself."""
    lr, betas, eps, decay = 1e-3, (0.8, 0.95), 1e-6, 0.1
    small.to(device)
    trainer = mirl.Trainer(small, lr=lr, betas=betas, eps=eps, weight_decay=decay)
    moments = dict.fromkeys(small.shapes, (0.0, 0.0))
    for step in (1, 2):
        before = {k: v.astype(np.float64) for k, v in small.state_dict().items()}
        gradients = small.gradients(*batch)
        trainer.step(*batch)
        for name, after in small.state_dict().items():
            if name not in gradients:
                np.testing.assert_array_equal(after, before[name])
                continue
            g = gradients[name].astype(np.float64)
            m = betas[0] * moments[name][0] + (1 - betas[0]) * g
            v = betas[1] * moments[name][1] + (1 - betas[1]) * g * g
            moments[name] = (m, v)
            direction = m / (1 - betas[0] ** step) / (np.sqrt(v / (1 - betas[1] ** step)) + eps)
            expected = before[name] * (1 - lr * decay) - lr * direction
            np.testing.assert_allclose(after, expected, rtol=1e-5, atol=2e-7, err_msg=name)


@pytest.mark.parametrize("amount", [0, 0.5])
def test_clipping_scales_the_gradient(batch, device, amount):
    """With a betas-free AdamW and a large eps, a step is the gradient itself, up to a factor."""
    steps = []
    for clip in (None, 1e-3, 1e3):
        model = mirl.PromptIR(seed=1, device=device, **SMALL)
        if amount:
            mirl.prune(model, amount)
        before = model.state_dict()
        options = {"betas": (0.0, 0.0), "eps": 1e6, "weight_decay": 0.0}
        mirl.Trainer(model, lr=1e6, clip_grad_norm=clip, **options).step(*batch)
        after = model.state_dict()
        steps.append(np.concatenate([(before[k] - after[k]).ravel() for k in after]).astype(float))
    norms = [np.linalg.norm(step) for step in steps]
    assert norms[0] > 1e-2
    assert norms[1] == pytest.approx(1e-3, rel=0.01)  # of the living alone
    assert norms[2] == norms[0]


def test_recomputing_gives_the_same_bits(batch, device):
    results = []
    for recompute in (None, "block"):
        model = mirl.PromptIR(seed=1, device=device, **SMALL)
        trainer = mirl.Trainer(model, lr=1e-3, recompute=recompute)
        results.append(([trainer.step(*batch) for _ in range(3)], model(batch[0]).tobytes()))
    assert results[0] == results[1]


def errors(model, batch):
    return (model(batch[0]) - batch[1]).astype(np.float64)


def spectrum_error(error):
    spectra = np.fft.fft2(error)
    return (np.abs(spectra.real).mean((1, 2, 3)) + np.abs(spectra.imag).mean((1, 2, 3))) / 2


LOSSES = {
    "l1": lambda model, batch: np.abs(errors(model, batch)).mean((1, 2, 3)),
    "l2": lambda model, batch: np.square(errors(model, batch)).mean((1, 2, 3)),
    "charbonnier": lambda model, batch: np.sqrt(errors(model, batch) ** 2 + 1e-6).mean((1, 2, 3)),
    "ssim": lambda model, batch: np.array(
        [1 - mirl.ssim(x, y) for x, y in zip(model(batch[0]), batch[1], strict=True)]
    ),
    "fft-l1": lambda model, batch: spectrum_error(errors(model, batch)),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_their_formulas(small, batch, device, loss):
    small.to(device)
    expected = LOSSES[loss](small, batch)
    trainer = mirl.Trainer(small, lr=0.0, loss=loss)
    assert trainer.step(*batch) == pytest.approx(expected.mean(), rel=1e-5)
    np.testing.assert_allclose(trainer.losses, expected, rtol=1e-5)


def test_losses_are_summed_by_their_weights(small, batch, device):
    small.to(device)
    weights = {"l1": 0.5, "fft-l1": 0.1, "ssim": 2.0}
    expected = sum(weight * LOSSES[name](small, batch).mean() for name, weight in weights.items())
    assert mirl.Trainer(small, loss=weights).step(*batch) == pytest.approx(expected, rel=1e-5)


@pytest.mark.cuda
def test_a_gpu_trains_alike(batch, cuda):
    """By several losses, in parts, by weights that change, with all that is kept beside the weights."""
    loss = {"l1": 1.0, "fft-l1": 0.05, "ssim": 0.5}
    settings = {"lr": 1e-3, "loss": loss, "micro_batch": 1, "ema_decay": 0.5, "movement": True}
    losses, averages, movements = [], [], []
    for device in ("cpu", cuda):
        model = mirl.PromptIR(seed=1, device=device, **SMALL)
        mirl.prune(model, 0.3)
        trainer = mirl.Trainer(model, **settings)
        all_weights = (None, None, [0.5, 1.5], [0.5, 1.5], [1.0, 0.25])
        losses += [[trainer.step(*batch, weights), *trainer.losses] for weights in all_weights]
        averages.append(trainer.average())
        movements.append(trainer.movement())
    np.testing.assert_allclose(losses[5:], losses[:5], rtol=1e-4)
    for name, values in averages[0].items():
        np.testing.assert_allclose(averages[1][name], values, rtol=0, atol=2e-4)
    on_cpu, on_gpu = (np.concatenate([v.ravel() for v in m.values()]) for m in movements)
    assert np.abs(on_gpu - on_cpu).max() < 1e-2 * np.abs(on_cpu).max()


def after_a_step(device, batch, weights=None, **settings):
    """What one step changes: with a betas-free AdamW and a large eps, the gradient up to a factor."""
    model = mirl.PromptIR(seed=1, device=device, **SMALL)
    before = model.state_dict()
    plain = {"betas": (0.0, 0.0), "eps": 1e3, "weight_decay": 0.0}
    mirl.Trainer(model, lr=1e3, **plain, **settings).step(*batch, weights)
    after = model.state_dict()
    return np.concatenate([(before[k] - after[k]).ravel() for k in after])


def test_parts_of_a_batch_have_its_gradient(batch, device):
    three = [np.concatenate([images, images[:1, :, ::-1]]) for images in batch]
    whole = after_a_step(device, three)
    for size in (1, 2, 3, 8):
        part = after_a_step(device, three, micro_batch=size)
        np.testing.assert_allclose(part, whole, rtol=0, atol=1e-5 * np.abs(whole).max())
    np.testing.assert_array_equal(after_a_step(device, three, micro_batch=3), whole)


def test_images_count_by_their_weights(batch, device):
    one = after_a_step(device, [images[:1] for images in batch])
    atol = 1e-5 * np.abs(one).max()
    first = after_a_step(device, batch, [2.0, 0.0])
    np.testing.assert_allclose(first, one, rtol=0, atol=atol)
    alone = after_a_step(device, batch, [2.0, 0.0], micro_batch=1)
    np.testing.assert_allclose(alone, one, rtol=0, atol=atol)
    np.testing.assert_array_equal(
        after_a_step(device, batch, [1.0, 1.0]), after_a_step(device, batch)
    )


def test_the_average_follows_the_weights(small, batch, device):
    small.to(device)
    mirl.prune(small, 0.5)
    average = {name: values.astype(np.float64) for name, values in small.state_dict().items()}
    trainer = mirl.Trainer(small, lr=1e-2, ema_decay=0.3)
    for t in range(1, 5):
        trainer.step(*batch)
        decay = min(0.3, (1 + t) / (10 + t))
        for name, values in small.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * values
    for name, values in trainer.average().items():
        np.testing.assert_allclose(values, average[name], rtol=1e-5, atol=1e-7)
        assert not values[~small.mask.get(name, np.ones(values.shape, bool))].any()


def test_the_average_is_zero_where_weights_have_gone(small, batch, tmp_path):
    trainer = mirl.Trainer(small, lr=1e-2, ema_decay=0.9)
    trainer.step(*batch)
    mirl.prune(small, 0.5)
    trainer.save_checkpoint(tmp_path / "at")
    resumed = mirl.Trainer(small, lr=1e-2, ema_decay=0.9)
    resumed.load_checkpoint(tmp_path / "at")
    for average in (trainer.average(), resumed.average()):
        assert not any(average[name][~alive].any() for name, alive in small.mask.items())
        assert any(average[name][alive].any() for name, alive in small.mask.items())


def test_the_average_survives_a_checkpoint(small, batch, tmp_path, device):
    small.to(device)
    trainer = mirl.Trainer(small, lr=1e-2, ema_decay=0.9)
    trainer.step(*batch)
    trainer.save_checkpoint(tmp_path / "at")
    trainer.step(*batch)
    again = mirl.PromptIR(seed=4, device=device, **SMALL)
    resumed = mirl.Trainer(again, lr=1e-2, ema_decay=0.9)
    resumed.load_checkpoint(tmp_path / "at")
    resumed.step(*batch)
    assert_same_state(resumed.average(), trainer.average())
    mirl.Trainer(small, lr=1e-2).save_checkpoint(tmp_path / "plain")
    with pytest.raises(mirl.errors.FormatError, match="plain"):
        resumed.load_checkpoint(tmp_path / "plain")


def test_what_a_trainer_does_not_keep_is_said(small):
    with pytest.raises(ValueError, match="ema_decay"):
        mirl.Trainer(small).average()
    with pytest.raises(ValueError, match="movement=True"):
        mirl.Trainer(small).movement()


def test_the_parts_of_a_step_are_timed(small, batch, device):
    small.to(device)
    trainer = mirl.Trainer(small)
    assert trainer.seconds == (0.0, 0.0, 0.0)
    start = time.perf_counter()
    trainer.step(*batch)
    assert all(seconds > 0 for seconds in trainer.seconds)
    assert sum(trainer.seconds) < time.perf_counter() - start


def test_divergence_names_the_step_and_changes_nothing(small, batch, device):
    small.to(device)
    trainer = mirl.Trainer(small, lr=1e-3)
    trainer.step(*batch)
    state = small.state_dict()
    huge = {k: np.full_like(v, 3e38) if k == "output.weight" else v for k, v in state.items()}
    small.load_state_dict(huge)
    with pytest.raises(mirl.errors.DivergenceError, match="step 1"):
        trainer.step(*batch)
    assert trainer.steps == 1
    assert_same_state(small.state_dict(), huge)
    small.load_state_dict(state)
    trainer.step(*batch)


def test_checkpoints_continue_to_the_bit(tmp_path, batch, device):
    path = tmp_path / "checkpoint.safetensors"
    model = mirl.PromptIR(seed=1, device=device, **SMALL)
    mirl.prune(model, 0.3)
    trainer = mirl.Trainer(model, lr=1e-3)
    for _ in range(2):
        trainer.step(*batch)
    trainer.save_checkpoint(path, "step 2")
    expected = [trainer.step(*batch) for _ in range(3)], model(batch[0]).tobytes()

    again = mirl.PromptIR(seed=9, device=device, **SMALL)
    resumed = mirl.Trainer(again, lr=1e-3)
    assert resumed.load_checkpoint(path) == "step 2"
    assert resumed.steps == 2
    got = [resumed.step(*batch) for _ in range(3)], again(batch[0]).tobytes()
    assert got == expected
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("exp_avg.output.weight", np.nan, "holds NaN"),
        ("exp_avg_sq.output.weight", -1.0, "holds -1"),
        ("average.output.weight", np.inf, "holds inf"),
        ("optimizer_steps", str(2**64 - 1), "are too many"),
    ],
)
def test_a_state_that_no_step_leads_to_is_refused(small, batch, tmp_path, name, value, message):
    """Weights would be NaN after the next step, whose loss is fine."""
    path = tmp_path / "checkpoint.safetensors"
    trainer = mirl.Trainer(small, ema_decay=0.9)
    trainer.step(*batch)
    trainer.save_checkpoint(path)
    held = read_safetensors(path)
    tensors = {key: values.copy() for key, values in held.tensors.items()}
    about = json.loads(held.metadata["mirl"])
    for checksum in ("crc32", "header_crc32"):
        del about[checksum]
    if name in about:
        about[name] = value
    else:
        tensors[name].ravel()[0] = value
    write_safetensors(path, tensors, {"mirl": json.dumps(about)})
    before = small.state_dict()
    with pytest.raises(mirl.errors.FormatError, match=rf"checkpoint\.safetensors.*{message}"):
        trainer.load_checkpoint(path)
    assert_same_state(small.state_dict(), before)


def test_wrong_checkpoints_change_nothing(small, tmp_path, batch):
    path = tmp_path / "checkpoint.safetensors"
    trainer = mirl.Trainer(small)
    trainer.step(*batch)
    trainer.save_checkpoint(path)
    whole = path.read_bytes()
    trainer.step(*batch)
    trainer.save_checkpoint(tmp_path / "now")
    now = (tmp_path / "now").read_bytes()
    for length in (0, 8, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(mirl.errors.FormatError, match=r"checkpoint\.safetensors"):
            trainer.load_checkpoint(path)
    small.save(path)
    with pytest.raises(mirl.errors.FormatError, match="no checkpoint"):
        trainer.load_checkpoint(path)
    path.write_bytes(whole)
    other = mirl.PromptIR(**(SMALL | {"dim": 16}))
    with pytest.raises(mirl.errors.FormatError, match="other sizes"):
        mirl.Trainer(other).load_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="nothing"):
        trainer.load_checkpoint(tmp_path / "nothing")
    averaging = mirl.Trainer(small, ema_decay=0.9)
    with pytest.raises(mirl.errors.FormatError, match=r"average\..* is missing"):
        averaging.load_checkpoint(path)
    trainer.save_checkpoint(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == now


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": float("nan")}, "lr must be finite, got nan"),
        ({"lr": -1}, r"lr must be at least 0, got -1\.0"),
        ({"betas": (1.0, 0.9)}, "betas"),
        ({"eps": 1e-46}, "eps must be positive"),
        ({"weight_decay": 1e39}, "weight_decay must be at least 0"),
        ({"eps": -1.0}, "eps"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"clip_grad_norm": 0.0}, "clip_grad_norm"),
        ({"recompute": "layer"}, "recompute"),
        ({"loss": "lpips"}, "loss must be"),
        ({"loss": {}}, "loss must name"),
        ({"loss": {"l1": 0.0}}, "weights of losses"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"micro_batch": -1}, "micro_batch must be at least 1, got -1"),
        ({"ema_decay": 0.0}, "ema_decay"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"precision": "float16"}, "precision"),
        ({"precision": None}, "precision must be one of .*, got None"),
    ],
)
def test_wrong_settings_are_named(small, settings, message):
    with pytest.raises(ValueError, match=message):
        mirl.Trainer(small, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": "2e-4"}, "lr must be a number, got '2e-4'"),
        ({"lr": True}, "lr must be a number, got True"),
        ({"betas": (0.9,)}, r"betas must be two numbers, got \(0.9,\)"),
        ({"betas": ["0.9", 0.99]}, "betas must be two numbers"),
        ({"eps": "1e-8"}, "eps must be a number, got '1e-8'"),
        ({"weight_decay": None}, "weight_decay must be a number, got None"),
        ({"clip_grad_norm": "1"}, "clip_grad_norm must be a number, got '1'"),
        ({"ema_decay": "0.9"}, "ema_decay must be a number, got '0.9'"),
        ({"loss": {"l1": "1"}}, "weight of the loss 'l1' must be a number, got '1'"),
        ({"movement": 1}, "movement must be True or False, got 1"),
    ],
)
def test_settings_of_other_types_are_named(small, settings, message):
    with pytest.raises(TypeError, match=message):
        mirl.Trainer(small, **settings)


@pytest.mark.parametrize("weights", [1.0, ["a", "b"], [[1.0], [2.0]]])
def test_weights_of_images_that_are_no_numbers_are_named(small, batch, weights):
    with pytest.raises(TypeError, match="weights must be a number for each image, got"):
        mirl.Trainer(small).step(*batch, weights)


def test_lists_and_numbers_of_numpy_will_do(small, batch):
    numbers = {
        "betas": [np.float64(0.8), 0.95],
        "eps": np.float64(1e-6),
        "loss": {"l1": np.array(1)},
    }
    trainers = [
        mirl.Trainer(small, np.array(1e-3), **numbers, movement=np.False_),
        mirl.Trainer(copy.deepcopy(small), 1e-3, betas=(0.8, 0.95), eps=1e-6),
    ]
    for trainer in trainers:
        trainer.step(*batch, np.array([1, 2]))
        trainer.lr = np.array(1e-2)
        trainer.step(*batch)
    assert_same_state(small.state_dict(), trainers[1].model.state_dict())
    assert trainers[0].lr == 1e-2


def test_a_rate_that_does_not_fit_leaves_the_one_before(small):
    trainer = mirl.Trainer(small, lr=1e-3)
    for rate, kind in (("1e-3", TypeError), (-1.0, ValueError), (float("inf"), ValueError)):
        with pytest.raises(kind, match="lr must be"):
            trainer.lr = rate
    assert trainer.lr == 1e-3


def test_bfloat16_trains_nearly_the_same(small, batch):
    """Weights and moments stay float32: small steps are not lost."""
    rounded = copy.deepcopy(small)
    trainers = [
        mirl.Trainer(small, 1e-3),
        mirl.Trainer(rounded, 1e-3, precision="bfloat16"),
        mirl.Trainer(copy.deepcopy(small), 1e-3, precision="bfloat16", recompute="block"),
    ]
    losses = np.array([[trainer.step(*batch) for _ in range(8)] for trainer in trainers])
    assert (np.diff(losses) < 0).all()
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)
    assert (losses[1] != losses[0]).any()
    np.testing.assert_array_equal(losses[2], losses[1])
    mirl.prune(rounded, 0.3)
    trainers[1].step(*batch)
    for name, mask in rounded.mask.items():
        assert not rounded.state_dict()[name][~mask].any()


def test_wrong_batches_are_named(small, batch):
    trainer = mirl.Trainer(small)
    degraded, clean = batch
    with pytest.raises(ValueError, match="differ in shape"):
        trainer.step(degraded, clean[:1])
    with pytest.raises(TypeError, match=r"clean: .*float64"):
        trainer.step(degraded, clean.astype(np.float64))
    with pytest.raises(ValueError, match=r"clean: expected values in \[0, 1\], .* take \(x \+ 1\)"):
        trainer.step(degraded, 2 * clean - 1)  # as Normalize(0.5, 0.5) has them
    with pytest.raises(ValueError, match="degraded holds NaN"):
        trainer.step(np.full_like(degraded, np.nan), clean)
    for weights in ([1.0], [1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="weights"):
            trainer.step(degraded, clean, weights)
    trainer.lr = 1e39  # more than float32 has
    with pytest.raises(ValueError, match=r"lr must be at least 0 and .*float32"):
        trainer.step(degraded, clean)


def test_weights_that_are_not_finite_replace_no_checkpoint(small, batch, tmp_path, device):
    small.to(device)
    trainer = mirl.Trainer(small, lr=1e38)
    trainer.save_checkpoint(tmp_path / "x.safetensors")
    before = (tmp_path / "x.safetensors").read_bytes()
    trainer.step(*batch)
    with pytest.raises(mirl.errors.DivergenceError, match=r"holds .* after 1 steps"):
        trainer.save_checkpoint(tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == before
