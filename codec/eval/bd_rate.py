"""BD-rate: how many bits a codec saves at equal quality, as one number.

G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001. As in its later forms, the
logarithm of the bitrate is interpolated over the quality by a monotone cubic (PCHIP) instead of one polynomial.
"""

from typing import NamedTuple

import numpy as np

from codec.eval.bootstrap import Array, percentile_bounds, resamples

NUM_RESAMPLES = 500
"""Of the interval: each needs two interpolations, which takes 0.6 ms."""


class Curve(NamedTuple):
    """A codec at several settings, on the same files in the same order."""

    bits: Array
    """Bits of every file `[settings, files]`."""
    seconds: Array
    """Length of every file `[files]`."""
    quality: Array
    """Score of every file `[settings, files]`, higher is better."""

    def points(self, weights: Array) -> tuple[Array, Array]:
        """Bitrate (bit/s) and mean quality of every setting `[settings]`, with the files weighted `[files]`."""
        return self.bits @ weights / (self.seconds @ weights), self.quality @ weights


class BdRate(NamedTuple):
    """Bits of a codec relative to a reference at equal quality; negative is fewer."""

    percent: float
    """nan if it can't be had; then `note` says why."""
    low: float
    high: float
    """Bounds of the 95 % bootstrap interval over the files; nan if too many resamples have no value."""
    note: str = ""


def bd_rate(test: Curve, reference: Curve) -> BdRate:
    """Mean difference in bitrate at equal quality, with its bootstrap interval over the files."""
    num_files = len(test.seconds)
    weights = np.full(num_files, 1 / num_files)
    percent, note = _difference(test.points(weights), reference.points(weights))
    if note:
        return BdRate(np.nan, np.nan, np.nan, note)
    estimates = [
        _difference(test.points(row), reference.points(row))[0] for row in resamples(num_files)[:NUM_RESAMPLES]
    ]
    return BdRate(percent, *percentile_bounds(np.array(estimates), num_files))


def _difference(test: tuple[Array, Array], reference: tuple[Array, Array]) -> tuple[float, str]:
    """Percent, and a note if it can't be had."""
    from scipy.interpolate import PchipInterpolator  # late: it takes 0.3 s, and training needs it at its end only

    curves = []
    for name, (bitrates, quality) in (("the codec", test), ("the reference", reference)):
        order = np.argsort(bitrates)
        rates, scores = np.log(bitrates[order]), quality[order]
        if len(rates) < 2:
            return np.nan, f"{name} has one setting only"
        if not (np.diff(scores) > 0).all():
            return np.nan, f"quality of {name} does not rise with its bitrate"
        curves.append((scores, PchipInterpolator(scores, rates)))
    low = max(scores[0] for scores, _ in curves)
    high = min(scores[-1] for scores, _ in curves)
    if low >= high:
        return np.nan, "no quality that both reach"
    ours, theirs = (curve.integrate(low, high) for _, curve in curves)
    return float(100 * np.expm1((ours - theirs) / (high - low))), ""
