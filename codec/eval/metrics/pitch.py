"""Errors of the pitch (F0) and of the decision between voiced and unvoiced, by the pitch tracker SwiftF0."""

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from codec.errors import require
from codec.eval.metrics.clip import SPEECH_RATE, Clip, NoValue

VOICED = 0.5
"""Least confidence of a voiced frame, as the package says."""
PEAK = 0.5
"""Audio is scaled to this peak: the network is not trained on quiet audio."""
GROSS = 0.2
"""A pitch that is off by more than this share is a gross error."""


class Pitch(NamedTuple):
    """Pitch of a clip in frames of 16 ms."""

    hz: npt.NDArray[np.float64]
    """Fundamental frequency `[F]`, 47 to 2094 Hz; arbitrary in unvoiced frames."""
    is_voiced: npt.NDArray[np.bool_]
    """`[F]`"""


def f0_error(decoded: Clip, original: Clip) -> float:
    """Measure the mean absolute difference of the pitch (cent, 100 to the semitone); lower is better, 0 is equal.

    Over the frames of 16 ms that are voiced in both, octave errors included; `gross_pitch_error` says how many there
    are. Pitch and voicing are those of SwiftF0 (Nieradzik, arXiv:2508.18440; MIT), a network of 14 386 parameters in
    the package swift-f0, which is 3 cents off on average on a synthetic glide.

    Raises:
        NoValue: No frame is voiced in both.
        ConfigError: swift-f0 is not installed.
    """
    return float(np.abs(1200 * np.log2(_pitch_ratio(decoded, original))).mean())


def gross_pitch_error(decoded: Clip, original: Clip) -> float:
    """Measure the share of frames whose pitch is off by more than 20 % (%); lower is better, 0 is equal.

    Of the frames that are voiced in both (Rabiner et al., "A comparative performance study of several pitch detection
    algorithms", 1976, with a relative limit as in Chu and Alwan, 2009).

    Raises:
        NoValue: No frame is voiced in both.
        ConfigError: swift-f0 is not installed.
    """
    return float(100 * (np.abs(_pitch_ratio(decoded, original) - 1) > GROSS).mean())


def voicing_error(decoded: Clip, original: Clip) -> float:
    """Measure the share of frames that are voiced in one of the two only (%); lower is better, 0 is equal.

    Raises:
        NoValue: The original has no voiced frame.
        ConfigError: swift-f0 is not installed.
    """
    ours, reference = (clip.once(track_pitch) for clip in (decoded, original))
    if not reference.is_voiced.any():
        raise NoValue("the original has no voiced frame")
    return float(100 * (ours.is_voiced != reference.is_voiced).mean())


def track_pitch(clip: Clip) -> Pitch:
    """Estimate the pitch of a clip at its peak level raised or lowered to 0.5; silence is unvoiced.

    Raises:
        ConfigError: swift-f0 is not installed.
    """
    tracker = _load_tracker()
    samples = clip.at(SPEECH_RATE).samples
    peak = 1.0 if clip.is_silent else float(samples.abs().amax())
    found = tracker.detect((samples * (PEAK / peak)).float().numpy(), SPEECH_RATE)
    return Pitch(found.pitch_hz, found.confidence >= VOICED)


def _pitch_ratio(decoded: Clip, original: Clip) -> npt.NDArray[np.float64]:
    """Decoded over original pitch in the frames that are voiced in both."""
    ours, reference = (clip.once(track_pitch) for clip in (decoded, original))
    both = ours.is_voiced & reference.is_voiced
    if not both.any():
        raise NoValue("no frame is voiced in both")
    return np.asarray(ours.hz[both] / reference.hz[both])


@functools.cache
def _load_tracker() -> Any:
    """Open the network once a process, with one thread, which is enough for 135 kB of weights."""
    return require("swift_f0", "eval").SwiftF0(threads=1, spin=False)
