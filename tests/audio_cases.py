"""Short signals for the tests of audio files."""

import math

import torch


def pcm_noise(num_channels: int, num_samples: int, seed: int = 0) -> torch.Tensor:
    """Audio `[1, C, T]` whose samples are multiples of 1 / 32768, as 16-bit files hold."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-32768, 32768, (1, num_channels, num_samples), generator=generator) / 32768


def tone(num_samples: int, sample_rate: int, hz: float = 440.0) -> torch.Tensor:
    """A sine of amplitude 0.5, `[1, 1, T]`."""
    time = torch.arange(num_samples, dtype=torch.float64) / sample_rate
    return (0.5 * torch.sin(2 * math.pi * hz * time)).float()[None, None]
