"""Distances of short-time spectra: mel distance, multi-resolution STFT distance, log-spectral distance.

All cut the signal into frames that lie within it. A tail shorter than a hop is ignored; a signal shorter than a frame
is extended by zeros.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from codec.dsp.mel import LOG_FLOOR, mel_filterbank
from codec.eval.metrics.clip import Clip, NoValue

NUM_MELS = 80
MEL_FRAME_S = 0.064  # 1024 samples at 16 kHz
STFT_FRAMES_S = (0.010, 0.025, 0.050)
STFT_FLOOR = 1e-7**0.5
LSD_FRAME_S = 0.032
LSD_RANGE_DB = 80.0


class Frames(NamedTuple):
    """How a signal is cut into frames under a Hann window (samples)."""

    size: int
    hop_length: int
    fft_size: int
    """At least the size; zeros are appended to the frame."""
    periodic: bool = True
    """Whether the window is the one period of a cosine, or symmetric."""


def mel_distance(decoded: Clip, original: Clip) -> float:
    """Measure the mean absolute difference of log mel magnitudes (neper: 1 is 8.7 dB); lower is better, 0 is equal.

    80 HTK mel bands (triangles of peak 1 from 0 to half the sample rate) on STFT magnitudes of symmetric Hann frames of
    64 ms, hop 16 ms (1024 and 256 samples at 16 kHz), floored at 1e-5, natural logarithm.
    """
    return float((decoded.once(_log_mel) - original.once(_log_mel)).abs().mean())


def stft_distance(decoded: Clip, original: Clip) -> float:
    """Measure the multi-resolution STFT distance, without a unit; lower is better, 0 is equal.

    As the auxiliary loss of Parallel WaveGAN (arXiv:1910.11480, eq. 4 to 6): with magnitudes D and O of the decoded and
    original audio, |O - D| / |O| (spectral convergence, Frobenius norms over bins and frames) plus the mean of
    |ln O - ln D| (neper), averaged over three resolutions. Those are Hann frames of 10, 25 and 50 ms with a hop of a
    fifth, as there; the FFT has the next power of two (256, 512 and 1024 points at 16 kHz), where the paper has two
    to four times as many. Magnitudes are floored at 10^-3.5.

    Raises:
        NoValue: The original is silent.
    """
    if original.is_silent:
        raise NoValue("the original is silent")
    total = 0.0
    for seconds in STFT_FRAMES_S:
        ours, reference = (clip.once(_floored_magnitude, seconds) for clip in (decoded, original))
        convergence = torch.linalg.vector_norm(reference - ours) / torch.linalg.vector_norm(reference)
        total += float(convergence + (reference / ours).log().abs().mean())
    return total / len(STFT_FRAMES_S)


def log_spectral_distance(decoded: Clip, original: Clip) -> float:
    """Measure the log-spectral distance (dB); lower is better, 0 is equal.

    Gray and Markel, "Distance measures for speech processing", 1976: the root of the mean over the bins of the squared
    difference of the powers in dB, then the mean over the frames (periodic Hann frames of 32 ms, hop 8 ms). Powers are
    floored 80 dB below the strongest bin of the original, so pauses of digital silence don't decide, and a gain that
    both share changes nothing.

    Raises:
        NoValue: The original is silent or a single sample.
    """
    if original.is_silent:
        raise NoValue("the original is silent")
    ours, reference = (clip.once(_lsd_power) for clip in (decoded, original))
    floor = float(reference.amax()) * 10 ** (-LSD_RANGE_DB / 10)
    if floor == 0:
        raise NoValue("a single sample, which the window makes zero")
    difference = 10 * (ours.clamp_min(floor).log10() - reference.clamp_min(floor).log10())
    return float(difference.square().mean(dim=-1).sqrt().mean())


def magnitudes(samples: Tensor, frames: Frames) -> Tensor:
    """STFT magnitudes of samples `[T]`, not scaled: `[frames, fft_size // 2 + 1]`."""
    window = torch.hann_window(frames.size, periodic=frames.periodic, dtype=samples.dtype)
    padded = functional.pad(samples, (0, max(0, frames.size - len(samples))))
    spectrum: Tensor = torch.fft.rfft(padded.unfold(0, frames.size, frames.hop_length) * window, frames.fft_size)
    return spectrum.abs()


def _log_mel(clip: Clip) -> Tensor:
    size = 2 * round(MEL_FRAME_S * clip.sample_rate / 2)
    filterbank = mel_filterbank(clip.sample_rate, size, NUM_MELS).double()
    spectrum = magnitudes(clip.samples, Frames(size, size // 4, size, periodic=False))
    return torch.matmul(spectrum, filterbank).clamp_min(LOG_FLOOR).log()


def _floored_magnitude(clip: Clip, seconds: float) -> Tensor:
    size = max(5, round(seconds * clip.sample_rate))
    frames = Frames(size, size // 5, fft_size=1 << (size - 1).bit_length())
    return magnitudes(clip.samples, frames).clamp_min(STFT_FLOOR).float()  # a long clip has many


def _lsd_power(clip: Clip) -> Tensor:
    size = 4 * max(1, round(LSD_FRAME_S * clip.sample_rate / 4))
    return magnitudes(clip.samples, Frames(size, size // 4, size)).square()
