import itertools
import math

import numpy as np
import pytest
import torch
from metric_cases import RATE, tone

from codec.errors import AudioError
from codec.eval.metrics.bands import FLOOR_DB, Bands, band_edges, describe_bands, measure_bands
from codec.eval.metrics.clip import Original

TONES_HZ = (150, 350, 750, 1250, 1750, 2500, 3500, 5000, 7000)  # one a band, each a bin of the frames


def chord(gains_db=(0,) * 9, num_samples=RATE):
    return sum(tone(hz, num_samples, 0.1 * 10 ** (gain / 20)) for hz, gain in zip(TONES_HZ, gains_db, strict=True))


@pytest.mark.parametrize("band", range(9))
@pytest.mark.parametrize("gain_db", [-10.0, 4.0])
def test_one_band_that_is_too_quiet_or_loud(band, gain_db):
    """A tone scaled by g leaves an error of 1 - g of its amplitude."""
    gains = [gain_db if number == band else 0 for number in range(9)]
    result = measure_bands(chord(gains), Original(chord(), RATE))
    assert result.energy == pytest.approx(gains, abs=1e-6)
    assert result.power_error == pytest.approx(np.abs(gains), abs=1e-6)
    expected = -20 * math.log10(abs(1 - 10 ** (gain_db / 20)))
    assert result.snr[band] == pytest.approx(expected, abs=1e-6)
    level_db = 10 * math.log10(0.1**2 / 2)
    num_frames = RATE // 160 - 1
    others = [snr for number, snr in enumerate(result.snr) if number != band]
    # Nothing is wrong there, and an error below the floor counts as the floor.
    assert others == pytest.approx([level_db + 10 * math.log10(num_frames) - FLOOR_DB] * 8, abs=0.01)


def test_a_codec_that_is_silent_above_2_khz():
    result = measure_bands(sum(map(tone, TONES_HZ[:5])), Original(chord(), RATE))
    assert result.energy[:5] == pytest.approx([0] * 5, abs=1e-6) and max(result.energy[5:]) < -80
    assert result.snr[5:] == pytest.approx([0] * 4, abs=1e-6)
    level_db = 10 * math.log10(0.1**2 / 2)
    assert result.power_error[5:] == pytest.approx([level_db - FLOOR_DB] * 4, abs=1e-6)


@pytest.mark.parametrize(("below_db", "expected"), [(39, 6.0), (41, 0.0)])
def test_frames_far_below_the_loudest_do_not_count(below_db, expected):
    """The second half is quieter by so much, and decoded 12 dB too loud: half of the frames, or none."""
    quiet = 10 ** (-below_db / 20)
    target, audio = tone(1250), tone(1250)
    target[RATE // 2 :] *= quiet
    audio[RATE // 2 :] *= quiet * 10 ** (12 / 20)
    assert measure_bands(audio, Original(target, RATE)).power_error[3] == pytest.approx(expected, abs=0.15)


def test_a_band_that_is_not_in_the_original_has_no_value():
    target = tone(1250) + tone(5000, amplitude=1.5 * 10 ** (FLOOR_DB / 20)) + tone(7000, amplitude=1e-6)
    result = measure_bands(target + tone(7000), Original(target, RATE))
    for values in result:
        assert [math.isfinite(value) for value in values] == [
            False,
            False,
            False,
            True,
            False,
            False,
            False,
            True,
            False,
        ]
    for silent in (np.zeros(RATE), np.zeros((2, RATE))):
        assert all(math.isnan(value) for values in measure_bands(silent, Original(silent, RATE)) for value in values)


def test_a_constant_is_in_the_lowest_band_only():
    result = measure_bands(np.full(RATE, 0.05), Original(np.full(RATE, 0.1), RATE))
    assert result.energy[0] == pytest.approx(20 * math.log10(0.5))
    assert all(map(math.isnan, result.energy[1:]))


def test_the_power_of_a_band_is_the_mean_square():
    """Silence for noise: the power error is the noise's level above the floor, by the share of each band."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(8 * RATE)
    result = measure_bands(np.zeros(8 * RATE), Original(noise, RATE))
    widths = np.diff(band_edges(RATE)) / 8000
    assert result.power_error == pytest.approx(10 * np.log10(0.01 * widths) - FLOOR_DB, abs=1.5)


@pytest.mark.parametrize(
    ("sample_rate", "edges"),
    [
        (16_000, [0, 250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000]),
        (8000, [0, 250, 500, 1000, 1500, 2000, 3000, 4000]),
        (11_025, [0, 250, 500, 1000, 1500, 2000, 3000, 4000, 5512.5]),
        (48_000, [0, 250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 24_000]),
    ],
)
def test_bands_of_other_rates(sample_rate, edges):
    assert band_edges(sample_rate) == edges
    assert describe_bands(edges)[1] == "250-500" and len(describe_bands(edges)) == len(edges) - 1
    target = sum(tone((low + high) / 2, sample_rate, 0.05, sample_rate) for low, high in itertools.pairwise(edges))
    result = measure_bands(target / 2, Original(target, sample_rate))
    assert result.energy == pytest.approx([20 * math.log10(0.5)] * (len(edges) - 1))


def test_channels_are_averaged_and_those_without_a_value_left_out():
    left, right = tone(1250) + tone(5000), tone(1250)
    both = measure_bands(np.stack([left / 2, right]), Original(np.stack([left, right]), RATE))
    assert both.energy[3] == pytest.approx(20 * math.log10(0.5) / 2)
    assert both.energy[7] == pytest.approx(20 * math.log10(0.5))
    assert isinstance(both, Bands) and measure_bands(torch.from_numpy(right), Original(right, RATE)).energy[3] == 0


@pytest.mark.parametrize("num_samples", [100, 320, 321, 479, 480])
def test_short_clips(num_samples):
    target = np.ones(num_samples)
    assert measure_bands(target, Original(target, RATE)).energy[0] == 0


@pytest.mark.parametrize(
    ("audio", "target"), [(np.ones(9), np.ones(8)), (np.ones(0), np.ones(0)), (np.full(9, np.nan), np.ones(9))]
)
def test_inputs_that_do_not_fit_are_refused(audio, target):
    with pytest.raises(AudioError):
        measure_bands(audio, Original(target, RATE))


def test_a_frequency_on_an_edge_is_of_the_band_above():
    """A Hann frame spreads a tone over three bins by 1 : 4 : 1; one of them is below the edge."""
    result = measure_bands(np.zeros(RATE), Original(tone(1000), RATE))
    level_db = 10 * math.log10(0.1**2 / 2)
    expected = [level_db + 10 * math.log10(share) - FLOOR_DB for share in (1 / 6, 5 / 6)]
    assert result.power_error[2:4] == pytest.approx(expected, abs=0.01)
