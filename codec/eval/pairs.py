"""Decoded audio and its original on the way into a metric: checked, in float64, where asked for at 16 kHz."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.errors import AudioError

Samples = Tensor | npt.NDArray[np.floating]

SPEECH_RATE = 16_000  # of the metrics and judges that know speech at one rate only (Hz)


class Pair(NamedTuple):
    """Two signals `[T]` of one shape, finite, float64."""

    audio: Tensor
    """Decoded."""
    target: Tensor
    """Original."""


def float64(samples: Samples) -> Tensor:
    """Copy to float64 on the CPU, where an energy keeps its small parts."""
    if isinstance(samples, Tensor):
        return samples.detach().cpu().double().contiguous()
    return torch.from_numpy(np.array(samples, dtype=np.float64))


def check_pair(audio: Samples, target: Samples) -> Pair:
    """Both as float64.

    Raises:
        AudioError: The two are not of one shape `[T]` with T >= 1, or hold NaN or Inf.
    """
    ours, theirs = float64(audio), float64(target)
    if ours.shape != theirs.shape or ours.dim() != 1 or not len(ours):
        raise AudioError(
            f"audio {tuple(ours.shape)} and target {tuple(theirs.shape)}: pass two signals of one shape [T]"
        )
    if not (ours.isfinite().all() and theirs.isfinite().all()):
        raise AudioError("audio or target holds NaN or Inf: metrics need finite samples")
    return Pair(ours, theirs)


def speech_pair(audio: Samples, target: Samples, sample_rate: int) -> Pair:
    """As `check_pair`, resampled to 16 kHz."""
    pair = check_pair(audio, target)
    if sample_rate == SPEECH_RATE:
        return pair
    from codec.audio.resampling import resample  # late, so that the other metrics need neither soundfile nor soxr

    return Pair(*(resample(samples, sample_rate, SPEECH_RATE).double() for samples in pair))


def ratio_db(signal: Tensor, noise: Tensor) -> float:
    """10 log10(signal / noise) (dB), also where one of them is zero; no noise at all is inf."""
    if noise == 0:
        return math.inf
    return float(10 * torch.log10(signal / noise))
