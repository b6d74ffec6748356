"""How many levels of the quantizer each frame gets: a variable bitrate by loudness, decided by the encoder alone.

What is quiet beside what was heard just before is masked, or matters less: such frames do without some of the last
levels. Their codes are 0 there, which stands for no change, and cost an entropy coder next to nothing. The
loudness of a sound grows as its power to about 0.3 (Stevens, "The measurement of loudness", 1955), and a level of a
residual quantizer lowers the error by about 1 dB; so a frame that is 1 dB quieter needs 0.3 levels less for an error of
the same loudness.
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
"""Below the loudest frame, at which saving begins (dB)."""
MEMORY_SECONDS = 2.0
"""A frame is compared with the loudest one of so long before it."""
MIN_LEVELS = 3
"""That every frame gets: the first levels hold the envelope."""
DB = 4.342944819032518
"""Decibels of power in a natural logarithm."""
SILENCE = DB * math.log(FLOOR)
"""Loudness of digital silence (dB)."""


class LevelAllocation(nn.Module):
    """Levels of each frame, by the power of its low band; causal, and independent of the gain of the signal.

    Args:
        model: The signal model, for its low band.
        slope: Levels saved for each dB below the loudest frame less `MARGIN`.
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
        """Say how many of `num_quantizers` levels each frame gets.

        Args:
            audio: `[B, 1, F * hop_length]`.
            num_quantizers: Levels of a loud frame, int `[B]`.
            cache: Of a stream.

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
    """Maximum of the last `size` values of `[B, C, F]`, the present one included."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, C, F]` to `[B, C, F]`; what was before the signal has no influence."""
        # The context of a new signal is zeros, which are to stand for silence: a shift makes them so.
        shifted = with_left_context(self, x - SILENCE, self.size - 1, cache)
        return functional.max_pool1d(shifted, self.size, stride=1) + SILENCE
