"""Weights of tasks by their uncertainty."""

import json

import numpy as np
import pytest

import mirl


def test_tasks_count_alike_at_first_and_by_their_sigmas_then():
    uncertainty = mirl.TaskUncertainty(lr=0.5)
    tasks = ["rain", "haze", "rain", "rain"]
    assert uncertainty.weights(tasks) == pytest.approx([4 / 6, 2, 4 / 6, 4 / 6])
    uncertainty.update(tasks, [0.1, 9.0, 0.2, 0.3])
    rain, haze = uncertainty.sigmas["rain"], uncertainty.sigmas["haze"]
    assert rain < 1 < haze
    assert uncertainty.weights(tasks) == pytest.approx(
        [4 / 6 / rain, 2 / haze, 4 / 6 / rain, 4 / 6 / rain]
    )


def test_the_sum_of_weighted_losses_is_the_mean_over_tasks():
    """Σ w_i l_i / N = mean over tasks of L_t / σ_t."""
    uncertainty = mirl.TaskUncertainty()
    tasks, losses = ["a", "b", "b"], [0.4, 0.1, 0.3]
    uncertainty.update(tasks, losses)
    sigmas = uncertainty.sigmas
    weighted = sum(np.multiply(uncertainty.weights(tasks), losses)) / 3
    assert weighted == pytest.approx((0.4 / sigmas["a"] + 0.2 / sigmas["b"]) / 2)


def test_sigma_comes_to_half_the_loss():
    """Where L / σ + 2 ln σ is least, L the mean over the images of a task."""
    uncertainty = mirl.TaskUncertainty(lr=0.02)
    for _ in range(2000):
        uncertainty.update(["hard", "easy", "hard"], [0.2, 0.02, 0.4])
    assert uncertainty.sigmas["easy"] == pytest.approx(0.01, rel=0.02)
    assert uncertainty.sigmas["hard"] == pytest.approx(0.15, rel=0.02)


def test_steps_are_adams():
    """Kingma & Ba 2015, algorithm 1, on ln σ."""
    uncertainty = mirl.TaskUncertainty(lr=0.05)
    s = first = second = 0.0
    for t, loss in enumerate([9.0, 0.5, 3.0, 0.1], start=1):
        uncertainty.update(["a"], [loss])
        gradient = 2 - loss * np.exp(-s)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        s -= 0.05 * first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        assert uncertainty.sigmas["a"] == pytest.approx(np.exp(s), rel=1e-9)


def test_the_state_is_json_and_continues_to_the_bit():
    first, second = mirl.TaskUncertainty(), mirl.TaskUncertainty()
    first.update(["a"], [0.1])
    state = first.state_dict()
    second.load_state_dict(json.loads(json.dumps(state)))
    for uncertainty in (first, second):
        uncertainty.update(["a", "b"], [0.3, 0.2])
    assert first.state_dict() == second.state_dict()
    assert state.keys() == {"a"}  # what was told stays as it was


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="lr must be positive"):
        mirl.TaskUncertainty(lr=0)
    with pytest.raises(ValueError, match="2 tasks, but 1 losses"):
        mirl.TaskUncertainty().update(["a", "b"], [0.1])
    with pytest.raises(ValueError, match="lr must be positive and finite"):
        mirl.TaskUncertainty(lr=float("inf"))
    uncertainty = mirl.TaskUncertainty()
    for state in ([0.0], [0.0, 0.0, 0.0, float("nan")]):
        with pytest.raises(ValueError, match="state of 'b' must be four finite numbers, got"):
            uncertainty.load_state_dict({"a": [0.1, 0.0, 0.0, 1.0], "b": state})
        assert uncertainty.sigmas == {}
    for loss in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"losses must be finite, got \w+ of 'b'"):
            uncertainty.update(["a", "b"], [0.1, loss])
    assert uncertainty.state_dict() == {}


def test_what_was_learned_is_seen():
    uncertainty = mirl.TaskUncertainty(lr=0.5)
    assert repr(uncertainty) == "TaskUncertainty(lr=0.5, sigmas={})"
    uncertainty.update(["a"], [9.0])
    assert repr(uncertainty) == "TaskUncertainty(lr=0.5, sigmas={a: 1.649})"
