"""Pairs of decoded and original audio as the metrics take them: checked, in float64, resampled to 16 kHz if needed."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.errors import AudioError

Samples = Tensor | npt.NDArray[np.floating]

SPEECH_RATE = 16_000
"""Sample rate of the metrics and judges that know one rate only (Hz)."""


class Pair(NamedTuple):
    """Two signals of one shape, `[T]` or `[C, T]`, float64."""

    audio: Tensor
    """Decoded."""
    target: Tensor
    """Original."""


def float64(samples: Samples) -> Tensor:
    """Copy to float64 on the CPU; in float32 a sum of squares would lose its small terms."""
    if isinstance(samples, Tensor):
        return samples.detach().cpu().double().contiguous()
    return torch.from_numpy(np.array(samples, dtype=np.float64))


def check_channels(audio: Samples, target: Samples) -> Pair:
    """Both as float64 `[C, T]`.

    Raises:
        AudioError: The two are not of one shape `[T]` or `[C, T]` with T >= 1, or hold NaN or Inf.
    """
    return Pair(*(samples.view(-1, samples.shape[-1]) for samples in _check(audio, target, ("[T]", "[C, T]"))))


def check_pair(audio: Samples, target: Samples) -> Pair:
    """Both as float64 `[T]`.

    Raises:
        AudioError: The two are not of one shape `[T]` with T >= 1, or hold NaN or Inf.
    """
    return _check(audio, target, ("[T]",))


def speech_pair(audio: Samples, target: Samples, sample_rate: int) -> Pair:
    """As `check_pair`, then resampled to 16 kHz."""
    pair = check_pair(audio, target)
    if sample_rate == SPEECH_RATE:
        return pair
    from codec.audio.resampling import resample  # late: other metrics do not need soxr

    return Pair(*(resample(samples, sample_rate, SPEECH_RATE).double() for samples in pair))


def ratio_db(signal: Tensor, noise: Tensor) -> float:
    """10 log10(signal / noise) of two energies (dB): inf if the noise is 0, else -inf if the signal is 0."""
    if noise == 0:
        return math.inf
    return float(10 * torch.log10(signal / noise))


def _check(audio: Samples, target: Samples, shapes: Sequence[str]) -> Pair:
    """Both as float64; the allowed shapes have 1 .. `len(shapes)` dimensions."""
    decoded, original = float64(audio), float64(target)
    if decoded.shape != original.shape or not 1 <= decoded.dim() <= len(shapes) or not decoded.numel():
        given = f"audio {tuple(decoded.shape)} and target {tuple(original.shape)}"
        raise AudioError(f"{given}: pass two signals of one shape {' or '.join(shapes)}")
    if not (decoded.isfinite().all() and original.isfinite().all()):
        raise AudioError("audio or target holds NaN or Inf: metrics need finite samples")
    return Pair(decoded, original)
