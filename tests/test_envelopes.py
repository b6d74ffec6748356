import math

import pytest
import torch
from tiny_runs import buzz

from codec.errors import ConfigError
from codec.train.envelopes import NUM_BANDS, EnvelopeCorrelation, correlation, third_octaves

RATE = 16_000


@pytest.fixture(scope="module")
def loss():
    return EnvelopeCorrelation(RATE)


def speech_like(seconds=1.0, hz=120):
    return torch.from_numpy(buzz(seconds, hz)).float()[None, None]


def noisy(target, snr_db, seed=0):
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(seed))
    return target + noise * target.norm() / noise.norm() * 10 ** (-snr_db / 20)


def test_it_follows_the_measure_of_pystoi(loss):
    from pystoi import stoi

    target = speech_like(3.0)
    for snr_db in (-5, 5, 15):
        audio = noisy(target, snr_db)
        expected = stoi(target[0, 0].numpy(), audio[0, 0].numpy(), RATE)
        assert 1 - float(loss(audio, target)) == pytest.approx(expected, abs=0.05)


def test_equal_audio_costs_nothing_and_more_noise_costs_more(loss):
    target = speech_like()
    losses = [float(loss(noisy(target, snr_db), target)) for snr_db in (30, 10, 0, -10)]
    assert float(loss(target, target)) == pytest.approx(0, abs=1e-5)
    assert float(loss(0 * target, 0 * target)) == 0
    assert losses[0] > 0 and losses == sorted(losses)


def test_the_level_of_decoded_audio_does_not_matter(loss):
    target = speech_like()
    audio = noisy(target, 5)
    assert float(loss(0.1 * audio, target)) == pytest.approx(float(loss(audio, target)), abs=1e-3)


def test_it_is_a_mean_over_items(loss):
    target = torch.cat([speech_like(1.0, 120), 0.01 * speech_like(1.0, 200)])
    audio = noisy(target, 3)
    each = [float(loss(audio[item : item + 1], target[item : item + 1])) for item in range(2)]
    assert float(loss(audio, target)) == pytest.approx(sum(each) / 2, rel=1e-5)


def test_what_is_nearly_silent_does_not_count(loss):
    target = torch.cat([speech_like(1.0), 1e-4 * torch.randn(1, 1, RATE)], dim=-1)
    audio = noisy(target, 20)
    garbled = audio.clone()
    garbled[..., RATE + RATE // 2 :] = 1e-4 * torch.randn(RATE // 2)
    assert float(loss(garbled, target)) == pytest.approx(float(loss(audio, target)), rel=1e-4)


@pytest.mark.parametrize("length", [1, 200, 5799])
def test_an_item_shorter_than_a_segment_costs_nothing(loss, length):
    audio = torch.randn(2, 1, length, requires_grad=True)
    value = loss(audio, torch.randn(2, 1, length))
    value.backward()
    assert value == 0 and not audio.grad.any()


def test_silence_has_a_finite_gradient(loss):
    for audio, target in ((torch.zeros(1, 1, RATE), speech_like()), (speech_like(), torch.zeros(1, 1, RATE))):
        audio.requires_grad_()
        loss(audio, target).backward()
        assert audio.grad.isfinite().all()


def test_bands_are_third_octaves():
    bands = third_octaves(RATE, 4000)  # bins of 4 Hz
    assert bands.shape == (NUM_BANDS, 2001) and bands.sum(dim=0).max() == 1
    for number, band in enumerate(bands):
        centre, inside = 150 * 2 ** (number / 3), 4 * band.nonzero().flatten()
        assert inside[0] == pytest.approx(centre * 2 ** (-1 / 6), abs=4)
        assert inside[-1] == pytest.approx(centre * 2 ** (1 / 6), abs=4)
    assert (third_octaves(RATE, 400).sum(dim=1) > 0).all()


def test_correlation_by_hand():
    wanted = torch.tensor([1.0, 2.0, 3.0])
    assert float(correlation(2 * wanted, wanted)) == pytest.approx(1, abs=1e-5)
    assert float(correlation(torch.tensor([3.0, 2.0, 1.0]), wanted)) == pytest.approx(-1, abs=1e-5)
    # One frame sticks out: it is cut at 1 + 10^(15/20) times the original
    peak = torch.tensor([100.0, 1.0, 1.0])
    scaled = peak * math.sqrt(14) / peak.norm()
    scaled[0] = min(float(scaled[0]), 1 + 10**0.75)
    ours, theirs = scaled - scaled.mean(), wanted - wanted.mean()
    expected = float(ours @ theirs / ours.norm() / theirs.norm())
    assert float(correlation(peak, wanted)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("sample_rate", [8000, 11_025])
def test_a_rate_that_does_not_fit_is_a_clear_error(sample_rate):
    with pytest.raises(ConfigError, match=r"loss\.intelligibility needs .* set its weight to 0"):
        EnvelopeCorrelation(sample_rate)
