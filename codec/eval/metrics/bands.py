"""Errors of a codec by frequency band: SNR, energy, and power from frame to frame.

Mean PESQ, STOI and mel distance hid a codec that was silent above 2 kHz. Values by band show it.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from codec.eval.metrics.clip import Clip, Original, Samples
from codec.eval.metrics.spectral import Frames, magnitudes

EDGES_HZ = (0, 250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000)
FRAME_S = 0.02
ENERGY_LIMIT_DB = 3.0
"""A band whose energy is off by more than this is named in words and marked in pictures."""
RANGE_DB = 40.0
"""The power error of a band covers frames at most this far below the loudest frame of that band in the clip."""
FLOOR_DB = -100.0
"""Least power of a band in a frame (mean square, full scale is 1); lower powers are raised to it. It is about the
threshold of hearing if full scale plays at 100 dB SPL."""


class Bands(NamedTuple):
    """One value per band; nan if no frame of the original is above the floor in that band."""

    snr: list[float]
    """Energy of the original over energy of the error (dB); higher is better, silence gets 0."""
    energy: list[float]
    """Energy of the decoded audio over energy of the original (dB); 0 is right, negative is too quiet."""
    power_error: list[float]
    """Mean absolute difference of the power in each frame (dB); lower is better, 0 is equal."""


def band_edges(sample_rate: int) -> list[float]:
    """Edges of the bands (Hz): those of `EDGES_HZ` below half the sample rate (Hz), then half the sample rate.

    >>> band_edges(8000)
    [0.0, 250.0, 500.0, 1000.0, 1500.0, 2000.0, 3000.0, 4000.0]
    """
    nyquist = sample_rate / 2
    return [*(float(edge) for edge in EDGES_HZ if edge < nyquist), nyquist]


def measure_bands(decoded: Samples, original: Original) -> Bands:
    """Compare a clip with its original band by band.

    Both are cut into frames of 20 ms, one every 10 ms, under a periodic Hann window. A tail shorter than a hop is
    ignored; a signal shorter than a frame is extended by zeros. A DFT bin belongs to the band with lower edge <= its
    frequency < upper edge, the Nyquist frequency to the last band. P(b, t) is the power of band b in frame t, scaled to
    the mean square of the samples (0.5, or -3 dB, for a sine of full scale), and L(b, t) = 10 log10 max(P(b, t), floor)
    with a floor of -100 dB.

    - SNR = 10 log10 (sum of P over all frames of the original / the same of the error), each at least the floor.
    - Energy = 10 log10 (sum of P of the decoded audio / the same of the original), each at least the floor.
    - Power error = mean of |L decoded - L original| over the frames in which L original is above the floor and within
      40 dB of its maximum over the clip.

    The side lobes of the Hann window leak into neighbouring bands: -31 dB at 150 Hz beyond an edge, -85 dB at 1 kHz.

    Args:
        decoded: Samples of the shape of the original, `[T]` or `[C, T]`. The result is the mean of the channels that
            have a value.
        original: What they are compared with.

    Raises:
        AudioError: The shapes differ, or the decoded samples hold NaN or Inf.
    """
    pairs = original.pairs(decoded)
    errors = [Clip(ours.samples - reference.samples, ours.sample_rate) for ours, reference in pairs]
    clips = [*zip(*pairs, strict=True), errors]
    powers = [torch.stack([clip.once(_band_power) for clip in channels]) for channels in clips]
    decoded_db, original_db = map(_decibel, powers[:2])
    is_judged = (original_db > FLOOR_DB) & (original_db >= original_db.amax(dim=1, keepdim=True) - RANGE_DB)
    num_judged = is_judged.sum(dim=1)
    power_error = ((decoded_db - original_db).abs() * is_judged).sum(dim=1) / num_judged.clamp_min(1)
    decoded_total, original_total, error_total = (_decibel(power.sum(dim=1)) for power in powers)
    values = (original_total - error_total, decoded_total - original_total, power_error)
    means = (value.masked_fill(num_judged == 0, math.nan).nanmean(dim=0) for value in values)  # over the channels
    return Bands(*(mean.tolist() for mean in means))


def describe_bands(edges_hz: Sequence[float]) -> list[str]:
    """Names of the bands, such as "250-500" (Hz)."""
    return [f"{low:g}-{high:g}" for low, high in itertools.pairwise(edges_hz)]


def _band_power(clip: Clip) -> Tensor:
    """Power (mean square) of every band in every frame, `[frames, bands]`."""
    size = 2 * max(1, round(FRAME_S * clip.sample_rate / 2))
    power = magnitudes(clip.samples, Frames(size, size // 2, size)).square()
    power[:, 1:-1] *= 2  # the negative frequencies
    power /= size * torch.hann_window(size, dtype=torch.float64).square().sum()
    frequencies = torch.arange(size // 2 + 1) * clip.sample_rate / size
    edges = torch.tensor(band_edges(clip.sample_rate)[1:-1], dtype=torch.float64)
    band = torch.bucketize(frequencies.double(), edges, right=True)
    return torch.zeros(len(power), len(edges) + 1, dtype=torch.float64).index_add_(-1, band, power)


def _decibel(power: Tensor) -> Tensor:
    return 10 * power.clamp_min(10 ** (FLOOR_DB / 10)).log10()
