"""Metrics of the waveform: how far the decoded samples are from the original ones.

Ratios are limited to 100 dB on both sides: equal audio has a value, and one silent decode leaves a mean finite. An
error 100 dB below the signal is smaller than the rounding of 16 bits.
"""

import torch
from torch import Tensor

from codec.eval.metrics.clip import Clip, NoValue

LIMIT_DB = 100.0
ROUNDING = 1e-14
"""Samples that are smaller after removal of a mean of the order of 1 are rounding errors."""


def snr(decoded: Clip, original: Clip) -> float:
    """Measure the signal-to-noise ratio, energy of the original over that of the error (dB); higher is better.

    Silence in place of the original has 0 dB.

    Returns:
        Ratio from -100 to 100; 100 if the two are equal.

    Raises:
        NoValue: The original is silent.
    """
    if original.is_silent:
        raise NoValue("the original is silent")
    return _ratio_db(original.samples, decoded.samples - original.samples)


def si_sdr(decoded: Clip, original: Clip) -> float:
    """Measure the scale-invariant signal-to-distortion ratio (dB); higher is better.

    Le Roux et al., "SDR - half-baked or well done?", arXiv:1811.02508, after removal of both means. The original is
    scaled to fit the decoded audio, alpha = <decoded, original> / |original|^2; SI-SDR is the energy of the scaled
    original over the energy of the remaining error.

    Returns:
        Ratio from -100 to 100; 100 if one is a multiple of the other, -100 if the decoded audio is constant.

    Raises:
        NoValue: The original is constant.
    """
    estimate, reference = (clip.samples - clip.samples.mean() for clip in (decoded, original))
    if _is_zero(reference):
        raise NoValue("the original is silent or constant")
    if _is_zero(estimate):
        return -LIMIT_DB
    scaled = torch.dot(estimate, reference) / torch.dot(reference, reference) * reference
    return _ratio_db(scaled, estimate - scaled)


def _ratio_db(signal: Tensor, noise: Tensor) -> float:
    """10 log10 of the ratio of two energies, limited; the signal or the noise may be zero, not both."""
    ratio = 10 * torch.log10(signal.square().sum() / noise.square().sum())
    return float(ratio.clamp(-LIMIT_DB, LIMIT_DB))


def _is_zero(samples: Tensor) -> bool:
    return float(samples.abs().amax()) < ROUNDING
