"""Encoder and decoder that change nothing, to study a quantizer on its own: vectors are cut from the signal."""

import math

from einops import rearrange
from torch import Tensor, nn

from codec.model.layers import Cache


class IdentityEncoder(nn.Module):
    """Reshapes audio to latents: the samples of a frame are its channels. They may be any numbers, not only audio."""

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        self.max_peak = math.inf
        self.hop_length = hop_length

    def forward(self, audio: Tensor, cache: Cache | None = None) -> Tensor:
        """Map audio `[B, 1, F * hop_length]` to latents `[B, hop_length, F]`."""
        return rearrange(audio, "b 1 (f d) -> b d f", d=self.hop_length)


class IdentityDecoder(nn.Module):
    """Reshapes quantized latents to audio; its delay is zero."""

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.delay = self.context_frames = 0

    def cache_at(self, frame: Tensor) -> Cache:
        """An empty cache: the output does not depend on the frame number."""
        return {}

    def forward(self, quantized: Tensor, cache: Cache | None = None) -> Tensor:
        """Map quantized latents `[B, hop_length, F]` to audio `[B, 1, F * hop_length]`."""
        return rearrange(quantized, "b d f -> b 1 (f d)")
