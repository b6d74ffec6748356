"""Confidence intervals of means over files by the bootstrap (Efron, 1979): files are drawn again, with replacement.

All settings of an evaluation are resampled together: a difference of two codecs on the same files is known better than
either mean.
"""

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NUM_RESAMPLES = 2000
COVERAGE = 0.95


class Interval(NamedTuple):
    """A value with its confidence interval; the bounds are nan where there are too few files."""

    value: float
    low: float
    high: float


@functools.cache
def resamples(num_files: int) -> Array:
    """Weights of the files in every resample, `[NUM_RESAMPLES, num_files]`; each row has the sum 1. Always the same."""
    return times_drawn(num_files, seed=0) / num_files


def times_drawn(num_units: int, seed: int) -> npt.NDArray[np.int64]:
    """How often each unit is in every resample, `[NUM_RESAMPLES, num_units]`; each row has the sum `num_units`."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_units, np.full(num_units, 1 / num_units), NUM_RESAMPLES)


def mean_interval(scores: npt.ArrayLike) -> Interval:
    """Mean of the finite scores, one a file, with its 95 % percentile interval; nan without any."""
    values = np.asarray(scores, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(np.nan, np.nan, np.nan)
    return Interval(float(values.mean()), *percentile_bounds(resamples(len(values)) @ values, len(values)))


def percentile_bounds(estimates: Array, num_files: int) -> tuple[float, float]:
    """Bounds that hold the middle 95 % of the finite estimates of all resamples.

    nan, nan if there are fewer than two files, or fewer than half of the resamples give an estimate.
    """
    finite = estimates[np.isfinite(estimates)]
    if num_files < 2 or 2 * len(finite) < len(estimates):
        return np.nan, np.nan
    low, high = np.quantile(finite, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)
