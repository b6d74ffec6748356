"""Decoder vocoders, quantized latents [B, D, F] -> audio [B, 1, T]: by the signal model, and by strided upsampling.

A decoder returns whole hops. Its output lags `delay` samples behind the input of the encoder: a frame that is longer
than a hop is complete only when the frames that overlap it have arrived. The audio of a frame also depends on
`context_frames` frames before it: one that starts in the middle of a signal gives, after so many, what the whole gives.
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
    start_with_gain,
)
from codec.model.signal_model import SignalModel
from codec.model.synthesis import HarmonicNoiseSynthesis

FIRST_LOGIT = 2.0
"""Initial logit of the share of harmonics below `HARMONIC_TO_HZ`; minus this above."""
HARMONIC_TO_HZ = 3000.0
"""Speech is mostly noise above this frequency (Hz)."""
DILATIONS = (1, 3, 9)
"""Of the residual units of each stage of `UpsampleDecoder`."""


class HarmonicNoiseDecoder(nn.Module):
    """ConvNeXt blocks with a linear skip connection that control the synthesis of the signal model.

    At the start of training it is the inverse of an untrained `EnvelopeEncoder`. All learned layers run at the frame
    rate.

    Args:
        model: The signal model, the same as the encoder's.
        latent_dim: Channels D of the quantized latents.
        channels: Width of the blocks.
        num_blocks: Number of ConvNeXt blocks.
        kernel_size: Of the depthwise convolutions (frames).
        expansion: Hidden width of a block divided by its width.
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
        self.context_frames = num_blocks * (kernel_size - 1) + self.synthesis.context_frames
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
        """Cache of streams at frame numbers `frame`, int `[B]`, after silence."""
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
    """Strided upsampling vocoder with Snake activations (DAC, arXiv:2306.06546), made causal; its delay is zero.

    Args:
        latent_dim: Channels D of the quantized latents.
        strides: Upsampling factor of each stage, first to last; their product is the hop length.
        channels: Width before the first stage; halved by every stage.
    """

    def __init__(self, *, latent_dim: int, strides: Sequence[int], channels: int) -> None:
        super().__init__()
        self.hop_length = math.prod(strides)
        self.delay = 0
        layers: list[nn.Module] = [start_with_gain(CausalConv1d(latent_dim, channels, 7), 1.0)]
        for stride in strides:
            layers += [Snake(channels), Upsample(channels, channels // 2, stride)]
            channels //= 2
            layers += [SnakeResidualUnit(channels, dilation=dilation) for dilation in DILATIONS]
        layers += [Snake(channels), start_with_gain(CausalConv1d(channels, 1, 7), 0.1)]  # audio has an rms near 0.1
        self.layers = nn.ModuleList(layers)
        self.context_frames = self._count_context()

    def _count_context(self) -> int:
        """Follow the first sample of a frame back, from the last layer to the first."""
        context = 0  # in the unit of time of the layer's output
        for layer in reversed(self.layers):
            if isinstance(layer, Upsample):
                context = -(-context // layer.stride) + layer.conv.context
            elif isinstance(layer, SnakeResidualUnit):
                context += layer.conv.context
            elif isinstance(layer, CausalConv1d):
                context += layer.context
        return context

    def cache_at(self, frame: Tensor) -> Cache:
        """An empty cache: the output does not depend on the frame number."""
        return {}

    def forward(self, quantized: Tensor, cache: Cache | None = None) -> Tensor:
        """Map quantized latents `[B, D, F]` to audio `[B, 1, F * hop_length]`."""
        x = quantized.to(next(self.parameters()).dtype)
        for layer in self.layers:
            x = layer(x) if isinstance(layer, Snake) else layer(x, cache)
        return x
