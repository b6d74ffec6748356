"""Encoders, audio [B, 1, T] -> latents [B, D, F]: by the signal model, and by strided convolutions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codec.dsp.spectral import lapped_transform
from codec.model.analysis import SignalAnalysis
from codec.model.audio_codec import MAX_PEAK
from codec.model.layers import Cache, ConvNeXtBlock, Downsample, Pointwise, start_as_identity
from codec.model.signal_model import SignalModel, cepstral_basis

START = 0.05
"""Initial scale of the output of a network that is added to a fixed transform."""


class EnvelopeEncoder(nn.Module):
    """ConvNeXt blocks on the features of the signal model, with a linear skip connection.

    At the start of training the skip connection passes the coefficients of the low band and the smooth part of the
    envelope, and the blocks add little. So an untrained model already codes speech.

    Args:
        model: The signal model, the same as the decoder's.
        channels: Width of the blocks.
        num_blocks: Number of ConvNeXt blocks.
        kernel_size: Of the depthwise convolutions (frames).
        expansion: Hidden width of a block divided by its width.
        latent_dim: Channels D of the latents.
    """

    def __init__(
        self,
        model: SignalModel,
        *,
        channels: int,
        num_blocks: int,
        kernel_size: int,
        expansion: float,
        latent_dim: int,
    ) -> None:
        super().__init__()
        self.max_peak = MAX_PEAK
        self.hop_length = model.hop_length
        self.latent_dim = latent_dim
        self.analysis = SignalAnalysis(model)
        num_features = model.num_low + model.num_log_powers
        self.project_in = Pointwise(num_features, channels, bias=True)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, kernel_size=kernel_size, expansion=expansion) for _ in range(num_blocks)
        )
        self.project_out = Pointwise(channels, latent_dim, bias=True)
        self.skip = Pointwise(num_features, latent_dim)
        with torch.no_grad():
            self.project_out.weight.mul_(START)
            self.skip.weight.copy_(start_map(model, latent_dim)[..., None])

    def forward(self, audio: Tensor, cache: Cache | None = None) -> Tensor:
        """Map audio `[B, 1, F * hop_length]` to latents `[B, D, F]`; frame f ends with sample (f + 1) * hop_length."""
        features = self.analysis(audio, cache).to(self.skip.weight.dtype)
        x = self.project_in(features)
        for block in self.blocks:
            x = block(x, cache)
        latents: Tensor = self.skip(features) + self.project_out(x)
        return latents


def start_map(model: SignalModel, latent_dim: int) -> Tensor:
    """Orthonormal rows `[D, num_low + num_log_powers]`: coefficients of the low band, then smooth envelopes.

    If D is too small for both, the envelope gets at least a third of the rows.
    """
    num_low = min(model.num_low, latent_dim - min(model.num_log_powers, -(-latent_dim // 3)))
    cepstra = cepstral_basis(model, latent_dim - num_low)
    rows = torch.zeros(latent_dim, model.num_low + model.num_log_powers)
    rows[:num_low, :num_low] = torch.eye(num_low)
    rows[num_low : num_low + len(cepstra), model.num_low :] = cepstra
    return rows


class Encoder(nn.Module):
    """Strided convolutions on the waveform with ConvNeXt blocks between them; one stage a stride.

    Args:
        strides: Downsampling factor of each stage; their product is the hop length (samples).
        channels: Width of each stage.
        num_blocks: ConvNeXt blocks of each stage.
        kernel_size: Of the depthwise convolutions (frames of their stage).
        expansion: Hidden width of a block divided by its width.
        latent_dim: Channels D of the latents.
    """

    def __init__(
        self,
        *,
        strides: Sequence[int],
        channels: Sequence[int],
        num_blocks: Sequence[int],
        kernel_size: int,
        expansion: float,
        latent_dim: int,
    ) -> None:
        super().__init__()
        self.max_peak = MAX_PEAK
        self.hop_length = math.prod(strides)
        self.latent_dim = latent_dim
        layers: list[nn.Module] = []
        width = 1
        for stride, next_width, depth in zip(strides, channels, num_blocks, strict=True):
            layers.append(Downsample(width, next_width, stride))
            layers += [ConvNeXtBlock(next_width, kernel_size=kernel_size, expansion=expansion) for _ in range(depth)]
            width = next_width
        self.layers = nn.ModuleList(layers)
        self.project = Pointwise(width, latent_dim)
        self._start_as_transform()

    @torch.no_grad()
    def _start_as_transform(self) -> None:
        """Start as a lapped transform with the hop of the first stride, passed on by the projection."""
        first = self.layers[0]
        assert isinstance(first, Downsample)
        first.filters.weight.copy_(lapped_transform(first.filters.out_channels, first.stride)[..., None])
        start_as_identity(self.project)

    def forward(self, audio: Tensor, cache: Cache | None = None) -> Tensor:
        """Map audio `[B, 1, F * hop_length]` to latents `[B, D, F]`; frame f ends with sample (f + 1) * hop_length."""
        latents = audio.to(self.project.weight.dtype)
        for layer in self.layers:
            latents = layer(latents, cache)
        projected: Tensor = self.project(latents)
        return projected
