"""Signals for the tests of metrics, as float64 arrays `[T]`."""

import numpy as np

from codec.eval.metrics.clip import Clip

RATE = 16_000


def noise(*shape, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


def tone(hz, num_samples=RATE, amplitude=0.1, sample_rate=RATE):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(num_samples) / sample_rate)


def buzz(hz, sample_rate=RATE):
    """Harmonics of a pitch that may change from sample to sample (Hz, `[T]`), as many as fit below 4 kHz."""
    phase = 2 * np.pi * np.cumsum(hz) / sample_rate
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, int(4000 / hz.max())))


def glide(num_samples=2 * RATE, sample_rate=RATE):
    """A pitch that glides between 100 and 200 Hz, `[T]`."""
    time = np.arange(num_samples) / sample_rate
    return 100 * 2 ** (0.5 - 0.5 * np.cos(2 * np.pi * 0.7 * time))


def voice(num_samples=2 * RATE, sample_rate=RATE):
    """A buzz with a gliding pitch, in bursts: enough of a voice for STOI and PESQ."""
    time = np.arange(num_samples) / sample_rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 3 * time)) / sample_rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 30))
    envelope = np.sqrt(np.clip(np.sin(2 * np.pi * 2 * time), 0, None))
    return 0.2 * wave * envelope + 0.001 * noise(num_samples, seed=9)


def clips(decoded, original, sample_rate=RATE):
    """The two arguments of a metric."""
    return Clip(decoded, sample_rate), Clip(original, sample_rate)
