"""Speech metrics of standards and papers, computed by their packages: PESQ and STOI."""

import math
import statistics
import warnings
from types import ModuleType

from codec.errors import require
from codec.eval.metrics.clip import SPEECH_RATE, Clip, NoValue

NARROW_RATE = 8000
PESQ_PART_S = 20.0
"""Longer clips are scored in parts. P.862 is defined for less; with more than 50 utterances the package ends the whole
process by a write beyond its memory."""
PESQ_MIN_SCORES = {"wb": 1.04, "nb": 1.02}
"""What P.862.2 and P.862.1 map the lowest score of P.862, -0.5, to."""
STOI_MIN_S = 0.4  # 30 frames of 25.6 ms with hop 12.8 ms


def pesq_wb(decoded: Clip, original: Clip) -> float:
    """Measure wide-band PESQ, a mean opinion score from 1.0 to 4.64; higher is better.

    ITU-T P.862.2 at 16 kHz, computed by the package pesq. Clips longer than 20 s are scored in equal parts, whose mean
    is taken. A silent decode, which pesq can't score, gets 1.04.

    Raises:
        NoValue: The original is silent or pesq finds no speech in it, or the clip is shorter than 0.25 s.
        ConfigError: pesq is not installed.
    """
    return _pesq(decoded, original, SPEECH_RATE, "wb")


def pesq_nb(decoded: Clip, original: Clip) -> float:
    """Measure narrow-band PESQ, a mean opinion score from 1.0 to 4.55; higher is better.

    ITU-T P.862 with the mapping of P.862.1, at 8 kHz: what a telephone leaves of both. Otherwise as `pesq_wb`; a silent
    decode gets 1.02.

    Raises:
        NoValue: As for `pesq_wb`.
        ConfigError: pesq is not installed.
    """
    return _pesq(decoded, original, NARROW_RATE, "nb")


def stoi(decoded: Clip, original: Clip) -> float:
    """Measure short-time objective intelligibility, -1 to 1 without a unit; higher is better.

    Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy speech", 2011; computed
    by the package pystoi at 16 kHz.

    Raises:
        NoValue: The original is silent or holds less than about 0.4 s of speech.
        ConfigError: pystoi is not installed.
    """
    return _stoi(decoded, original, extended=False)


def extended_stoi(decoded: Clip, original: Clip) -> float:
    """Measure extended short-time objective intelligibility, -1 to 1 without a unit; higher is better.

    Jensen and Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise maskers",
    2016; computed by the package pystoi at 16 kHz.

    Raises:
        NoValue: As for `stoi`.
        ConfigError: pystoi is not installed.
    """
    return _stoi(decoded, original, extended=True)


def _pesq(decoded: Clip, original: Clip, sample_rate: int, mode: str) -> float:
    pesq = require("pesq", "eval")
    if original.is_silent:
        raise NoValue("the original is silent")
    scores: list[float] = []
    reason = "pesq finds no speech"
    for part, target in zip(_parts(decoded, sample_rate), _parts(original, sample_rate), strict=True):
        if target.is_silent:
            continue
        try:
            scores.append(PESQ_MIN_SCORES[mode] if part.is_silent else _score(pesq, part, target, mode))
        except pesq.NoUtterancesError:
            continue
        except pesq.BufferTooShortError:
            reason = "shorter than 0.25 s"
    if not scores:
        raise NoValue(reason)
    return statistics.fmean(scores)


def _score(pesq: ModuleType, decoded: Clip, original: Clip, mode: str) -> float:
    return float(pesq.pesq(original.sample_rate, original.samples.numpy(), decoded.samples.numpy(), mode))


def _parts(clip: Clip, sample_rate: int) -> list[Clip]:
    """Parts of equal length of a clip at a rate."""
    samples = clip.at(sample_rate).samples
    number = math.ceil(len(samples) / (PESQ_PART_S * sample_rate))
    return [Clip(part, sample_rate) for part in samples.tensor_split(number)]


def _stoi(decoded: Clip, original: Clip, extended: bool) -> float:
    pystoi = require("pystoi", "eval")
    if original.is_silent:
        raise NoValue("the original is silent")
    ours, reference = (clip.at(SPEECH_RATE).samples.numpy() for clip in (decoded, original))
    if len(reference) < STOI_MIN_S * SPEECH_RATE:
        raise NoValue("shorter than 0.4 s")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(pystoi.stoi(reference, ours, SPEECH_RATE, extended=extended))
        except RuntimeWarning:
            raise NoValue("less than 0.4 s of speech") from None
