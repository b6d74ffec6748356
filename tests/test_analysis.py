"""The features: log powers of the bands, whitened coefficients of the low band, and causality."""

import math

import pytest
import torch
from models import noise

from codec.model.analysis import LOG_POWER_MEAN, LOG_POWER_SCALE, SignalAnalysis
from codec.model.signal_model import SignalModel

MODEL = SignalModel(16_000, 320, 1000.0, 20, 5)
DB = 10 / math.log(10)
"""Of a natural logarithm of power."""


@pytest.fixture(scope="module")
def analysis():
    return SignalAnalysis(MODEL)


def split(features):
    """Coefficients `[B, 40, F]` and log powers `[B, 85, F]`, natural logarithms."""
    return features[:, :40], features[:, 40:] * LOG_POWER_SCALE + LOG_POWER_MEAN


def tone(hertz, num_frames=200):
    return 0.1 * torch.sin(2 * math.pi * hertz / 16_000 * torch.arange(320.0 * num_frames))[None, None]


@pytest.mark.parametrize("variance", [1e-6, 0.01, 1.0])
def test_the_log_power_of_white_noise_is_that_of_its_variance_in_every_band(analysis, variance):
    """Mean over 1000 frames. They overlap, so that the narrowest band deviates by 0.05.

    The lowest band lacks the 6% of its power next to a constant offset, which is removed.
    """
    _, log_powers = split(analysis(math.sqrt(variance) * noise(1, 1, 320 * 1000, scale=1.0)))
    found = log_powers[0, :, 1:].exp().mean(dim=1).log() - math.log(variance)
    assert found[1:].abs().max() < 0.05
    assert -0.12 < found[0] < 0


@pytest.mark.parametrize("gain", [0.01, 0.3, 8.0])
def test_a_gain_changes_every_log_power_and_no_coefficient(analysis, gain):
    """The quietest bands of some frames are 20 dB below the signal of -20 dB; the floor is at -110 dB."""
    audio = noise(1, 1, 320 * 50, scale=0.1)
    (coefficients, log_powers), (others, moved) = split(analysis(audio)), split(analysis(gain * audio))
    # Not of the first frame: its first window lies before the signal.
    torch.testing.assert_close(moved[..., 1:], log_powers[..., 1:] + 2 * math.log(gain), rtol=0, atol=5e-3)
    torch.testing.assert_close(others, coefficients, rtol=0, atol=1e-3)


def test_coefficients_of_noise_are_about_one(analysis):
    for scale in (1e-3, 0.1, 1.0):
        coefficients, _ = split(analysis(noise(1, 1, 320 * 50, scale=scale)))
        assert 0.8 < coefficients.square().mean() < 1.2


@pytest.mark.parametrize(("rms", "tolerance"), [(0.1, 2e-4), (1e-3, 0.1), (0.0, 1.0)])
def test_a_constant_offset_changes_no_feature(analysis, rms, tolerance):
    """Only its rounding in float32 remains, at -150 dB: 5e-5 of a feature of noise at -20 dB, 0.06 at -60 dB.

    In digital silence the features may be those of the rounding, decoded at -110 dB. The first two hops hold the step.
    """
    audio = noise(1, 1, 320 * 50, scale=rms)
    difference = (analysis(audio + 0.5) - analysis(audio))[..., 2:]
    assert difference.abs().max() < tolerance


@pytest.mark.parametrize("hertz", [110, 237, 512.3, 800])
def test_the_log_power_of_a_steady_tone_is_steady(analysis, hertz):
    """Within 0.05 dB (0.16 dB at 60 Hz); without the transform in quadrature it would beat by 6 dB."""
    _, log_powers = split(analysis(tone(hertz)))
    total = log_powers[0, :5, 2:].exp().sum(dim=0).log() * DB
    assert total.max() - total.min() < 0.05


def test_a_tone_is_in_its_own_band(analysis):
    for hertz, band in ((50, 0), (500, 2), (950, 4)):
        _, log_powers = split(analysis(tone(hertz, 20)))
        assert (log_powers[0, :5, 3:].argmax(dim=0) == band).all()
    weights = MODEL.high_interpolation(torch.tensor([1500.0, 3000, 7000])).T
    for hertz, expected in zip((1500, 3000, 7000), weights.argmax(dim=1), strict=True):
        _, log_powers = split(analysis(tone(hertz, 20)))
        assert (log_powers[0, 5:, 3:].view(4, 20, -1).argmax(dim=1) == expected).all()


def test_subframes_are_in_the_order_of_time(analysis):
    """Noise begins with hop 10. The power rises over the four windows of that frame; two are centred before it."""
    audio = noise(1, 1, 320 * 20, scale=0.1)
    audio[..., : 320 * 10] *= 1e-3
    _, log_powers = split(analysis(audio))
    by_subframe = log_powers[0, 5:].view(4, 20, -1).mean(dim=1)
    assert (by_subframe[:, 10].diff() > 0).all()
    assert by_subframe[3, 10] - by_subframe[0, 10] > math.log(10)


def test_a_frame_sees_its_own_hop_and_the_one_before(analysis):
    audio = noise(1, 1, 3200)
    before = analysis(audio)
    for at in (0, 319, 320, 1237, 3199):
        changed = audio.clone()
        changed[..., at] += 0.1
        differs = (analysis(changed) != before).any(dim=1)[0]
        assert differs.nonzero().flatten().tolist() == [f for f in (at // 320, at // 320 + 1) if f < 10]


@pytest.mark.parametrize("blocks", [[1] * 12, [2] * 6, [7, 5], [1, 6, 2, 3]], ids=str)
def test_a_stream_equals_the_whole(analysis, blocks):
    audio, cache = noise(2, 1, 320 * 12), {}
    parts = [analysis(block, cache) for block in audio.split([320 * length for length in blocks], dim=-1)]
    torch.testing.assert_close(torch.cat(parts, dim=-1), analysis(audio), rtol=0, atol=1e-4)


def test_the_analysis_has_no_parameters_and_ignores_autocast(analysis):
    audio = noise(1, 1, 3200)
    assert not list(analysis.parameters()) and not analysis.state_dict()
    expected = analysis(audio)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(analysis(audio), expected)
    assert torch.equal(analysis(audio.bfloat16()), analysis(audio.bfloat16().float()))


def test_silence_is_finite(analysis):
    features = analysis(torch.zeros(1, 1, 640))
    assert features.isfinite().all()
    assert (features[:, :40] == 0).all()
