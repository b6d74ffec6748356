"""The table of metrics, and several of them at once over the channels of a clip.

Decoded and original audio must be aligned in time: our codecs leave no delay; that of other codecs must be removed
first.
"""

import importlib.util
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from codec.errors import ConfigError
from codec.eval.metrics.clip import Clip, NoValue, Original, Samples
from codec.eval.metrics.judges import dnsmos, speaker_similarity
from codec.eval.metrics.loudness import loudness_difference
from codec.eval.metrics.pitch import f0_error, gross_pitch_error, voicing_error
from codec.eval.metrics.recognition import phoneme_error
from codec.eval.metrics.spectral import log_spectral_distance, mel_distance, stft_distance
from codec.eval.metrics.speech import extended_stoi, pesq_nb, pesq_wb, stoi
from codec.eval.metrics.waveform import si_sdr, snr


class Metric(NamedTuple):
    """A figure of decoded audio; the docstring of its function defines it."""

    measure: Callable[[Clip, Clip], float]
    """Value of a decoded and an original channel; raises `NoValue` where it is not defined."""
    label: str
    """Its name in tables and pictures."""
    unit: str
    """Empty for a score or a ratio."""
    better: Literal["higher", "lower", "zero"]
    packages: tuple[str, ...] = ()
    """Arguments of pip for the packages it needs beside those of codec."""
    slow: bool = False
    """Whether it runs a large network of others, so that training does without it."""


METRICS: dict[str, Metric] = {
    "mel": Metric(mel_distance, "mel distance", "neper", "lower"),
    "stft": Metric(stft_distance, "STFT distance", "", "lower"),
    "lsd": Metric(log_spectral_distance, "log-spectral distance", "dB", "lower"),
    "si_sdr": Metric(si_sdr, "SI-SDR", "dB", "higher"),
    "snr": Metric(snr, "SNR", "dB", "higher"),
    "loudness": Metric(loudness_difference, "loudness difference", "LU", "zero"),
    "stoi": Metric(stoi, "STOI", "", "higher", ("pystoi",)),
    "estoi": Metric(extended_stoi, "extended STOI", "", "higher", ("pystoi",)),
    "pesq_wb": Metric(pesq_wb, "PESQ-WB", "", "higher", ("pesq",)),
    "pesq_nb": Metric(pesq_nb, "PESQ-NB", "", "higher", ("pesq",)),
    "f0": Metric(f0_error, "F0 error", "cent", "lower", ("swift-f0",)),
    "f0_gross": Metric(gross_pitch_error, "gross pitch error", "%", "lower", ("swift-f0",)),
    "voicing": Metric(voicing_error, "voicing error", "%", "lower", ("swift-f0",)),
    "dnsmos": Metric(dnsmos, "DNSMOS", "", "higher", ("speechmos", "onnxruntime"), slow=True),
    # Of resemblyzer only the weights are used. Its requirements are not needed, and one of them does not import with
    # setuptools 82 and later.
    "speaker": Metric(speaker_similarity, "speaker similarity", "", "higher", ("--no-deps resemblyzer",), slow=True),
    "phonemes": Metric(phoneme_error, "phoneme error", "%", "lower", ("hama",), slow=True),
}


class Measured(NamedTuple):
    """Result of `measure`."""

    values: dict[str, float]
    """By metric, in the order asked for; finite, or nan where there is no value."""
    notes: dict[str, str]
    """Why a metric has no value, or not for all channels."""


def available_metrics() -> tuple[str, ...]:
    """Names of the metrics whose packages are installed."""
    return tuple(name for name, metric in METRICS.items() if all(map(_is_installed, metric.packages)))


def measure(decoded: Samples, original: Original, metrics: Sequence[str]) -> Measured:
    """Measure several metrics of a decode; the values of the channels that have one are averaged.

    Args:
        decoded: Samples of the shape and sample rate of the original, nominally in [-1, 1].
        original: What they are compared with; one object serves all decodes of a clip.
        metrics: Names out of `available_metrics()`.

    Raises:
        AudioError: The shapes differ, or the decoded samples hold NaN or Inf.
        ConfigError: Unknown metric, or its package is not installed.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ConfigError(f"unknown metric {unknown[0]!r}: choose from {', '.join(METRICS)}")
    pairs = original.pairs(decoded)
    values, notes = {}, {}
    for name in metrics:
        values[name], note = _mean_over_channels(METRICS[name], pairs)
        if note:
            notes[name] = note
    return Measured(values, notes)


def _mean_over_channels(metric: Metric, pairs: Sequence[tuple[Clip, Clip]]) -> tuple[float, str]:
    """Mean of the channels that have a value, or nan; and what the others lack."""
    values, reasons = [], []
    for pair in pairs:
        try:
            values.append(metric.measure(*pair))
        except NoValue as reason:
            reasons.append(str(reason))
    note = "; ".join(dict.fromkeys(reasons))
    if not values:
        return math.nan, note
    if reasons:
        note = f"{len(values)} of {len(pairs)} channels: {note}"
    return statistics.fmean(values), note


def _is_installed(package: str) -> bool:
    """Whether the package that pip knows by this argument can be imported."""
    return importlib.util.find_spec(package.split()[-1].replace("-", "_")) is not None
