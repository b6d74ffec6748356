"""Mel filterbanks (by torchaudio) and log-mel spectrograms, for losses, metrics and pictures."""

import warnings
from types import ModuleType
from typing import cast

from torch import Tensor

from codec.errors import ConfigError, ModelError

LOG_FLOOR = 1e-5  # of a mel magnitude, before the logarithm

# Least power of a bin: the gradient of the square root is infinite at 0. A band of it stays far below LOG_FLOOR.
POWER_FLOOR = 1e-18


def mel_filterbank(sample_rate: int, fft_size: int, num_mels: int) -> Tensor:
    """Triangular filters of peak 1, evenly spaced on the HTK mel scale from 0 Hz to sample_rate / 2.

    Returns:
        Weights [fft_size // 2 + 1, num_mels], float32.

    Raises:
        ConfigError: Too many bands: a filter lies between two bins.
        ModelError: torchaudio can't be imported.
    """
    functional = _import_torchaudio_functional()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # for empty filters, which raise an error below
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


def _import_torchaudio_functional() -> ModuleType:
    """Import torchaudio only when needed: its compiled part fails to load with a torch it was not built for."""
    try:
        import torchaudio.functional as functional  # here: only losses and metrics need torchaudio
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            "torchaudio can't be imported beside this torch: torchaudio 2.11 needs torch "
            "2.11-2.14 with CUDA 13.0 wheels: pip install 'torch>=2.11,<2.15' torchaudio"
        ) from error
    return cast(ModuleType, functional)
