"""The arrow `quantized [B, D, F] -> audio [B, 1, T]`: two decoder vocoders with the same call.

A decoder emits whole hops. `delay` is how many samples its output lags behind the audio that the encoder saw: frames
longer than a hop are complete only when the frames that overlap them have come.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codec.model.layers import (
    Cache,
    CausalConv1d,
    ConvNeXtBlock,
    Pointwise,
    Snake,
    SnakeResidualUnit,
    Upsample,
    start_as_identity,
    with_left_context,
)
from codec.precision import full_precision
from codec.spectral import lapped_transform, overlap_add, synthesis_window


class OverlapAddHead(nn.Module):
    """Learned synthesis frames: a linear map from channels to a frame of samples, overlap-added."""

    def __init__(self, channels: int, *, frame_length: int, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.frame_length = frame_length
        self.frames = Pointwise(channels, frame_length)
        self._start_as_transform()

    @torch.no_grad()
    def _start_as_transform(self) -> None:
        """Begin as the inverse of the transform that the encoder begins as, or at least with smooth frame edges."""
        if self.frame_length == 2 * self.hop_length:
            self.frames.weight.copy_(lapped_transform(self.frames.in_channels, self.hop_length).T[..., None])
        else:
            self.frames.weight.mul_(synthesis_window(self.frame_length, self.hop_length)[:, None, None])

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, C, F]` to audio `[B, 1, F * hop_length]`."""
        return _overlap_add(self, self.frames(x), self.hop_length, cache)


class ISTFTHead(nn.Module):
    """Magnitude and phase of a short-time spectrum, inverted and overlap-added (Vocos, arXiv:2306.00814, 3.2)."""

    window: Tensor

    def __init__(self, channels: int, *, frame_length: int, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.frame_length = frame_length
        self.spectrum = Pointwise(channels, 2 * (frame_length // 2 + 1), bias=True)
        self.register_buffer("window", synthesis_window(frame_length, hop_length), persistent=False)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, C, F]` to audio `[B, 1, F * hop_length]`."""
        log_magnitude, phase = self.spectrum(x).mT.chunk(2, dim=-1)
        with full_precision(x.device):
            # The ceiling keeps a wild prediction from overflowing: e^7 is far above any frame of audio in [-1, 1].
            magnitude = log_magnitude.float().clamp(max=7.0).exp()
            frames = torch.fft.irfft(torch.polar(magnitude, phase.float()), n=self.frame_length)
            return _overlap_add(self, (frames * self.window).mT, self.hop_length, cache)


class MDCTHead(nn.Module):
    """Coefficients of the modified discrete cosine transform, put into its fixed basis and overlap-added."""

    basis: Tensor

    def __init__(self, channels: int, *, frame_length: int, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.frame_length = frame_length
        self.coefficients = start_as_identity(Pointwise(channels, hop_length))
        self.register_buffer("basis", lapped_transform(hop_length, hop_length), persistent=False)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, C, F]` to audio `[B, 1, F * hop_length]`."""
        frames = self.coefficients(x).mT @ self.basis
        return _overlap_add(self, frames.mT, self.hop_length, cache)


def _overlap_add(head: nn.Module, frames: Tensor, hop_length: int, cache: Cache | None) -> Tensor:
    overlap = frames.shape[1] // hop_length - 1
    return overlap_add(with_left_context(head, frames, overlap, cache), hop_length)


class ConvNeXtDecoder(nn.Module):
    """ConvNeXt blocks at the frame rate and a synthesis head: nothing runs at the sample rate but the overlap-add."""

    def __init__(
        self,
        *,
        latent_dim: int,
        channels: int,
        num_blocks: int,
        kernel_size: int,
        expansion: float,
        head: OverlapAddHead | ISTFTHead | MDCTHead,
    ) -> None:
        super().__init__()
        self.hop_length = head.hop_length
        self.delay = head.frame_length - head.hop_length
        self.project = Pointwise(latent_dim, channels)
        start_as_identity(self.project)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, kernel_size=kernel_size, expansion=expansion) for _ in range(num_blocks)
        )
        self.head = head

    def forward(self, quantized: Tensor, cache: Cache | None = None) -> Tensor:
        """Map quantized latents `[B, D, F]` to audio `[B, 1, F * hop_length]`, `delay` samples late."""
        x = self.project(quantized)
        for block in self.blocks:
            x = block(x, cache)
        audio: Tensor = self.head(x, cache)
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

    def forward(self, quantized: Tensor, cache: Cache | None = None) -> Tensor:
        """Map quantized latents `[B, D, F]` to audio `[B, 1, F * hop_length]`."""
        x = quantized
        for layer in self.layers:
            x = layer(x) if isinstance(layer, Snake) else layer(x, cache)
        return x
