import math

import pytest
import torch
from messages import one_line
from models import noise

from codec.errors import ConfigError
from codec.eval.conditions import AS_IT_IS, Condition, parse_condition


def test_a_recording_as_it_is_is_not_touched():
    audio = noise(2, 1000, scale=3.0)
    assert torch.equal(AS_IT_IS.apply(audio, "a.wav"), audio)
    assert torch.equal(AS_IT_IS.heard(audio), audio)


def test_gain_and_offset():
    audio = noise(1, 1000, scale=0.1)
    assert torch.allclose(Condition(gain_db=-20).apply(audio, "a"), audio * 0.1)
    assert torch.allclose(Condition(offset=0.05).apply(audio, "a"), audio + 0.05)


def test_an_offset_is_not_heard():
    audio = noise(2, 1000, scale=0.1)
    condition = Condition(offset=-0.2)
    heard = condition.heard(condition.apply(audio, "a"))
    assert torch.allclose(heard, audio - audio.mean(dim=-1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("noise_db", [-10, 0, 20])
def test_noise_has_its_power(noise_db):
    audio = noise(1, 50_000, scale=0.01)
    added = Condition(noise_db=noise_db).apply(audio, "a") - audio
    ratio = 10 * math.log10(audio.square().mean() / added.square().mean())
    assert ratio == pytest.approx(noise_db, abs=0.1)


def test_noise_is_a_function_of_the_name():
    audio, condition = noise(1, 1000), Condition(noise_db=10)
    assert torch.equal(condition.apply(audio, "a"), condition.apply(audio, "a"))
    assert not torch.equal(condition.apply(audio, "a"), condition.apply(audio, "b"))


def test_noise_of_silence_is_silence():
    assert not Condition(noise_db=10).apply(torch.zeros(1, 100), "a").any()


def test_a_changed_recording_stays_within_full_scale():
    assert Condition(gain_db=20).apply(noise(1, 1000, scale=0.5), "a").abs().amax() == 1


@pytest.mark.parametrize(
    ("condition", "name"),
    [
        (AS_IT_IS, "as it is"),
        (Condition(gain_db=-20), "-20 dB"),
        (Condition(gain_db=6), "+6 dB"),
        (Condition(offset=0.05), "DC +0.05"),
        (Condition(noise_db=20), "noise 20 dB"),
        (Condition(gain_db=-40, noise_db=0), "-40 dB, noise 0 dB"),
    ],
)
def test_names(condition, name):
    assert condition.name == name


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("dc", Condition(offset=0.05)),
        ("dc=-0.1", Condition(offset=-0.1)),
        ("noise", Condition(noise_db=20)),
        ("noise=5", Condition(noise_db=5)),
    ],
)
def test_parsing(text, condition):
    assert parse_condition(text) == condition


@pytest.mark.parametrize("text", ["", "rain", "dc=0", "dc=0.6", "dc=nan", "noise=x", "noise=101", "noise=inf"])
def test_no_condition(text):
    with pytest.raises(ConfigError, match=one_line(repr(text), "dc", "noise")):
        parse_condition(text)
