"""What a codec does to each band of frequencies: waveform, energy, and level from frame to frame.

PESQ, STOI and mel distance as means can hide a codec that is silent above 2 kHz; these can't.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from codec.errors import AudioError
from codec.eval.pairs import Samples, float64

EDGES_HZ = (0, 250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000)
FRAME_S = 0.02
RANGE_DB = 40.0
"""A frame counts for the power error if its band is no further below the loudest frame of that band in the clip."""
FLOOR_DB = -100.0
"""Of a band in a frame, mean square against full scale 1: about the threshold of hearing where full scale plays at
100 dB SPL. What is below counts as being there."""


class Bands(NamedTuple):
    """One value a band; nan where no frame of the original is above the floor, for there is nothing to judge."""

    snr: list[float]
    """Energy of the original over that of the error (dB); higher is better, 0 is what silence gets."""
    energy: list[float]
    """Energy of the decoded audio over that of the original (dB); 0 is right, below is too quiet."""
    power_error: list[float]
    """Mean absolute difference of levels, frame by frame (dB); 0 is equal, lower is better."""


def band_edges(sample_rate: int) -> list[float]:
    """Edges of the bands (Hz): 0, 250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000 up to sample_rate / 2, the last.

    >>> band_edges(8000)
    [0.0, 250.0, 500.0, 1000.0, 1500.0, 2000.0, 3000.0, 4000.0]
    """
    nyquist = sample_rate / 2
    return [*(float(edge) for edge in EDGES_HZ if edge < nyquist), nyquist]


def measure_bands(audio: Samples, target: Samples, sample_rate: int) -> Bands:
    """Compare a clip with its original band by band.

    Both are cut into frames of 20 ms, every 10 ms, under a periodic Hann window; a tail shorter than a hop is not seen,
    and a signal shorter than a frame is extended by zeros. A bin of the DFT belongs to the band with lower edge <= its
    frequency < upper edge, the Nyquist frequency to the last. P(b, t) is the power of band b in frame t, scaled to the
    mean square of the samples (0.5, or -3 dB, for a sine of full scale), and L(b, t) = 10 log10 max(P(b, t), floor)
    with a floor of -100 dB.

    - SNR = 10 log10 (sum of P over all frames of the original / the same of the error), each at least the floor.
    - Energy = 10 log10 (sum of P of the decoded audio / the same of the original), each at least the floor.
    - Level error = mean of |L decoded - L original| over the frames in which L original is above the floor and within
      40 dB of its maximum over the clip.

    Hann frames separate bands by their side lobes: what lies 150 Hz beyond an edge is 31 dB down, 1 kHz beyond 85 dB.

    Args:
        audio: Decoded samples `[T]` or `[C, T]`; channels are averaged, those without a value left out.
        target: Original samples, of the same shape.
        sample_rate: Of both (Hz).

    Raises:
        AudioError: The shapes differ, are neither `[T]` nor `[C, T]`, or the samples hold NaN or Inf.
    """
    ours, theirs = float64(audio), float64(target)
    if ours.shape != theirs.shape or ours.dim() not in (1, 2) or not ours.numel():
        raise AudioError(f"audio {tuple(ours.shape)} and target {tuple(theirs.shape)}: pass one shape, [T] or [C, T]")
    if not (ours.isfinite().all() and theirs.isfinite().all()):
        raise AudioError("audio or target holds NaN or Inf: metrics need finite samples")
    ours, theirs = ours.view(-1, ours.shape[-1]), theirs.view(-1, theirs.shape[-1])
    decoded, original, error = (_band_power(samples, sample_rate) for samples in (ours, theirs, ours - theirs))
    levels, decoded_levels = _decibel(original), _decibel(decoded)
    counts = (levels > FLOOR_DB) & (levels >= levels.amax(dim=1, keepdim=True) - RANGE_DB)
    num_counted = counts.sum(dim=1)
    power_error = ((decoded_levels - levels).abs() * counts).sum(dim=1) / num_counted.clamp_min(1)
    total = _decibel(original.sum(dim=1))
    values = (total - _decibel(error.sum(dim=1)), _decibel(decoded.sum(dim=1)) - total, power_error)
    return Bands(*(_mean_of_channels(value.masked_fill(num_counted == 0, math.nan)) for value in values))


def describe_bands(edges_hz: Sequence[float]) -> list[str]:
    """Names of the bands, such as "250-500"."""
    return [f"{low:g}-{high:g}" for low, high in itertools.pairwise(edges_hz)]


def _band_power(samples: Tensor, sample_rate: int) -> Tensor:
    """Mean square of every band in every frame, `[C, T]` to `[C, frames, bands]`."""
    size = 2 * max(1, round(FRAME_S * sample_rate / 2))
    window = torch.hann_window(size, dtype=torch.float64)
    padded = functional.pad(samples, (0, max(0, size - samples.shape[-1])))
    power = torch.fft.rfft(padded.unfold(-1, size, size // 2) * window).abs().square()
    power[..., 1:-1] *= 2  # the negative frequencies
    power /= size * window.square().sum()
    frequencies = torch.arange(size // 2 + 1) * sample_rate / size
    edges = torch.tensor(band_edges(sample_rate)[1:-1], dtype=torch.float64)
    band = torch.bucketize(frequencies.double(), edges, right=True)
    return torch.zeros(*power.shape[:-1], len(edges) + 1, dtype=torch.float64).index_add_(-1, band, power)


def _decibel(power: Tensor) -> Tensor:
    return 10 * power.clamp_min(10 ** (FLOOR_DB / 10)).log10()


def _mean_of_channels(values: Tensor) -> list[float]:
    """`[C, bands]` to one value a band."""
    means: list[float] = values.nanmean(dim=0).tolist()
    return means
