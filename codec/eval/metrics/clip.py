"""Audio as the metrics take it: channels of finite float64 samples, and what several metrics derive from them."""

from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.audio.resampling import resample
from codec.errors import AudioError

Samples = Tensor | npt.NDArray[np.floating]

SPEECH_RATE = 16_000
"""Sample rate of the metrics that know one rate only (Hz)."""

SILENCE = 1e-9
"""Smaller samples are silence: no recording holds them, and powers of theirs vanish in the packages' float32."""

_Value = TypeVar("_Value")
_Arguments = TypeVarTuple("_Arguments")


class NoValue(Exception):
    """Raised by a metric that is not defined for a clip; the text says why."""


class Clip:
    """One channel of audio.

    What several metrics need of it, such as its spectrum, is computed once: `clip.once(spectrum, size)` is
    `spectrum(clip, size)`. An original that several decodes are compared with keeps its values for all of them.

    Attributes:
        samples: Finite float64 `[T]` on the CPU, T >= 1; in float32 a sum of squares would lose its small terms.
        sample_rate: Rate (Hz).
    """

    def __init__(self, samples: Samples, sample_rate: int) -> None:
        self.samples = _float64(samples)
        self.sample_rate = sample_rate
        self._known: dict[tuple[Any, ...], Any] = {}
        if self.samples.dim() != 1 or not self.samples.numel():
            raise AudioError(
                f"a clip of shape {tuple(self.samples.shape)}: give one channel [T] of at least one sample"
            )
        if not self.samples.isfinite().all():
            raise AudioError("the audio holds NaN or Inf: metrics need finite samples")

    def once(self, compute: "Callable[[Clip, *_Arguments], _Value]", *arguments: *_Arguments) -> _Value:
        """Return `compute(self, *arguments)`; the same function and arguments are computed once."""
        key = (compute, *arguments)
        if key not in self._known:
            self._known[key] = compute(self, *arguments)
        return cast(_Value, self._known[key])

    def at(self, sample_rate: int) -> "Clip":
        """Return this clip at another rate (Hz)."""
        return self if sample_rate == self.sample_rate else self.once(_resampled, sample_rate)

    @property
    def is_silent(self) -> bool:
        """Whether no sample exceeds -180 dB."""
        return float(self.samples.abs().amax()) < SILENCE

    @property
    def is_constant(self) -> bool:
        """Whether all samples are equal up to -180 dB, as in silence."""
        return float(self.samples.amax() - self.samples.amin()) < SILENCE


class Original:
    """A recording that decoded audio is compared with: make it once, then measure every decode against it.

    Args:
        samples: `[C, T]`, or `[T]` for one channel.
        sample_rate: Rate (Hz).

    Raises:
        AudioError: The shape is another or empty, or the samples hold NaN or Inf.
    """

    def __init__(self, samples: Samples, sample_rate: int) -> None:
        self.shape = tuple(samples.shape)
        self.sample_rate = sample_rate
        self.channels = _channels(samples, sample_rate)

    def pairs(self, decoded: Samples) -> list[tuple[Clip, Clip]]:
        """Pair every decoded channel with the original one.

        Raises:
            AudioError: The shapes differ, or the decoded samples hold NaN or Inf.
        """
        if tuple(decoded.shape) != self.shape:
            given = f"decoded audio {tuple(decoded.shape)} and original {self.shape}"
            raise AudioError(f"{given}: give two signals of one shape [T] or [C, T]")
        return list(zip(_channels(decoded, self.sample_rate), self.channels, strict=True))


def _channels(samples: Samples, sample_rate: int) -> list[Clip]:
    if not 1 <= len(samples.shape) <= 2 or 0 in samples.shape:
        raise AudioError(f"audio of shape {tuple(samples.shape)}: give [T] or [C, T] with at least one sample")
    return [Clip(channel, sample_rate) for channel in samples.reshape(-1, samples.shape[-1])]


def _float64(samples: Samples) -> Tensor:
    if isinstance(samples, Tensor):
        return samples.detach().cpu().double().contiguous()
    return torch.from_numpy(np.array(samples, dtype=np.float64))


def _resampled(clip: Clip, sample_rate: int) -> Clip:
    return Clip(resample(clip.samples, clip.sample_rate, sample_rate), sample_rate)
