import numpy as np
import pytest
import torch
from models import noise
from tiny_runs import buzz

from codec.train.losses.loudness import NUM_BANDS, LoudnessError, bark_bands, threshold_in_quiet

RATE = 16_000


@pytest.fixture(scope="module")
def error():
    return LoudnessError(RATE)


def speech_like(seconds=1.0, hz=120):
    return 0.3 * torch.from_numpy(buzz(seconds, hz)).float()[None, None]


def tone(hz, amplitude):
    return amplitude * torch.sin(2 * torch.pi * hz * torch.arange(RATE) / RATE)[None, None]


def test_equal_audio_has_no_error_and_more_noise_has_more(error):
    target = speech_like()
    errors = [float(error(target + noise(1, 1, RATE, scale=rms), target)) for rms in (1e-4, 1e-3, 1e-2, 1e-1)]
    assert float(error(target, target)) == pytest.approx(0, abs=1e-5)
    assert errors[0] < 0.2 and errors == sorted(errors)


def test_a_loud_tone_masks_an_error_near_it_and_not_far_from_it(error):
    target = tone(1000, 0.1)
    beside, apart = (float(error(target + tone(hz, 0.004), target)) for hz in (1010, 4000))
    assert beside < 0.2 * apart


def test_a_small_change_of_gain_is_not_heard(error):
    target = speech_like()
    assert float(error(0.95 * target, target)) == pytest.approx(0, abs=1e-4)  # loudness differs by 2 %


def test_errors_below_the_threshold_of_hearing_cost_nothing(error):
    target = tone(1000, 0.1)  # 73 dB; at 60 Hz the threshold is at 35 dB, and an amplitude of 3e-4 has 23
    assert float(error(target + tone(60, 3e-4), target)) == pytest.approx(float(error(target, target)), abs=1e-3)
    assert float(error(target + tone(3000, 1e-4), target)) > 0.01


def test_added_sound_costs_more_than_missing_sound(error):
    both = tone(500, 0.1) + tone(2500, 0.02)
    added, missing = float(error(both, tone(500, 0.1))), float(error(tone(500, 0.1), both))
    assert added > 1.5 * missing > 0


def test_the_gain_of_the_original_does_not_matter(error):
    target = speech_like()
    audio = target + noise(1, 1, RATE, scale=0.01)
    assert float(error(0.1 * audio, 0.1 * target)) == pytest.approx(float(error(audio, target)), rel=1e-3)
    assert float(error(0.5 * target, target)) > 0.1  # but that of the decoded audio does


def powers_by_numpy(samples):
    """Powers of the Bark bands `[F, bands]` in frames of 32 ms, float64."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    padded = np.pad(samples, 256)
    frames = [padded[start : start + 512] * window for start in range(0, len(samples) + 1, 256)]
    spectrum = np.abs(np.fft.rfft(frames)) ** 2 / (window**2).sum() * 2 / 512
    return spectrum @ bark_bands(RATE, 512)[0].numpy().T


def error_by_numpy(audio, target):
    """The disturbance of P.862 for gains already equal, with its constants as they stand there."""
    gain = np.sqrt(10**7.3 / np.mean(target**2))
    decoded, original = powers_by_numpy(gain * audio), powers_by_numpy(gain * target)
    _, centres, widths = bark_bands(RATE, 512)
    threshold, widths = 10 ** (threshold_in_quiet(centres).double().numpy() / 10), widths[:, 0].numpy()
    loudness, expected = (
        0.1866 * (threshold / 0.5) ** 0.23 * np.maximum((0.5 + 0.5 * power / threshold) ** 0.23 - 1, 0)
        for power in (decoded, original)
    )
    audible = np.abs(loudness - expected) - 0.25 * np.minimum(loudness, expected)
    audible = np.maximum(audible, 0) * widths
    asymmetry = ((decoded + 50) / (original + 50)) ** 1.2
    asymmetry = np.where(asymmetry < 3, 0, np.minimum(asymmetry, 12))
    symmetric = np.sqrt((audible**2).sum(axis=1) * widths.sum())
    return np.mean(0.1 * symmetric + 0.0309 * (audible * asymmetry).sum(axis=1)), asymmetry


@pytest.mark.parametrize("rms", [0.003, 0.03])
def test_it_equals_numpy(error, rms):
    target = speech_like()
    audio = 0.7 * target + noise(1, 1, RATE, scale=rms)
    expected, asymmetry = error_by_numpy(audio[0, 0].double().numpy(), target[0, 0].double().numpy())
    assert ((asymmetry > 0) & (asymmetry < 12)).any() and (asymmetry == 0).any() and (asymmetry == 12).any()
    assert float(error(audio, target)) == pytest.approx(expected, rel=1e-4)


def test_it_is_a_mean_over_items(error):
    target = torch.cat([speech_like(1.0, 120), 0.01 * speech_like(1.0, 200)])
    audio = target * 0.8
    each = [float(error(audio[item : item + 1], target[item : item + 1])) for item in range(2)]
    assert float(error(audio, target)) == pytest.approx(sum(each) / 2, rel=1e-5)


@pytest.mark.parametrize("length", [1, 100, 5000])
def test_silence_and_any_length_have_a_finite_gradient(error, length):
    for target in (torch.zeros(1, 1, length), speech_like()[..., :length]):
        audio = torch.zeros(1, 1, length, requires_grad=True)
        error(audio, target).backward()
        assert audio.grad.isfinite().all()


@pytest.mark.parametrize("sample_rate", [8000, 16_000, 48_000])
def test_bands_cover_all_bins_but_the_constant_one(sample_rate):
    fft_size = 2 * round(sample_rate * 0.016)
    bands, centres, widths = bark_bands(sample_rate, fft_size)
    assert torch.equal(bands.sum(dim=0), torch.tensor([0.0] + [1.0] * (fft_size // 2)))
    assert len(bands) <= NUM_BANDS and (bands.sum(dim=1) > 0).all()
    assert (torch.diff(centres) > 0).all() and (widths > 0).all()
    assert float(widths.sum()) == pytest.approx(float(7 * torch.asinh(torch.tensor(sample_rate / 2 / 650))), rel=1e-4)


def test_the_threshold_is_lowest_at_three_kilohertz():
    frequency = torch.arange(50.0, 8000.0, 10.0)
    threshold = threshold_in_quiet(frequency)
    assert 3000 < float(frequency[threshold.argmin()]) < 3600
    assert float(threshold_in_quiet(torch.tensor(1000.0))) == pytest.approx(3.37, abs=0.01)  # Terhardt's formula
