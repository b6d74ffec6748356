import math

import pytest
import torch
from models import noise

from codec.eval.alignment import align, find_delay

RATE = 16_000


def delayed(audio, lag):
    """The audio `lag` samples later, of the same length."""
    return align(audio, audio.shape[-1], -lag)


@pytest.mark.parametrize("lag", [0, 1, -1, 312, -312, 1600, -1600])
def test_the_delay_of_noise_is_found(lag):
    audio = noise(1, 8000)
    assert find_delay(delayed(audio, lag) + 0.3 * noise(1, 8000, seed=1), audio, RATE) == lag


@pytest.mark.parametrize("lag", [1601, -1601])
def test_a_delay_of_more_than_100_ms_is_not_looked_for(lag):
    audio = noise(1, 8000)
    assert abs(find_delay(delayed(audio, lag), audio, RATE)) <= 1600


def test_unlike_waveforms_have_no_delay():
    assert find_delay(noise(1, 8000, seed=1), noise(1, 8000, seed=2), RATE) == 0


def test_of_equal_peaks_the_nearest_is_taken():
    """A sine of 100 Hz fits again every 160 samples."""
    time = torch.arange(16_000) / RATE
    audio = torch.sin(2 * math.pi * 100 * time)[None]
    assert find_delay(delayed(audio, 20), audio, RATE) == 20
    assert find_delay(delayed(audio, 150), audio, RATE) == -10


def test_no_lag_is_taken_where_the_peak_is_flat():
    """A smooth signal whose best lag is a little nearer to one sample than to none."""
    audio = torch.nn.functional.avg_pool1d(noise(1, 16_000), 41, 1, 20)
    between = 0.45 * audio + 0.55 * delayed(audio, 1)
    assert find_delay(between, audio, RATE) == 0
    assert find_delay(delayed(between, 300), audio, RATE) == 301


def test_channels_have_one_delay():
    audio = noise(2, 8000)
    assert find_delay(delayed(audio, 50), audio, RATE) == 50


def test_lengths_may_differ():
    audio = noise(1, 8000)
    late = torch.cat([torch.zeros(1, 700), audio, torch.zeros(1, 99)], dim=1)
    assert find_delay(late, audio, RATE) == 700
    assert torch.equal(align(late, 8000, 700), audio)
    assert find_delay(audio[:, 700:], audio, RATE) == -700
    assert torch.equal(align(audio[:, 700:], 8000, -700)[:, 700:], audio[:, 700:])


@pytest.mark.parametrize("num_samples", [1, 2, 100])
def test_short_and_silent_audio_has_no_delay(num_samples):
    assert find_delay(torch.zeros(1, num_samples), noise(1, num_samples), RATE) == 0
    assert find_delay(noise(1, num_samples), torch.zeros(1, num_samples), RATE) == 0
    assert find_delay(noise(1, num_samples), noise(1, num_samples), RATE) == 0


def test_what_is_shifted_in_is_zero():
    audio = torch.arange(1.0, 5.0)[None]
    assert align(audio, 4, 1).tolist() == [[2, 3, 4, 0]]
    assert align(audio, 6, -1).tolist() == [[0, 1, 2, 3, 4, 0]]
    assert align(audio, 2, 0).tolist() == [[1, 2]]
    assert align(audio, 3, 4).tolist() == [[0, 0, 0]]
