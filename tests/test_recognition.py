"""The phoneme recogniser: what it hears, and the rate of its errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_cases import RATE, clips

from codec.audio.file import load_audio
from codec.eval.metrics import recognition
from codec.eval.metrics.clip import Clip, NoValue
from codec.eval.metrics.recognition import phoneme_error, transcribe

CLIPS = Path(__file__).parents[1] / "data" / "clips"


def speech(seconds=2.0):
    return load_audio(CLIPS / "speech_en-us.flac", RATE)[0, 0, : int(seconds * RATE)]


@pytest.fixture
def with_hama():
    pytest.importorskip("hama")


@pytest.mark.parametrize(
    ("decoded", "expected"),
    [
        ("abcd", 0),
        ("abxd", 25),  # one replaced
        ("abd", 25),  # one is missing
        ("axbcd", 25),  # one too many
        ("", 100),
        ("bacd", 50),
        ("abcdxxxxxx", 150),
    ],
)
def test_the_rate_counts_edits_per_phoneme_of_the_original(monkeypatch, decoded, expected):
    heard = {0.0: tuple("abcd"), 1.0: tuple(decoded)}
    monkeypatch.setattr(recognition, "transcribe", lambda clip: heard[float(clip.samples[0])])
    assert phoneme_error(*clips(np.ones(1), np.zeros(1))) == expected


def test_without_phonemes_in_the_original_there_is_no_value(with_hama):
    for original in (np.zeros(RATE), np.ones(1)):
        with pytest.raises(NoValue, match="no phoneme"):
            phoneme_error(*clips(original, original))


def test_it_hears_phonemes_at_any_level(with_hama):
    heard = transcribe(Clip(speech(), RATE))
    assert len(heard) > 10 and len(set(heard)) > 5
    assert transcribe(Clip(0.01 * speech(), RATE)) == heard


def test_more_noise_is_a_higher_rate(with_hama):
    original = speech()
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    rates = [phoneme_error(*clips(original + level * noise, original)) for level in (0, 0.01, 0.3)]
    assert rates[0] == 0 and rates == sorted(rates) and rates[1] < 60 < rates[2] <= 100
    assert phoneme_error(*clips(0 * original, original)) == 100
