"""Learning rates by the step."""

import numpy as np
import pytest

import mirl
from reference import golden


def test_the_schedule_is_the_published_one(shared):
    expected = golden(shared, "lr_120_warmup15.json")
    rates = [mirl.linear_warmup_cosine(t, 120, warmup=15, lr=2e-4) for t in range(120)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-12)
    with pytest.raises(ValueError, match="warm-up of 5"):
        mirl.linear_warmup_cosine(0, 5, warmup=5)


def test_the_schedule_ends_with_the_least_rate():
    rates = [mirl.linear_warmup_cosine(t, 10, lr=1.0, min_lr=0.2) for t in (0, 5, 10, 11)]
    np.testing.assert_allclose(rates, [1.0, 0.6, 0.2, 0.2], rtol=1e-12)


@pytest.mark.parametrize(
    ("rates", "error"),
    [
        ({"lr": float("nan")}, ValueError),
        ({"lr": float("inf")}, ValueError),
        ({"lr": -1.0}, ValueError),
        ({"lr": 1e-4, "min_lr": 1e-3}, ValueError),
        ({"lr": "1e-4"}, TypeError),
    ],
)
def test_a_schedule_of_no_rates_is_refused(rates, error):
    with pytest.raises(error, match=r"lr must"):
        mirl.linear_warmup_cosine(3, 6, **rates)
