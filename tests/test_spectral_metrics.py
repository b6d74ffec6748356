"""Spectral distances against their definitions in plain NumPy and SciPy, and closed forms."""

import math

import numpy as np
import pytest
import scipy.signal
from metric_cases import RATE, clips, noise, tone, voice

from codec.eval.metrics.clip import NoValue
from codec.eval.metrics.spectral import log_spectral_distance, mel_distance, stft_distance


def reference_log_mel(samples):
    """The definition at 16 kHz."""
    samples = np.pad(samples, (0, max(0, 1024 - len(samples))))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1023)
    frames = [samples[i : i + 1024] * window for i in range(0, len(samples) - 1023, 256)]
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 82) / 2595) - 1)
    bins = np.arange(513) * RATE / 1024
    bank = np.stack([np.interp(bins, corners[i : i + 3], [0, 1, 0]) for i in range(80)], axis=1)
    return np.log(np.maximum(np.abs(np.fft.rfft(frames)) @ bank, 1e-5))


def reference_magnitudes(samples, size, hop, fft_size):
    """By SciPy, `[frames, bins]`; it scales the spectrum by the sum of the window."""
    samples = np.pad(samples, (0, max(0, size - len(samples))))
    window = scipy.signal.get_window("hann", size)
    _, _, spectrum = scipy.signal.stft(
        samples, window=window, nperseg=size, noverlap=size - hop, nfft=fft_size, boundary=None, padded=False
    )
    return np.abs(spectrum.T) * window.sum()


def reference_stft_distance(decoded, original):
    total = 0
    for size, fft_size in ((160, 256), (400, 512), (800, 1024)):
        ours, target = (
            np.maximum(reference_magnitudes(samples, size, size // 5, fft_size), 10**-3.5)
            for samples in (decoded, original)
        )
        total += np.sqrt(((target - ours) ** 2).sum() / (target**2).sum()) + np.abs(np.log(target / ours)).mean()
    return total / 3


def reference_lsd(decoded, original):
    ours, target = (reference_magnitudes(samples, 512, 128, 512) ** 2 for samples in (decoded, original))
    ours, target = (10 * np.log10(np.maximum(power, target.max() * 1e-8)) for power in (ours, target))
    return np.sqrt(((ours - target) ** 2).mean(axis=1)).mean()


LENGTHS = [2, 400, 800, 1024, 1279, 1280, 5000]


@pytest.mark.parametrize("num_samples", LENGTHS)
def test_mel_distance_equals_numpy(num_samples):
    decoded, original = noise(num_samples), noise(num_samples, seed=1)
    expected = np.abs(reference_log_mel(decoded) - reference_log_mel(original)).mean()
    assert mel_distance(*clips(decoded, original)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("num_samples", LENGTHS)
def test_stft_distance_equals_scipy(num_samples):
    decoded, original = noise(num_samples), noise(num_samples, seed=1)
    assert stft_distance(*clips(decoded, original)) == pytest.approx(
        reference_stft_distance(decoded, original), rel=1e-5
    )


@pytest.mark.parametrize("num_samples", LENGTHS)
def test_log_spectral_distance_equals_scipy(num_samples):
    decoded, original = noise(num_samples), noise(num_samples, seed=1)
    assert log_spectral_distance(*clips(decoded, original)) == pytest.approx(reference_lsd(decoded, original))


def test_floors_count_as_in_the_references():
    original = np.concatenate([tone(1000, 4000), np.zeros(4000)])
    decoded = original + 1e-7 * noise(8000)
    assert stft_distance(*clips(decoded, original)) == pytest.approx(
        reference_stft_distance(decoded, original), abs=1e-7
    )
    assert log_spectral_distance(*clips(decoded, original)) == pytest.approx(reference_lsd(decoded, original), abs=1e-6)
    assert log_spectral_distance(*clips(decoded, original)) < 0.5, "noise 100 dB below the tone is below the floor"


@pytest.mark.parametrize("sample_rate", [8000, 16000, 24000, 44100, 48000])
def test_distances_of_a_scaled_copy(sample_rate):
    target = noise(6000)
    pair = clips(0.5 * target, target, sample_rate)
    assert mel_distance(*pair) == pytest.approx(math.log(2))
    assert stft_distance(*pair) == pytest.approx(0.5 + math.log(2))
    assert log_spectral_distance(*pair) == pytest.approx(20 * math.log10(2), rel=1e-3)  # near the floor in few bins


@pytest.mark.parametrize("metric", [mel_distance, stft_distance, log_spectral_distance])
@pytest.mark.parametrize("num_samples", [2, 100, RATE])
def test_equal_audio_has_no_distance(metric, num_samples):
    target = voice(RATE)[:num_samples]
    assert metric(*clips(target, target)) == 0


@pytest.mark.parametrize("gain", [0.1, 0.01])
def test_log_spectral_distance_does_not_depend_on_the_level_of_the_recording(gain):
    target, decoded = voice(RATE), voice(RATE) + 0.01 * noise(RATE)
    expected = log_spectral_distance(*clips(decoded, target))
    assert log_spectral_distance(*clips(gain * decoded, gain * target)) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [stft_distance, log_spectral_distance])
def test_a_silent_original_has_no_value(metric):
    with pytest.raises(NoValue, match="silent"):
        metric(*clips(noise(1000), np.zeros(1000)))


def test_a_single_sample_has_no_log_spectral_distance():
    """A periodic Hann window is zero there."""
    with pytest.raises(NoValue, match="single"):
        log_spectral_distance(*clips(np.ones(1), np.ones(1)))
