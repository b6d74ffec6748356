"""The difference of loudness against ITU-R BS.1770-4 in SciPy, with the filters as the standard prints them."""

import numpy as np
import pytest
import scipy.signal
from metric_cases import RATE, clips, noise, tone, voice

from codec.eval.metrics.clip import NoValue
from codec.eval.metrics.loudness import loudness_difference

SHELF = [1.53512485958697, -2.69169618940638, 1.19839281085285], [1.0, -1.69065929318241, 0.73248077421585]
HIGH_PASS = [1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621]


def loudness_at_48k(samples):
    """Gated loudness of one channel (LUFS)."""
    weighted = scipy.signal.lfilter(*HIGH_PASS, scipy.signal.lfilter(*SHELF, samples))
    blocks = [np.mean(weighted[i : i + 19_200] ** 2) for i in range(0, len(weighted) - 19_199, 4800)]
    powers = np.array(blocks)
    loudness = -0.691 + 10 * np.log10(powers)
    above = loudness > -70
    relative = -0.691 + 10 * np.log10(powers[above].mean()) - 10
    return -0.691 + 10 * np.log10(powers[above & (loudness > relative)].mean())


def test_the_reference_has_the_loudness_that_the_standard_states():
    assert loudness_at_48k(tone(997, 96_000, 1.0, 48_000)) == pytest.approx(-3.01, abs=0.01)


def test_it_equals_the_standard():
    """Pauses, which the gate leaves out, and a decode that lost its highs and gained in the second half."""
    original = 0.1 * voice(3 * 48_000, 48_000) + np.repeat([0, 1, 0], 48_000) * noise(3 * 48_000)
    decoded = scipy.signal.lfilter(*scipy.signal.butter(2, 3000, fs=48_000), original)
    decoded[72_000:] *= 1.5
    expected = loudness_at_48k(decoded) - loudness_at_48k(original)
    assert expected < -1
    assert loudness_difference(*clips(decoded, original, 48_000)) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("sample_rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("gain_db", [-6.0, 3.0, 20.0])
def test_a_gain_is_the_difference(sample_rate, gain_db):
    original = voice(sample_rate, sample_rate)
    decoded = 10 ** (gain_db / 20) * original
    assert loudness_difference(*clips(decoded, original, sample_rate)) == pytest.approx(gain_db, abs=1e-5)


@pytest.mark.parametrize("level_db", [-60.0, 20.0])
def test_the_level_of_the_recording_does_not_matter(level_db):
    original, gain = voice(RATE), 10 ** (level_db / 20)
    decoded = original * np.linspace(0.3, 0.9, RATE)
    expected = loudness_difference(*clips(decoded, original))
    assert loudness_difference(*clips(gain * decoded, gain * original)) == pytest.approx(expected, abs=1e-5)


def test_silence_counts_as_the_gate():
    original = voice(RATE)
    silent = loudness_difference(*clips(np.zeros(RATE), original))
    assert silent == loudness_difference(*clips(1e-9 * original, original)) < -25


@pytest.mark.parametrize(
    ("original", "reason"),
    [
        (np.zeros(RATE), "silent"),
        (tone(1, 2 * RATE), "no audible"),
        (tone(440, 6399), "0.4 s"),
        (np.ones(1), "0.4 s"),
    ],
)
def test_what_has_no_loudness_has_no_value(original, reason):
    with pytest.raises(NoValue, match=reason):
        loudness_difference(*clips(original, original))
