"""Reconstruction losses on audio [B, 1, T], all in float32 with autocast off.

Each loss is the mean over items of a loss of the item, so the average over equal shares of a batch (the ranks
of data-parallel training) is the value of the whole batch. Distances to the codebook live with the quantizer,
adversarial losses with the discriminators.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from codec.errors import ConfigError
from codec.precision import full_precision
from codec.spectral import stft
from codec.train.mel import LOG_FLOOR, POWER_FLOOR, mel_filterbank

SILENCE_POWER = 1e-6  # a target quieter than -60 dBFS is judged as if it had this mean power
ERROR_FLOOR = 1e-3  # beyond a signal-to-noise ratio of 30 dB there is little left to gain
COMPRESSION = 0.3  # exponent of the magnitudes in the STFT loss
NOISE_FLOOR = 1e-8  # mean power, -80 dBFS, of the noise below which compression turns linear


def squared_error(audio: Tensor, target: Tensor) -> Tensor:
    """Compare waveforms by their mean squared error: the distortion of rate-distortion theory.

    Args:
        audio: Decoded audio [B, 1, T].
        target: Original audio [B, 1, T].

    Returns:
        Scalar.
    """
    return functional.mse_loss(audio.float(), target.float())


def waveform_loss(audio: Tensor, target: Tensor) -> Tensor:
    """Compare waveforms by log10 of the relative error energy: a tenth of minus the SNR in dB.

    0 for silent audio, -1 at 10 dB. The logarithm weighs loud and quiet, good and bad items alike; the floors
    bound it to -3 and keep its gradient finite where the target is silent or met exactly.

    Args:
        audio: Decoded audio [B, 1, T].
        target: Original audio [B, 1, T].

    Returns:
        Scalar.
    """
    with full_precision(audio.device):
        audio, target = audio.float().flatten(1), target.float().flatten(1)
        error = (audio - target).square().mean(dim=-1)
        power = target.square().mean(dim=-1)
        return (error / (power + SILENCE_POWER) + ERROR_FLOOR).log10().mean()


class SpectralDistance(NamedTuple):
    """The two scalars of `SpectralLosses`."""

    mel: Tensor
    """Mean absolute difference of natural-log mel magnitudes."""

    stft: Tensor
    """Mean squared difference of power-law compressed spectra."""


class SpectralLosses(nn.Module):
    """Multi-resolution mel and STFT losses that share their transforms (Hann frames, hop fft_size / 4).

    `mel` is the training twin of `codec.eval.metrics.mel_distance`. `stft` is the error of compressed spectra
    of Braun & Tashev (arXiv:2009.12286) with equal halves,

        0.5 * (|X|^c - |Y|^c)^2 + 0.5 * | |X|^c e^(i arg X) - |Y|^c e^(i arg Y) |^2,    c = 0.3,

    averaged over bins, frames and resolutions. We differ in scaling the windows to unit energy, so that every
    resolution weighs the same, and in a noise floor added to |X|^2, because |X|^c has no gradient at 0.

    Args:
        sample_rate: Of the audio (Hz).
        fft_sizes: One FFT size per resolution, divisible by 4 (samples).
        num_mels: Number of mel bands per resolution.

    Raises:
        ConfigError: The two lists differ in length, or a resolution has an empty mel filter.
        ModelError: torchaudio can't be imported.
    """

    def __init__(
        self,
        sample_rate: int,
        fft_sizes: Sequence[int] = (256, 512, 1024, 2048),
        num_mels: Sequence[int] = (20, 40, 80, 128),
    ):
        super().__init__()
        if not fft_sizes or len(fft_sizes) != len(num_mels):
            raise ConfigError(f"{len(fft_sizes)} FFT sizes, {len(num_mels)} counts of mels: give as many of both")
        self.resolutions = nn.ModuleList(
            _Resolution(sample_rate, fft_size, count) for fft_size, count in zip(fft_sizes, num_mels, strict=True)
        )

    def forward(self, audio: Tensor, target: Tensor) -> SpectralDistance:
        """Compare audio [B, 1, T] with target [B, 1, T]; no gradient reaches the target."""
        distances = [resolution(audio.squeeze(1), target.squeeze(1)) for resolution in self.resolutions]
        return SpectralDistance(*(torch.stack(terms).mean() for terms in zip(*distances, strict=True)))


class _Resolution(nn.Module):
    """One FFT size of `SpectralLosses`."""

    window: Tensor
    filterbank: Tensor

    def __init__(self, sample_rate: int, fft_size: int, num_mels: int):
        super().__init__()
        if fft_size % 4:
            raise ConfigError(f"FFT size {fft_size} is not divisible by 4: choose one that is")
        window = torch.hann_window(fft_size)
        scale = window.norm()
        filterbank = mel_filterbank(sample_rate, fft_size, num_mels)
        self.fft_size = fft_size
        self.register_buffer("window", window / scale, persistent=False)
        self.register_buffer("filterbank", filterbank * scale, persistent=False)  # mels of the unscaled window

    def forward(self, audio: Tensor, target: Tensor) -> SpectralDistance:
        with full_precision(audio.device):
            with torch.no_grad():
                target_spectrum = self.spectrum(target)
            return SpectralDistance(*_Distance.apply(self.spectrum(audio), target_spectrum, self.filterbank))

    def spectrum(self, audio: Tensor) -> Tensor:
        """Transform audio [B, T] into frames of bins [B, F, bins]."""
        return stft(audio, self.fft_size, self.fft_size // 4, self.window).transpose(-1, -2)


class _Distance(torch.autograd.Function):
    """Mel and STFT distance of two spectra [B, F, bins], with the gradient written out.

    Autograd through complex numbers makes the loss almost twice as slow on a CPU. With S = |X|^2 + floor,
    gain = S^((c-1)/2), size = S^(c/2), D and d the differences of compressed spectra and sizes, M = |X| W,
    and N and N_mel the number of bins and of mel values:

        stft = sum(|D|^2 + d^2) / 2N      gradient (gain D + ((c-1) gain Re(D X*) + c size d) / S X) / N
        mel = sum|log M - log M_Y| / N_mel      gradient (sign(log M - log M_Y) / M W^T) / |X| X / N_mel
    """

    @staticmethod
    def forward(ctx: Any, spectrum: Tensor, target: Tensor, filterbank: Tensor) -> tuple[Tensor, Tensor]:
        ours, theirs = _Compressed.of(spectrum), _Compressed.of(target)
        real = (ours.gain * ours.real).sub_(theirs.real.mul_(theirs.gain))
        imag = (ours.gain * ours.imag).sub_(theirs.imag.mul_(theirs.gain))
        size = ours.size - theirs.size
        stft_distance = 0.5 * (real.square().mean() + imag.square().mean() + size.square().mean())

        mel = (ours.magnitude @ filterbank).clamp_min_(LOG_FLOOR)
        log_ratio = (mel / (theirs.magnitude @ filterbank).clamp_min_(LOG_FLOOR)).log_()
        mel_distance = log_ratio.abs().mean()
        if ctx.needs_input_grad[0]:
            slope = log_ratio.sign_().mul_(mel > LOG_FLOOR).div_(mel).div_(mel.numel())
            mel_slope = (slope @ filterbank.T).div_(ours.magnitude)  # times X: the gradient of mel
            radial = torch.mul(real, ours.real).addcmul_(imag, ours.imag).mul_(ours.gain).mul_(COMPRESSION - 1)
            radial.addcmul_(ours.size, size, value=COMPRESSION).div_(ours.power)
            real.mul_(ours.gain).addcmul_(radial, ours.real).div_(real.numel())
            imag.mul_(ours.gain).addcmul_(radial, ours.imag).div_(imag.numel())
            ctx.save_for_backward(ours.real, ours.imag, mel_slope, real, imag)
        return mel_distance, stft_distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mel_gradient: Tensor, stft_gradient: Tensor) -> tuple[Tensor, None, None]:
        spectrum_real, spectrum_imag, mel_slope, stft_real, stft_imag = ctx.saved_tensors
        mel_slope = mel_slope * mel_gradient
        real = (stft_real * stft_gradient).addcmul_(mel_slope, spectrum_real)
        imag = (stft_imag * stft_gradient).addcmul_(mel_slope, spectrum_imag)
        return torch.complex(real, imag), None, None


class _Compressed(NamedTuple):
    """A spectrum [B, F, bins] in the parts that `_Distance` needs, all real and contiguous."""

    real: Tensor
    imag: Tensor
    magnitude: Tensor
    power: Tensor
    gain: Tensor
    size: Tensor

    @classmethod
    def of(cls, spectrum: Tensor) -> "_Compressed":
        real, imag = spectrum.real.contiguous(), spectrum.imag.contiguous()
        power = real.square().addcmul_(imag, imag)
        magnitude = power.clamp_min(POWER_FLOOR).sqrt_()
        power.add_(NOISE_FLOOR)
        gain = power.log().mul_((COMPRESSION - 1) / 2).exp_()  # faster than pow
        return cls(real, imag, magnitude, power, gain, power.sqrt().mul_(gain))
