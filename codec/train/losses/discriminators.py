"""Discriminators: networks that learn to tell decoded audio [B, 1, T] from originals, and so show what is missing.

Two views of the signal. `PeriodDiscriminator` folds it at a period, so that what repeats or fails to repeat lies in a
column (HiFi-GAN, arXiv:2010.05646, section 2.3). `SpectralDiscriminator` sees the complex spectrum, band by band (DAC,
arXiv:2306.06546, section 3.3). We differ from both in what the networks are given: see
`codec.train.losses.adversarial`.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from codec.dsp.precision import full_precision
from codec.dsp.spectral import stft

SLOPE = 0.1  # of the activations below zero
BAND_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the bands of a spectrum, as shares of half the sample rate
COMPRESSION = 0.5  # exponent of the magnitudes of a spectrum: high frequencies of speech are 40 dB below low ones
NOISE_FLOOR = 1e-4  # power of a bin, relative to the mean one of a signal of level 1, below which this turns linear


class DiscriminatorOutput(NamedTuple):
    """What one discriminator makes of audio."""

    scores: Tensor
    """`[B, n]`, each of a stretch of the signal: towards 1 for an original, towards 0 for decoded audio."""
    features: list[Tensor]
    """`[B, C, ...]`, the outputs of its layers."""


class PeriodDiscriminator(nn.Module):
    """Convolutions along every `period`-th sample, the same for each of the `period` phases.

    Args:
        period: Samples.
        channels: Width of the first layer; the others are 4, 16, 32 and 32 times as wide.
    """

    def __init__(self, period: int, *, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, channels, 4 * channels, 16 * channels, 32 * channels, 32 * channels)
        self.layers = nn.ModuleList(
            _convolution(before, after, (5, 1), stride=(3 if number < 4 else 1, 1))
            for number, (before, after) in enumerate(itertools.pairwise(widths))
        )
        self.score = _convolution(widths[-1], 1, (3, 1))

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        """Judge audio `[B, 1, T]`; zeros complete the last period."""
        missing = -audio.shape[-1] % self.period
        folded = rearrange(functional.pad(audio, (0, missing)), "b c (t p) -> b c t p", p=self.period)
        return _judge(folded, self.layers, self.score)


class SpectralDiscriminator(nn.Module):
    """Convolutions over time and frequency of a complex spectrum, other ones for each of five bands.

    Args:
        fft_size: Of Hann frames whose hop is a quarter (samples).
        channels: Width of every layer.
    """

    window: Tensor

    def __init__(self, fft_size: int, *, channels: int) -> None:
        super().__init__()
        self.fft_size = fft_size
        window = torch.hann_window(fft_size)
        self.register_buffer("window", window / window.norm(), persistent=False)  # a bin has the power of the signal
        bins = fft_size // 2 + 1
        edges = [round(edge * bins) for edge in BAND_EDGES]
        self.bands = list(itertools.pairwise(edges))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    _convolution(2, channels, (3, 9)),
                    *(_convolution(channels, channels, (3, 9), stride=(1, 2)) for _ in range(3)),
                    _convolution(channels, channels, (3, 3)),
                ]
            )
            for _ in self.bands
        )
        self.score = _convolution(channels, 1, (3, 3))

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        """Judge audio `[B, 1, T]`."""
        spectrum = self._spectrum(audio)
        features: list[Tensor] = []
        ends = []
        for (low, high), layers in zip(self.bands, self.layers, strict=True):
            assert isinstance(layers, nn.ModuleList)
            features += (found := _features(spectrum[..., low:high], layers))
            ends.append(found[-1])
        scores: Tensor = self.score(torch.cat(ends, dim=-1))
        return DiscriminatorOutput(scores.flatten(1), features)

    def _spectrum(self, audio: Tensor) -> Tensor:
        """Real and imaginary parts of compressed spectra, `[B, 2, F, bins]`."""
        with full_precision(audio.device):
            spectrum = stft(audio.squeeze(1).float(), self.fft_size, self.fft_size // 4, self.window).mT
            power = spectrum.real.square() + spectrum.imag.square() + NOISE_FLOOR
            gain = power ** ((COMPRESSION - 1) / 2)
            return torch.stack([gain * spectrum.real, gain * spectrum.imag], dim=1)


class Discriminators(nn.Module):
    """All discriminators of a run.

    Args:
        periods: One `PeriodDiscriminator` each (samples).
        period_channels: Their width.
        fft_sizes: One `SpectralDiscriminator` each (samples).
        spectral_channels: Their width.
    """

    def __init__(
        self, *, periods: Sequence[int], period_channels: int, fft_sizes: Sequence[int], spectral_channels: int
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [
                *(PeriodDiscriminator(period, channels=period_channels) for period in periods),
                *(SpectralDiscriminator(fft_size, channels=spectral_channels) for fft_size in fft_sizes),
            ]
        )

    def forward(self, audio: Tensor) -> list[Tensor]:
        """Scores `[B, n]` of audio `[B, 1, T]`, whose level should be about one; all that their own training needs."""
        return [opinion.scores for opinion in self.judge(audio)]

    def judge(self, audio: Tensor) -> list[DiscriminatorOutput]:
        """Scores and features of audio `[B, 1, T]`."""
        return [part(audio) for part in self.parts]


def _convolution(
    in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> nn.Conv2d:
    padding = (kernel_size[0] // 2, kernel_size[1] // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
    nn.init.kaiming_normal_(conv.weight, a=SLOPE)  # features as large as the audio, in every layer
    return conv.to(memory_format=torch.channels_last)


def _features(x: Tensor, layers: nn.ModuleList) -> list[Tensor]:
    features: list[Tensor] = []
    x = x.contiguous(memory_format=torch.channels_last)  # else a GPU turns every tensor over, there and back
    for layer in layers:
        x = functional.leaky_relu(layer(x), SLOPE)
        features.append(x)
    return features


def _judge(x: Tensor, layers: nn.ModuleList, score: nn.Module) -> DiscriminatorOutput:
    features = _features(x, layers)
    scores: Tensor = score(features[-1])
    return DiscriminatorOutput(scores.flatten(1), features)
