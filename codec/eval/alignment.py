"""Removal of the delay of a codec, the same way for all: by cross-correlation with the original.

Codecs of others leave delays of a few milliseconds, which intrusive metrics take for errors.
"""

import torch
from torch import Tensor
from torch.nn import functional

MAX_DELAY_S = 0.1
EQUAL_PEAKS = 0.99
"""Peaks at least this high, relative to the highest, are candidates: periodic signals have one every period."""

MIN_CORRELATION = 0.1
"""Least correlation coefficient of a delay: the waveforms of a codec that codes no phase are not alike at any lag."""


def find_delay(decoded: Tensor, original: Tensor, sample_rate: int) -> int:
    """Find the lag (samples) at which decoded audio correlates most with the original, at most 100 ms either way.

    Of peaks that are nearly equal the one with the smallest lag is taken; no lag counts as a peak. Fractions of a
    sample are not resolved.

    Args:
        decoded: Samples `[C, T]`.
        original: Samples `[C, S]` of as many channels; S may differ from T.
        sample_rate: Of both (Hz).

    Returns:
        Lag in samples, positive if the decoded audio is late; 0 if either is silent or nothing correlates.
    """
    longest = round(MAX_DELAY_S * sample_rate)
    size = 1 << (max(decoded.shape[-1], original.shape[-1]) + longest).bit_length()
    late, early = decoded.double(), original.double()
    spectrum = torch.fft.rfft(late, size) * torch.fft.rfft(early, size).conj()
    correlation = torch.fft.irfft(spectrum.sum(dim=0), size)
    lags = torch.arange(-longest - 1, longest + 2)  # with the neighbours of the first and the last
    values = correlation[lags]
    inner = values[1:-1]
    least = MIN_CORRELATION * (late.square().sum() * early.square().sum()).sqrt()
    is_peak = (inner >= values[:-2]) & (inner >= values[2:])
    is_peak[longest] = True  # no lag: coding noise moves a flat peak by a sample, which would cost SNR
    is_peak &= (inner >= EQUAL_PEAKS * inner.max()) & (inner > least) & (least > 0)
    candidates = lags[1:-1][is_peak]
    return int(candidates[candidates.abs().argmin()]) if len(candidates) else 0


def align(decoded: Tensor, num_samples: int, delay: int) -> Tensor:
    """Shift decoded audio `[C, T]` earlier by `delay` samples and make it `[C, num_samples]`: zeros fill its ends."""
    shifted = functional.pad(decoded, (-delay, 0))
    return functional.pad(shifted, (0, num_samples - shifted.shape[-1]))
