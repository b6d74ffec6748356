import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import PchipInterpolator

from codec.eval.bd_rate import Curve, bd_rate

RATES = np.array([1000.0, 2000.0, 4000.0, 8000.0])
SECONDS = np.array([2.0, 3.0, 5.0, 7.0, 11.0])


def curve(rates, quality, *, spread=0.0):
    """A curve with these bitrates and mean qualities; the files differ by `spread`."""
    offsets = spread * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    return Curve(np.outer(rates, SECONDS), SECONDS, np.asarray(quality, float)[:, None] + offsets)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.25, 3.0])
def test_a_constant_factor_is_that_factor(factor):
    quality = [1.0, 2.1, 2.9, 3.3]
    result = bd_rate(curve(factor * RATES, quality), curve(RATES, quality))
    assert result.percent == pytest.approx(100 * (factor - 1), abs=1e-9)
    assert (result.low, result.high) == pytest.approx((100 * (factor - 1),) * 2, abs=1e-9) and result.note == ""


def test_a_shift_of_quality_along_a_straight_line():
    """Quality log2(rate): half a unit more quality is worth a factor of sqrt(2)."""
    quality = np.log2(RATES)
    result = bd_rate(curve(RATES, quality + 0.5), curve(RATES, quality))
    assert result.percent == pytest.approx(100 * (2**-0.5 - 1), abs=1e-6)


def test_it_is_the_mean_over_the_common_qualities():
    """By numerical integration; the ranges overlap in part."""
    ours, theirs = np.array([1.5, 2.0, 2.2, 3.5]), np.array([1.0, 1.8, 2.6, 3.0])
    result = bd_rate(curve(0.9 * RATES**0.95, ours), curve(RATES, theirs))
    first, second = PchipInterpolator(ours, np.log(0.9 * RATES**0.95)), PchipInterpolator(theirs, np.log(RATES))
    area, _ = quad(lambda q: float(first(q) - second(q)), 1.5, 3.0, points=[1.8, 2.0, 2.2, 2.6])
    assert result.percent == pytest.approx(100 * math.expm1(area / 1.5), rel=1e-6)


def test_order_of_the_settings_does_not_matter():
    quality = np.array([1.0, 2.1, 2.9, 3.3])
    forward = bd_rate(curve(0.7 * RATES, quality), curve(RATES, quality + 0.1))
    backward = bd_rate(curve(0.7 * RATES[::-1], quality[::-1]), curve(RATES, quality + 0.1))
    assert backward[:3] == pytest.approx(forward[:3])


def test_bitrate_is_all_bits_by_all_seconds():
    """One long file with half the bits outweighs short ones with more."""
    quality = [1.0, 2.0, 3.0, 4.0]
    test = curve(RATES, quality)
    test.bits[:, 4] *= 0.5
    total = SECONDS.sum()
    expected = (total - 0.5 * SECONDS[4]) / total - 1
    result = bd_rate(test, curve(RATES, quality))
    assert result.percent == pytest.approx(100 * expected, abs=1e-9)
    assert result.low < result.percent < result.high


def test_files_are_resampled_together():
    """Their spread is common to both codecs and leaves the difference certain."""
    quality = np.log2(RATES)
    result = bd_rate(curve(0.5 * RATES, quality, spread=0.5), curve(RATES, quality, spread=0.5))
    assert (result.low, result.high) == pytest.approx((-50, -50), abs=1e-6)


@pytest.mark.parametrize(
    ("rates", "quality", "fact"),
    [
        (RATES[:1], [2.0], "one setting"),
        (RATES, [1.0, 2.0, 1.5, 3.0], "does not rise"),
        (RATES, [1.0, 2.0, 2.0, 3.0], "does not rise"),
        (RATES, [11.0, 12.0, 13.0, 14.0], "no quality"),
    ],
)
def test_what_has_no_value_says_why(rates, quality, fact):
    for pair in ((0, 1), (1, 0)):
        curves = [curve(rates, quality), curve(RATES, [1.0, 2.0, 3.0, 4.0])]
        result = bd_rate(curves[pair[0]], curves[pair[1]])
        assert fact in result.note and math.isnan(result.percent) and math.isnan(result.low)
