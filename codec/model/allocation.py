"""Variable bitrate: the number of quantizer levels of each frame, chosen by the encoder from loudness.

A frame that is quieter than what was heard shortly before is masked or matters less, so it does without some of the
last levels. The codes of these levels are 0, the codeword of zeros, and cost an entropy coder next to nothing.

Loudness grows as power to about 0.3 (Stevens, "The measurement of loudness", 1955), and a level of a residual quantizer
lowers the error by about 1 dB. So a frame that is 1 dB quieter needs about 0.3 levels less for an equally loud error.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from codec.dsp.precision import full_precision
from codec.model.analysis import transform_low_band, without_mean
from codec.model.layers import Cache, with_left_context
from codec.model.signal_model import FLOOR, SignalModel

MARGIN = 5.0
"""A frame saves levels if it is quieter than the loudest one by more than this (dB)."""
MEMORY_SECONDS = 2.0
"""How far back the loudest frame is looked for (s)."""
MIN_LEVELS = 3
"""Every frame gets at least so many levels: the first ones hold the envelope."""
DB = 4.342944819032518
"""Decibels of power in a natural logarithm."""
SILENCE = DB * math.log(FLOOR)
"""Loudness of digital silence (dB)."""


class LevelAllocation(nn.Module):
    """Number of levels of each frame, from the power of its low band; causal and independent of the signal's gain.

    Args:
        model: The signal model, for its low band.
        slope: Levels saved per dB that a frame is more than `MARGIN` below the loudest one.
    """

    low_basis: Tensor
    quadrature: Tensor

    def __init__(self, model: SignalModel, *, slope: float) -> None:
        super().__init__()
        self.hop_length = model.hop_length
        self.slope = slope
        self.memory = max(1, round(MEMORY_SECONDS * model.sample_rate / model.hop_length))
        low = without_mean(model.low_basis())
        self.register_buffer("low_basis", low.T.contiguous(), persistent=False)
        self.register_buffer("quadrature", low.flip(-1).T.contiguous(), persistent=False)
        self.loudest = _TrailingMaximum(self.memory)

    def forward(self, audio: Tensor, num_quantizers: Tensor, cache: Cache | None = None) -> Tensor:
        """Choose the number of levels of each frame.

        Args:
            audio: `[B, 1, F * hop_length]`.
            num_quantizers: Levels of a loud frame, int `[B]`.
            cache: Of a stream; None offline.

        Returns:
            int64 `[B, F]`, at least `min(num_quantizers, MIN_LEVELS)`.
        """
        with full_precision(audio.device), torch.no_grad():
            audio = with_left_context(self, audio.to(self.low_basis.dtype), self.hop_length, cache)
            _, power = transform_low_band(audio, self.low_basis, self.quadrature)
            loudness = DB * (power.mean(dim=-1) + FLOOR).log()
            below = self.loudest(loudness[:, None], cache)[:, 0] - MARGIN - loudness
            most = num_quantizers[:, None]
            levels = (most - self.slope * below.clamp_min(0)).round().long()
            return torch.maximum(levels, most.clamp_max(MIN_LEVELS))


class _TrailingMaximum(nn.Module):
    """Maximum of the last `size` values of `[B, C, F]`, including the present one."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, C, F]` to `[B, C, F]`; the signal starts after silence."""
        # Shifted so that zero, the context at the start of a signal, means silence.
        shifted = with_left_context(self, x - SILENCE, self.size - 1, cache)
        return functional.max_pool1d(shifted, self.size, stride=1) + SILENCE
