"""Mel filterbanks (by torchaudio) and log-mel spectrograms, for losses, metrics and pictures."""

import warnings
from types import ModuleType
from typing import cast

import torch
from torch import Tensor, nn

from codec.errors import ConfigError, ModelError
from codec.precision import full_precision
from codec.spectral import stft

LOG_FLOOR = 1e-5  # of a mel magnitude, before the logarithm

# |X|^2 is kept above this: the square root has no gradient at 0. A band full of it stays far below LOG_FLOOR.
POWER_FLOOR = 1e-18


def mel_filterbank(sample_rate: int, fft_size: int, num_mels: int) -> Tensor:
    """Make triangular filters of peak 1, evenly spaced on the HTK mel scale from 0 Hz to sample_rate / 2.

    Returns:
        Weights [fft_size // 2 + 1, num_mels], float32.

    Raises:
        ConfigError: So many bands that a filter falls between two bins.
        ModelError: torchaudio can't be imported.
    """
    functional = _import_torchaudio_functional()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchaudio warns of an empty filter; ours is an error
        bank = functional.melscale_fbanks(
            n_freqs=fft_size // 2 + 1,
            f_min=0.0,
            f_max=sample_rate / 2,
            n_mels=num_mels,
            sample_rate=sample_rate,
            norm=None,
            mel_scale="htk",
        )
    num_empty = int((bank.amax(dim=0) == 0).sum())
    if num_empty:
        raise ConfigError(
            f"{num_empty} of {num_mels} mel filters hold no bin of a {fft_size}-point FFT at "
            f"{sample_rate} Hz: take fewer mels or a larger FFT"
        )
    return cast(Tensor, bank)


class MelSpectrogram(nn.Module):
    """Natural-log mel magnitudes of Hann frames, in float32 whatever autocast says.

    Args:
        sample_rate: Of the audio (Hz).
        fft_size: Frame length, even (samples).
        hop_length: Step between frames (samples).
        num_mels: Number of bands.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, sample_rate: int, fft_size: int, hop_length: int, num_mels: int):
        super().__init__()
        self.fft_size = fft_size
        self.hop_length = hop_length
        self.register_buffer("window", torch.hann_window(fft_size), persistent=False)
        self.register_buffer("filterbank", mel_filterbank(sample_rate, fft_size, num_mels), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Turn audio [B, 1, T] into log-mels [B, num_mels, T // hop_length + 1], at least log(1e-5)."""
        with full_precision(audio.device):
            spectrum = stft(audio.squeeze(1), self.fft_size, self.hop_length, self.window)
            power = spectrum.real.square() + spectrum.imag.square()
            magnitude = power.clamp_min(POWER_FLOOR).sqrt()
            return torch.matmul(self.filterbank.T, magnitude).clamp_min(LOG_FLOOR).log()


def _import_torchaudio_functional() -> ModuleType:
    """Import torchaudio late: its compiled part fails to load beside a torch that it was not built for."""
    try:
        import torchaudio.functional as functional
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            "torchaudio can't be imported beside this torch: torchaudio 2.11 needs torch "
            "2.11-2.14 with CUDA 13.0 wheels: pip install 'torch>=2.11,<2.15' torchaudio"
        ) from error
    return cast(ModuleType, functional)
