"""Objective metrics that compare decoded audio with its original, one call per clip.

All take finite tensors or arrays `[T]` of equal length, nominally in [-1, 1], and return a float. The two must be
aligned in time: our codecs leave no delay; the delay of other codecs must be removed first.
"""

import importlib.util
import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from codec.dsp.mel import LOG_FLOOR, mel_filterbank
from codec.errors import ConfigError, require
from codec.eval.metrics.judges import dnsmos, speaker_similarity
from codec.eval.metrics.pairs import SPEECH_RATE, Samples, check_channels, check_pair, ratio_db, speech_pair

NUM_MELS = 80
MEL_FRAME_S = 0.064  # 1024 samples at 16 kHz
STOI_MIN_S = 0.4  # 30 frames of 25.6 ms with hop 12.8 ms
PESQ_MIN_SCORE = 1.04  # what P.862.2 maps the lowest score of P.862, -0.5, to


def mel_distance(audio: Samples, target: Samples, sample_rate: int) -> float:
    """Measure the mean absolute difference of log mel magnitudes (neper: 1 is 8.7 dB); lower is better, 0 is equal.

    80 HTK mel bands (triangles of peak 1 from 0 to sample_rate / 2) on STFT magnitudes of symmetric Hann frames of
    64 ms, hop 16 ms (1024 and 256 samples at 16 kHz), floored at 1e-5, natural logarithm. A tail shorter than a hop is
    ignored; a signal shorter than a frame is extended by zeros.

    Args:
        audio: Decoded samples `[T]`.
        target: Original samples `[T]`.
        sample_rate: Of both (Hz).

    Raises:
        AudioError: The two are not of one shape `[T]` with T >= 1, or hold NaN or Inf.
    """
    fft_size = 2 * round(MEL_FRAME_S * sample_rate / 2)
    window = torch.hann_window(fft_size, periodic=False, dtype=torch.float64)
    filterbank = mel_filterbank(sample_rate, fft_size, NUM_MELS).double()

    def log_mel(samples: Tensor) -> Tensor:
        padded = functional.pad(samples, (0, max(0, fft_size - len(samples))))
        frames = padded.unfold(0, fft_size, fft_size // 4)
        return torch.matmul(torch.fft.rfft(frames * window).abs(), filterbank).clamp_min(LOG_FLOOR).log()

    decoded, original = check_pair(audio, target)
    return float((log_mel(decoded) - log_mel(original)).abs().mean())


def snr(audio: Samples, target: Samples) -> float:
    """Measure the signal-to-noise ratio, target energy over error energy (dB); higher is better.

    It is inf if the two are equal, else -inf if the target is silent.

    Raises:
        AudioError: As for `mel_distance`.
    """
    decoded, original = check_pair(audio, target)
    return ratio_db(original.square().sum(), (decoded - original).square().sum())


def si_sdr(audio: Samples, target: Samples) -> float:
    """Measure the scale-invariant signal-to-distortion ratio (dB); higher is better.

    Le Roux et al., "SDR - half-baked or well done?", arXiv:1811.02508, after removal of both means. The target is
    scaled to fit the audio, alpha = <audio, target> / |target|^2; SI-SDR is the energy of the scaled target over the
    energy of the remaining error. It is -inf if audio or target is constant, else inf if the error is zero.

    Raises:
        AudioError: As for `mel_distance`.
    """
    decoded, original = (samples - samples.mean() for samples in check_pair(audio, target))
    if _is_zero(decoded) or _is_zero(original):
        return -math.inf
    scaled = torch.dot(decoded, original) / torch.dot(original, original) * original
    return ratio_db(scaled.square().sum(), (decoded - scaled).square().sum())


def stoi(audio: Samples, target: Samples, sample_rate: int) -> float:
    """Measure short-time objective intelligibility, -1 to 1 without a unit; higher is better.

    Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy speech", 2011; computed
    by the package pystoi.

    Returns:
        STOI; nan if the target is silent or holds less than about 0.4 s of speech.

    Raises:
        AudioError: As for `mel_distance`.
        ConfigError: pystoi is not installed.
    """
    pystoi = require("pystoi", "eval")
    decoded, original = (samples.numpy() for samples in speech_pair(audio, target, sample_rate))
    if len(original) < STOI_MIN_S * SPEECH_RATE or not original.any():
        return math.nan
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(pystoi.stoi(original, decoded, SPEECH_RATE))
        except RuntimeWarning:
            return math.nan


def pesq_wb(audio: Samples, target: Samples, sample_rate: int) -> float:
    """Measure wide-band PESQ, a mean opinion score from 1.04 to 4.64; higher is better.

    ITU-T P.862.2 at 16 kHz, computed by the package pesq.

    Returns:
        Mean opinion score; 1.04 for silent audio, which pesq can't score; nan if the target holds no speech, or the
        clip is shorter than 0.25 s.

    Raises:
        AudioError: As for `mel_distance`.
        ConfigError: pesq is not installed.
    """
    pesq = require("pesq", "eval")
    decoded, original = (samples.numpy() for samples in speech_pair(audio, target, sample_rate))
    if not decoded.any() or not original.any():
        return PESQ_MIN_SCORE if original.any() else math.nan
    try:
        return float(pesq.pesq(SPEECH_RATE, original, decoded, "wb"))
    except (pesq.NoUtterancesError, pesq.BufferTooShortError):
        return math.nan


METRICS: dict[str, Callable[[Samples, Samples, int], float]] = {
    "mel": mel_distance,
    "si_sdr": lambda audio, target, sample_rate: si_sdr(audio, target),
    "snr": lambda audio, target, sample_rate: snr(audio, target),
    "stoi": stoi,
    "pesq_wb": pesq_wb,
    "dnsmos": dnsmos,
    "speaker": speaker_similarity,
}
JUDGES = ("dnsmos", "speaker")
"""The slowest metrics: networks that none of our losses imitates."""
OPTIONAL_PACKAGES = {
    "stoi": ("pystoi",),
    "pesq_wb": ("pesq",),
    "dnsmos": ("speechmos", "onnxruntime"),
    "speaker": ("--no-deps resemblyzer",),
}
"""Arguments of pip for the packages of a metric. Of resemblyzer only the weights are used. Its requirements are not
needed, and one of them does not import with setuptools 82 and later."""


def available_metrics() -> tuple[str, ...]:
    """Names of the metrics whose packages are installed."""

    def is_installed(package: str) -> bool:
        return importlib.util.find_spec(package.split()[-1]) is not None

    return tuple(name for name in METRICS if all(map(is_installed, OPTIONAL_PACKAGES.get(name, ()))))


def measure(audio: Samples, target: Samples, sample_rate: int, metrics: Sequence[str]) -> dict[str, float]:
    """Measure several metrics of a clip `[T]` or `[C, T]`; the values of the channels are averaged.

    Args:
        audio: Decoded samples.
        target: Original samples, of the same shape.
        sample_rate: Of both (Hz).
        metrics: Names out of `available_metrics()`.

    Returns:
        Values by name, in the order of `metrics`. Units and directions are those of the functions in `METRICS`.

    Raises:
        AudioError: The shapes differ, or are neither `[T]` nor `[C, T]`, or samples are NaN or Inf.
        ConfigError: Unknown metric, or its package is not installed.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ConfigError(f"unknown metric {unknown[0]!r}: choose from {', '.join(METRICS)}")
    channels = list(zip(*check_channels(audio, target), strict=True))
    return {name: sum(METRICS[name](*pair, sample_rate) for pair in channels) / len(channels) for name in metrics}


def _is_zero(samples: Tensor) -> bool:
    """Whether only rounding errors are left after removal of a mean of the order of 1."""
    return float(samples.abs().amax()) < 1e-14
