"""Errors of pitch and voicing on synthetic voices whose pitch is known."""

import numpy as np
import pytest
from metric_cases import RATE, buzz, clips, glide, noise, tone

from codec.eval.metrics.clip import Clip, NoValue
from codec.eval.metrics.pitch import f0_error, gross_pitch_error, track_pitch, voicing_error

pytest.importorskip("swift_f0")

FRAME = 256
PITCH = glide()
VOICE = buzz(PITCH)


def half_of(first, second):
    """The first half of one signal and the second half of another."""
    return np.concatenate([first[: len(first) // 2], second[len(second) // 2 :]])


@pytest.mark.parametrize("hz", [80.0, 120.0, 200.0, 300.0, 450.0])
def test_the_pitch_of_a_constant_buzz(hz):
    pitch = track_pitch(Clip(buzz(np.full(RATE, hz)), RATE))
    assert pitch.is_voiced[2:-2].all()
    assert np.abs(1200 * np.log2(pitch.hz[pitch.is_voiced] / hz)).max() < 15


def test_the_pitch_of_a_sine():
    pitch = track_pitch(Clip(tone(330, amplitude=0.5), RATE))
    assert pitch.is_voiced.mean() > 0.8
    assert np.median(pitch.hz[pitch.is_voiced]) == pytest.approx(330, rel=0.005)


def test_the_pitch_of_a_glide():
    pitch = track_pitch(Clip(VOICE, RATE))
    expected = PITCH[np.arange(len(pitch.hz)) * FRAME]
    assert pitch.is_voiced.mean() > 0.95
    cents = 1200 * np.log2(pitch.hz / expected)[pitch.is_voiced]
    assert np.abs(cents).mean() < 5 and np.abs(cents).max() < 30


@pytest.mark.parametrize("samples", [noise(RATE), np.zeros(RATE), np.full(RATE, 0.3), np.ones(1)])
def test_noise_silence_and_a_constant_are_unvoiced(samples):
    assert not track_pitch(Clip(samples, RATE)).is_voiced.any()


@pytest.mark.parametrize("gain", [1e-4, 100.0])
def test_the_level_does_not_matter(gain):
    expected, pitch = (track_pitch(Clip(factor * VOICE, RATE)) for factor in (1, gain))
    assert np.array_equal(pitch.is_voiced, expected.is_voiced)
    assert pitch.hz == pytest.approx(expected.hz, rel=1e-3)


@pytest.mark.parametrize("cents", [-50, 20, 50])
def test_a_shift_of_the_pitch_is_the_error(cents):
    shifted = buzz(PITCH * 2 ** (cents / 1200))
    assert f0_error(*clips(shifted, VOICE)) == pytest.approx(abs(cents), abs=2)
    assert gross_pitch_error(*clips(shifted, VOICE)) == 0


def test_an_octave_in_half_of_the_frames_is_a_gross_error_there():
    decoded = half_of(buzz(2 * PITCH), VOICE)
    assert gross_pitch_error(*clips(decoded, VOICE)) == pytest.approx(50, abs=3)
    assert f0_error(*clips(decoded, VOICE)) == pytest.approx(600, abs=40)


@pytest.mark.parametrize(("factor", "is_gross"), [(1.15, False), (1.25, True), (0.85, False), (0.75, True)])
def test_a_gross_error_is_more_than_a_fifth(factor, is_gross):
    shifted = buzz(factor * PITCH)
    assert gross_pitch_error(*clips(shifted, VOICE)) == pytest.approx(100 * is_gross, abs=2)


def test_noise_in_place_of_half_of_a_voice_is_a_voicing_error():
    decoded = half_of(VOICE, noise(len(VOICE)))
    assert voicing_error(*clips(decoded, VOICE)) == pytest.approx(50, abs=3)
    assert f0_error(*clips(decoded, VOICE)) < 2, "frames voiced in one of the two do not count"
    assert voicing_error(*clips(VOICE, decoded)) == pytest.approx(50, abs=3)


def test_equal_audio_has_no_error():
    for metric in (f0_error, gross_pitch_error, voicing_error):
        assert metric(*clips(VOICE, VOICE)) == 0


def test_other_rates_are_resampled():
    pitch = glide(48_000, 24_000)
    shifted, original = buzz(pitch * 2 ** (50 / 1200), 24_000), buzz(pitch, 24_000)
    assert f0_error(*clips(shifted, original, 24_000)) == pytest.approx(50, abs=2)


def test_without_a_voice_there_is_no_value():
    hiss = noise(len(VOICE))
    for metric in (f0_error, gross_pitch_error):
        with pytest.raises(NoValue, match="voiced in both"):
            metric(*clips(hiss, VOICE))
    with pytest.raises(NoValue, match="original has no voiced"):
        voicing_error(*clips(VOICE, hiss))
    assert voicing_error(*clips(hiss, VOICE)) > 95
