"""Discriminators: networks that learn to tell decoded audio `[B, 1, T]` from originals.

`PeriodDiscriminator` folds the signal at a period, so samples one period apart lie in a column (HiFi-GAN,
arXiv:2010.05646, section 2.3). `SpectralDiscriminator` sees the complex spectrum, band by band (DAC, arXiv:2306.06546,
section 3.3). We differ from both in the input: audio is scaled (`codec.train.losses.adversarial.at_unit_rms`) and
spectra are compressed.
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

SLOPE = 0.1  # of the leaky ReLU below zero
BAND_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the bands, as shares of half the sample rate
NUM_BANDS = len(BAND_EDGES) - 1
COMPRESSION = 0.5  # exponent of the magnitudes: high frequencies of speech are 40 dB below low ones
NOISE_FLOOR = 1e-4  # power of a bin below which compression turns linear; the mean power is 1 at rms 1


class DiscriminatorOutput(NamedTuple):
    """Output of one discriminator."""

    scores: Tensor
    """`[B, n]`, one for each stretch of the signal; trained towards 1 for originals and 0 for decoded audio."""
    features: list[Tensor]
    """Outputs of its layers, `[B, C, ...]`."""


class PeriodDiscriminator(nn.Module):
    """Convolutions along every `period`-th sample, the same for each of the `period` phases.

    Args:
        period: Period (samples).
        channels: Channels of the first layer; the others have 4, 16, 32 and 32 times as many.
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
        """Judge audio `[B, 1, T]`; the last period is padded with zeros."""
        missing = -audio.shape[-1] % self.period
        folded = rearrange(functional.pad(audio, (0, missing)), "b c (t p) -> b c t p", p=self.period)
        return _judge(folded, self.layers, self.score)


class SpectralDiscriminator(nn.Module):
    """Convolutions over time and frequency of a complex spectrum, with separate weights for each band.

    Args:
        fft_size: FFT size of Hann frames with a hop of a quarter of it (samples).
        channels: Channels of every layer.
        num_bands: Bands to judge, from the lowest of those between `BAND_EDGES`.
    """

    window: Tensor

    def __init__(self, fft_size: int, *, channels: int, num_bands: int = NUM_BANDS) -> None:
        super().__init__()
        self.fft_size = fft_size
        window = torch.hann_window(fft_size)
        self.register_buffer(
            "window", window / window.norm(), persistent=False
        )  # the mean power of a bin is that of the signal
        bins = fft_size // 2 + 1
        edges = [round(edge * bins) for edge in BAND_EDGES[: num_bands + 1]]
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
            of_band = _features(spectrum[..., low:high], layers)
            features += of_band
            ends.append(of_band[-1])
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
        periods: Period of each `PeriodDiscriminator` (samples).
        period_channels: Channels of their first layer.
        fft_sizes: FFT size of each `SpectralDiscriminator` (samples).
        spectral_channels: Channels of their layers.
        spectral_bands: Bands that they judge, from the lowest, 1 .. `NUM_BANDS`.
    """

    def __init__(
        self,
        *,
        periods: Sequence[int],
        period_channels: int,
        fft_sizes: Sequence[int],
        spectral_channels: int,
        spectral_bands: int = NUM_BANDS,
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [
                *(PeriodDiscriminator(period, channels=period_channels) for period in periods),
                *(
                    SpectralDiscriminator(fft_size, channels=spectral_channels, num_bands=spectral_bands)
                    for fft_size in fft_sizes
                ),
            ]
        )

    def forward(self, audio: Tensor) -> list[Tensor]:
        """Scores `[B, n]` of audio `[B, 1, T]` of rms about 1: what their own loss needs."""
        return [output.scores for output in self.judge(audio)]

    def judge(self, audio: Tensor) -> list[DiscriminatorOutput]:
        """Scores and features of audio `[B, 1, T]` of rms about 1."""
        return [part(audio) for part in self.parts]


def _convolution(
    in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> nn.Conv2d:
    padding = (kernel_size[0] // 2, kernel_size[1] // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
    nn.init.kaiming_normal_(conv.weight, a=SLOPE)  # features have the size of the audio in every layer
    return conv.to(memory_format=torch.channels_last)


def _features(x: Tensor, layers: nn.ModuleList) -> list[Tensor]:
    """Outputs of all layers in turn."""
    features: list[Tensor] = []
    x = x.contiguous(memory_format=torch.channels_last)  # otherwise a GPU transposes before and after each convolution
    for layer in layers:
        x = functional.leaky_relu(layer(x), SLOPE)
        features.append(x)
    return features


def _judge(x: Tensor, layers: nn.ModuleList, score: nn.Module) -> DiscriminatorOutput:
    features = _features(x, layers)
    scores: Tensor = score(features[-1])
    return DiscriminatorOutput(scores.flatten(1), features)
