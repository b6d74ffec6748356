import math

import numpy as np
import pytest
from metric_cases import clips, noise

from codec.eval.metrics.clip import NoValue
from codec.eval.metrics.waveform import LIMIT_DB, si_sdr, snr


def test_snr_of_a_scaled_copy():
    target = noise(500)
    assert snr(*clips(1.1 * target, target)) == pytest.approx(20)
    assert snr(*clips(0 * target, target)) == pytest.approx(0)
    assert snr(*clips((1 + 1e-7) * target, target)) == LIMIT_DB == snr(*clips(target, target))
    assert snr(*clips(1e7 * target, target)) == -LIMIT_DB


def test_si_sdr_of_a_hand_case():
    # decoded = 3 original + 1 other, both of mean 0 and orthogonal: 10 log10(9 * 4 / 4)
    original, other = np.array([1.0, -1.0, 1.0, -1.0]), np.array([1.0, 1.0, -1.0, -1.0])
    assert si_sdr(*clips(3 * original + other, original)) == pytest.approx(10 * math.log10(9))


def test_si_sdr_ignores_scale_and_mean():
    target = noise(1000)
    audio = target + noise(1000, seed=1)
    expected = si_sdr(*clips(audio, target))
    assert abs(expected) < 1  # as loud as each other
    for other_audio, other_target in (
        (5 * audio, target),
        (-audio, target),
        (audio, 0.01 * target),
        (audio + 0.3, target - 0.2),
    ):
        assert si_sdr(*clips(other_audio, other_target)) == pytest.approx(expected)


def test_si_sdr_of_equal_and_of_constant_audio():
    target = noise(1000)
    assert si_sdr(*clips(target, target)) == LIMIT_DB
    for constant in (np.zeros(1000), np.full(1000, 0.1)):
        assert si_sdr(*clips(constant, target)) == -LIMIT_DB
        with pytest.raises(NoValue, match="constant"):
            si_sdr(*clips(target, constant))


def test_snr_of_a_silent_original_has_no_value():
    for decoded in (np.zeros(10), np.ones(10)):
        with pytest.raises(NoValue, match="silent"):
            snr(*clips(decoded, np.zeros(10)))
