"""The arrow `quantized [B, D, F] -> audio [B, 1, T]`: two decoder vocoders with the same call.

A decoder emits whole hops. `delay` is how many samples its output lags behind the audio that the encoder saw: frames
longer than a hop are complete only when the frames that overlap them have come.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codec.model.encoder import START, start_map
from codec.model.layers import (
    Cache,
    CausalConv1d,
    ConvNeXtBlock,
    Pointwise,
    Snake,
    SnakeResidualUnit,
    Upsample,
)
from codec.model.signal_model import SignalModel
from codec.model.synthesis import HarmonicNoiseSynthesis

FIRST_LOGIT = 2.0
"""Of the share of harmonics, below the frequency where speech becomes noisy; above it minus this."""
HARMONIC_TO_HZ = 3000.0


class HarmonicNoiseDecoder(nn.Module):
    """ConvNeXt blocks at the frame rate that control the synthesis of the signal model, and a linear map past them.

    It begins as the inverse of what an `EnvelopeEncoder` begins as. Nothing learned runs at the sample rate.
    """

    def __init__(
        self,
        model: SignalModel,
        *,
        latent_dim: int,
        channels: int,
        num_blocks: int,
        kernel_size: int,
        expansion: float,
    ) -> None:
        super().__init__()
        self.hop_length = model.hop_length
        self.synthesis = HarmonicNoiseSynthesis(model)
        self.delay = self.synthesis.delay
        self.project_in = Pointwise(latent_dim, channels, bias=True)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, kernel_size=kernel_size, expansion=expansion) for _ in range(num_blocks)
        )
        self.project_out = Pointwise(channels, self.synthesis.size, bias=True)
        self.skip = Pointwise(latent_dim, self.synthesis.size)
        self._start_as_inverse(model, latent_dim)

    @torch.no_grad()
    def _start_as_inverse(self, model: SignalModel, latent_dim: int) -> None:
        rows = start_map(model, latent_dim)
        self.skip.weight.zero_()
        self.skip.weight[: rows.shape[1], :, 0] = rows.T
        self.project_out.weight.mul_(START)
        assert self.project_out.bias is not None
        self.project_out.bias.zero_()
        frequency = model.high_frequencies()
        weights = model.high_interpolation(frequency).double()
        centres = (weights * frequency).sum(dim=1) / weights.sum(dim=1)
        logits = torch.where(centres < HARMONIC_TO_HZ, FIRST_LOGIT, -FIRST_LOGIT)
        self.project_out.bias[rows.shape[1] :] = logits.repeat((self.synthesis.size - rows.shape[1]) // len(logits))

    def cache_at(self, frame: Tensor) -> Cache:
        """The cache of streams whose next frames have these numbers, int `[B]`, as if only silence had been before."""
        return self.synthesis.noise.cache_at(frame)

    def forward(self, quantized: Tensor, cache: Cache | None = None) -> Tensor:
        """Map quantized latents `[B, D, F]` to audio `[B, 1, F * hop_length]`, `delay` samples late."""
        quantized = quantized.to(self.skip.weight.dtype)
        x = self.project_in(quantized)
        for block in self.blocks:
            x = block(x, cache)
        audio: Tensor = self.synthesis(self.skip(quantized) + self.project_out(x), cache)
        return audio


class UpsampleDecoder(nn.Module):
    """Strided upsampling vocoder with Snake activations (DAC, arXiv:2306.06546), made causal; its own delay is zero.

    Args:
        latent_dim: Channels D of the quantized latents.
        strides: Upsampling factor of each stage, first to last; their product is the hop length.
        channels: Width before the first stage; halved by every stage.
        dilations: Of the residual units of each stage.
    """

    def __init__(
        self, *, latent_dim: int, strides: Sequence[int], channels: int, dilations: Sequence[int] = (1, 3, 9)
    ) -> None:
        super().__init__()
        self.hop_length = math.prod(strides)
        self.delay = 0
        layers: list[nn.Module] = [CausalConv1d(latent_dim, channels, 7)]
        for stride in strides:
            layers += [Snake(channels), Upsample(channels, channels // 2, stride)]
            channels //= 2
            layers += [SnakeResidualUnit(channels, dilation=dilation) for dilation in dilations]
        layers += [Snake(channels), CausalConv1d(channels, 1, 7)]
        self.layers = nn.ModuleList(layers)

    def cache_at(self, frame: Tensor) -> Cache:
        """The cache of streams whose next frames have these numbers: empty, what is decoded does not depend on them."""
        return {}

    def forward(self, quantized: Tensor, cache: Cache | None = None) -> Tensor:
        """Map quantized latents `[B, D, F]` to audio `[B, 1, F * hop_length]`."""
        x = quantized.to(next(self.parameters()).dtype)
        for layer in self.layers:
            x = layer(x) if isinstance(layer, Snake) else layer(x, cache)
        return x
