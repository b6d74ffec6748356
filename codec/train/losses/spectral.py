"""Reconstruction losses on audio [B, 1, T], all in float32 with autocast off.

Each loss is the mean over items of a loss of the item, so the mean over equal shares of a batch (the ranks of
data-parallel training) is the loss of the whole batch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from codec.dsp.mel import LOG_FLOOR, POWER_FLOOR, mel_filterbank
from codec.dsp.precision import full_precision
from codec.dsp.spectral import stft
from codec.errors import ConfigError

TARGET_RMS = 0.1  # rms of originals (-20 dBFS) after `normalize_rms`
SILENCE_POWER = 3e-8  # mean power (-75 dBFS) that a quieter original is assumed to have
ERROR_FLOOR = 1e-3  # relative error energy at an SNR of 30 dB; a better waveform gains little
FFT_SIZES = (32, 64, 128, 256, 512, 1024, 2048)
NUM_MELS = (5, 8, 12, 20, 40, 80, 128)
BAND_FLOOR = 1e-6  # added to the power of a band; 40 dB below a bin of white noise that is as loud as the item
BAND_EDGES_HZ = (0.0, 250.0, 500.0, 1000.0, 1500.0, 2000.0, 3000.0, 4000.0, 6000.0, 8000.0)


def squared_error(audio: Tensor, target: Tensor) -> Tensor:
    """Compare waveforms by their mean squared error: the distortion of rate-distortion theory.

    Args:
        audio: Decoded audio [B, 1, T].
        target: Original audio [B, 1, T].

    Returns:
        Scalar.
    """
    return functional.mse_loss(audio.float(), target.float())


def waveform_loss(audio: Tensor, target: Tensor, *, highest: float = 1.0) -> Tensor:
    """Compare waveforms by log10 of the relative error energy: a tenth of minus the SNR in dB.

    0 for silent audio, -1 at an SNR of 10 dB. The logarithm gives loud and quiet, good and bad items the same weight.
    The floors bound the loss to -3 and keep its gradient finite if the target is silent or matched exactly.

    Args:
        audio: Decoded audio [B, 1, T].
        target: Original audio [B, 1, T].
        highest: Compare only below this share of half the sample rate: where the phase is not coded, silence has the
            least waveform error.

    Returns:
        Scalar.
    """
    with full_precision(audio.device):
        target = target.float().flatten(1)
        error = _energy_below(audio.float().flatten(1) - target, highest)
        power = _energy_below(target, highest)
        return (error / (power + SILENCE_POWER) + ERROR_FLOOR).log10().mean()


def _energy_below(audio: Tensor, share: float) -> Tensor:
    """Mean square `[B]` of the part of `[B, T]` below a share of half the sample rate (Parseval's theorem)."""
    num_samples = audio.shape[-1]
    if share >= 1:
        return audio.square().mean(dim=-1)
    spectrum = torch.fft.rfft(audio)[:, : max(1, round(share * (num_samples // 2)))]
    power: Tensor = (spectrum.real.square() + spectrum.imag.square()).sum(dim=-1)
    return power * 2 / num_samples**2


def normalize_rms(audio: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scale decoded audio and original `[B, 1, T]` by the gain that gives the original the rms `TARGET_RMS`.

    A quiet recording then counts as much as a loud one, and the floors of logarithms mean the same for both.
    """
    target = target.float()
    power = target.square().mean(dim=-1, keepdim=True).clamp_min(SILENCE_POWER)
    gain = TARGET_RMS / power.sqrt()
    return audio.float() * gain, target * gain


class MelDistance(nn.Module):
    """Mean absolute difference of natural-log mel magnitudes, mean over resolutions (Hann frames, hop fft_size / 4).

    As `codec.eval.metrics.spectral.mel_distance`, but in seven resolutions as in DAC (arXiv:2306.06546, section 3.4).

    Args:
        sample_rate: Sample rate of the audio (Hz).
        fft_sizes: One FFT size per resolution, divisible by 4 (samples).
        num_mels: Number of mel bands per resolution.

    Raises:
        ConfigError: The two lists differ in length, or a resolution has an empty mel filter.
        ModelError: torchaudio can't be imported.
    """

    def __init__(
        self, sample_rate: int, fft_sizes: Sequence[int] = FFT_SIZES, num_mels: Sequence[int] = NUM_MELS
    ) -> None:
        super().__init__()
        if not fft_sizes or len(fft_sizes) != len(num_mels):
            raise ConfigError(f"{len(fft_sizes)} FFT sizes, {len(num_mels)} counts of mels: give as many of both")
        self.resolutions = nn.ModuleList(
            _Resolution(sample_rate, fft_size, count) for fft_size, count in zip(fft_sizes, num_mels, strict=True)
        )

    def forward(self, audio: Tensor, target: Tensor) -> Tensor:
        """Compare audio [B, 1, T] with target [B, 1, T]; no gradient reaches the target."""
        distances = [resolution(audio.squeeze(1), target.squeeze(1)) for resolution in self.resolutions]
        return torch.stack(distances).mean()


class _Resolution(nn.Module):
    """One FFT size of `MelDistance`."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, sample_rate: int, fft_size: int, num_mels: int):
        super().__init__()
        if fft_size % 4:
            raise ConfigError(f"FFT size {fft_size} is not divisible by 4: choose one that is")
        self.fft_size = fft_size
        self.register_buffer("window", torch.hann_window(fft_size), persistent=False)
        self.register_buffer("filterbank", mel_filterbank(sample_rate, fft_size, num_mels), persistent=False)

    def forward(self, audio: Tensor, target: Tensor) -> Tensor:
        with full_precision(audio.device):
            with torch.no_grad():
                target_log_mel = self.log_mel(target)
            distance: Tensor = _LogMelDistance.apply(self.spectrum(audio), target_log_mel, self.filterbank)
            return distance

    def spectrum(self, audio: Tensor) -> Tensor:
        """Complex spectrum `[B, F, bins]` of audio `[B, T]`."""
        return stft(audio, self.fft_size, self.fft_size // 4, self.window).transpose(-1, -2)

    def log_mel(self, audio: Tensor) -> Tensor:
        """Log mel magnitudes `[B, F, num_mels]`."""
        return (_magnitude(self.spectrum(audio)) @ self.filterbank).clamp_min(LOG_FLOOR).log()


def _magnitude(spectrum: Tensor) -> Tensor:
    real, imag = torch.view_as_real(spectrum).unbind(-1)
    return real.square().addcmul_(imag, imag).clamp_min_(POWER_FLOOR).sqrt_()


class _LogMelDistance(torch.autograd.Function):
    """Mean of |log M - log M_Y| with M = |X| W, and its gradient (sign / M W^T) X / |X| / N.

    The gradient is written out because autograd through complex numbers is almost twice as slow on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, spectrum: Tensor, target_log_mel: Tensor, filterbank: Tensor) -> Tensor:
        magnitude = _magnitude(spectrum)
        mel = magnitude @ filterbank
        audible = mel > LOG_FLOOR
        mel.clamp_min_(LOG_FLOOR)
        difference = mel.log().sub_(target_log_mel)
        distance = difference.abs().mean()
        if ctx.needs_input_grad[0]:
            slope = difference.sign_().mul_(audible).div_(mel).div_(mel.numel())
            ctx.save_for_backward(spectrum, (slope @ filterbank.T).div_(magnitude))
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        spectrum, slope = ctx.saved_tensors
        return spectrum * (slope * gradient), None, None


class BandErrors(NamedTuple):
    """Power errors of decoded audio in frequency bands."""

    energy: Tensor
    """Mean absolute natural log of the ratio of a band's energies over the whole item; a loss."""
    error_db: Tensor
    """Mean absolute difference of the powers of bands in frames of 64 ms (dB), without gradient. It shows bands that
    are too quiet or too loud, which other metrics hide."""


class BandComparison(nn.Module):
    """Compares the powers of the frequency bands between `BAND_EDGES_HZ`.

    Args:
        sample_rate: Sample rate of the audio (Hz).
    """

    window: Tensor
    bands: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.fft_size = 4 * round(0.016 * sample_rate)
        frequency = torch.arange(self.fft_size // 2 + 1) * (sample_rate / self.fft_size)
        edges = torch.tensor(BAND_EDGES_HZ)
        inside = (frequency >= edges[:-1, None]) & (frequency < edges[1:, None])
        window = torch.hann_window(self.fft_size)
        self.register_buffer("window", window / window.norm(), persistent=False)
        self.register_buffer("bands", inside[inside.any(dim=1)].float(), persistent=False)

    def forward(self, audio: Tensor, target: Tensor) -> BandErrors:
        """Compare decoded audio `[B, 1, T]` with the original `[B, 1, T]`."""
        with full_precision(audio.device):
            decoded, original = (self._powers(each) for each in normalize_rms(audio, target))
            energy = (decoded.mean(dim=-1) / original.mean(dim=-1)).log().abs().mean()
            error_db = 10 * (decoded.detach() / original).log10().abs().mean()
        return BandErrors(energy, error_db)

    def _powers(self, audio: Tensor) -> Tensor:
        """Power of each band in each frame, `[B, bands, F]`."""
        spectrum = stft(audio.squeeze(1), self.fft_size, self.fft_size // 2, self.window)
        return torch.matmul(self.bands, spectrum.real.square() + spectrum.imag.square()) + BAND_FLOOR
