"""The arrow `audio [B, 1, T] -> latents [B, D, F]`: strided causal convolutions with ConvNeXt blocks between them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codec.model.layers import Cache, ConvNeXtBlock, Downsample, Pointwise, SpectralDownsample, start_as_identity
from codec.spectral import lapped_transform


class Encoder(nn.Module):
    """Convolutional encoder; one stage a stride.

    A stage divides the rate by its stride and then refines at the new rate. Every layer is homogeneous, so latents
    scale with the audio: encoder(a x) = a encoder(x).

    Args:
        front: The first strided layer: "filterbank" is learned from samples, "stft" from spectra.
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
        front: str = "filterbank",
        strides: Sequence[int],
        channels: Sequence[int],
        num_blocks: Sequence[int],
        kernel_size: int,
        expansion: float,
        latent_dim: int,
    ) -> None:
        super().__init__()
        self.hop_length = math.prod(strides)
        self.latent_dim = latent_dim
        layers: list[nn.Module] = []
        width = 1
        for number, (stride, next_width, depth) in enumerate(zip(strides, channels, num_blocks, strict=True)):
            is_spectral = front == "stft" and number == 0
            layers.append(
                SpectralDownsample(next_width, stride) if is_spectral else Downsample(width, next_width, stride)
            )
            layers += [ConvNeXtBlock(next_width, kernel_size=kernel_size, expansion=expansion) for _ in range(depth)]
            width = next_width
        self.layers = nn.ModuleList(layers)
        self.project = Pointwise(width, latent_dim)
        self._start_as_transform()

    @torch.no_grad()
    def _start_as_transform(self) -> None:
        """Begin as a lapped transform of the first stride, whose channels pass through.

        Such a codec loses little at once. From a random start the residual branches drown the signal for hundreds of
        steps: 0 dB SNR after 100 of them, against 11.7 dB (speech_16khz, unquantized).
        """
        first = self.layers[0]
        if isinstance(first, Downsample):
            first.filters.weight.copy_(lapped_transform(first.filters.out_channels, first.stride)[..., None])
        start_as_identity(self.project)

    def forward(self, audio: Tensor, cache: Cache | None = None) -> Tensor:
        """Map audio `[B, 1, F * hop_length]` to latents `[B, D, F]`; frame f ends with sample (f + 1) * hop_length."""
        latents = audio
        for layer in self.layers:
            latents = layer(latents, cache)
        projected: Tensor = self.project(latents)
        return projected
