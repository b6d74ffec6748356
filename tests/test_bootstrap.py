import math

import numpy as np
import pytest
import scipy.stats

from codec.eval.bootstrap import NUM_RESAMPLES, mean_interval, percentile_bounds, resamples


def test_resamples_are_draws_with_replacement():
    weights = resamples(7)
    assert weights.shape == (NUM_RESAMPLES, 7)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    counts = weights * 7
    np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
    assert abs(counts.mean() - 1) < 1e-9 and abs(counts.var() - 6 / 7) < 0.03  # of a multinomial


def test_interval_of_many_values_is_that_of_the_normal_law():
    scores = np.random.default_rng(1).normal(3.0, 0.5, 400)
    value, low, high = mean_interval(scores)
    half = 1.96 * scores.std() / 20
    assert value == pytest.approx(scores.mean())
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.1 * half)


def test_interval_agrees_with_scipy():
    scores = np.random.default_rng(2).exponential(size=30)
    theirs = scipy.stats.bootstrap(
        (scores,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(3)
    ).confidence_interval
    _, low, high = mean_interval(scores)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=0.03)


def test_two_values_have_a_known_interval():
    """A quarter of the resamples are (0, 0), a quarter (1, 1)."""
    assert mean_interval([0.0, 1.0]) == (0.5, 0.0, 1.0)


def test_values_that_are_not_finite_are_left_out():
    assert mean_interval([1.0, math.nan, 3.0, math.inf]) == mean_interval([1.0, 3.0])


@pytest.mark.parametrize(("scores", "value"), [([], math.nan), ([math.nan], math.nan), ([2.0], 2.0)])
def test_too_few_values_have_no_interval(scores, value):
    assert mean_interval(scores) == pytest.approx((value, math.nan, math.nan), nan_ok=True)


def test_an_interval_is_the_same_every_time():
    scores = np.random.default_rng(4).normal(size=20)
    first = mean_interval(scores)
    resamples.cache_clear()
    assert mean_interval(scores) == first


def test_bounds_need_half_of_the_estimates():
    estimates = np.concatenate([np.linspace(0, 1, 101), np.full(101, np.nan)])
    assert percentile_bounds(estimates, 5) == pytest.approx((0.025, 0.975))
    assert all(map(math.isnan, percentile_bounds(np.append(estimates, np.nan), 5)))
    assert all(map(math.isnan, percentile_bounds(np.ones(10), 1)))
