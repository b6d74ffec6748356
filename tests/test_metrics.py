"""The table of metrics and `measure`; each metric has a test of its own file."""

import inspect
import math
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from messages import one_line
from metric_cases import RATE, clips, noise, voice

from codec.audio.file import load_audio
from codec.errors import AudioError, ConfigError
from codec.eval.metrics import metrics, pitch, recognition
from codec.eval.metrics.clip import Original
from codec.eval.metrics.metrics import METRICS, available_metrics, measure
from codec.eval.metrics.spectral import mel_distance
from codec.eval.metrics.waveform import si_sdr, snr

CLIPS = Path(__file__).parents[1] / "data" / "clips"
PERFECT = {
    "mel": 0,
    "stft": 0,
    "lsd": 0,
    "si_sdr": 100,
    "snr": 100,
    "loudness": 0,
    "stoi": 1,
    "estoi": 1,
    "pesq_wb": 4.6439,
    "pesq_nb": 4.5486,
    "f0": 0,
    "f0_gross": 0,
    "voicing": 0,
    "speaker": 1,
    "phonemes": 0,
}


@pytest.fixture(scope="module")
def speech():
    return Original(load_audio(CLIPS / "speech_en-us.flac", RATE)[0, :, : 2 * RATE], RATE)


@pytest.fixture
def needs():
    """Skip unless the packages of a metric are installed."""

    def skip_without(name):
        if name not in available_metrics():
            pytest.skip(f"{name} needs {' '.join(METRICS[name].packages)}")

    return skip_without


# --- the table


@pytest.mark.parametrize("name", METRICS)
def test_unit_and_direction_stand_in_the_docstring(name):
    metric = METRICS[name]
    summary = " ".join(inspect.getdoc(metric.measure).split("\n\n")[0].split())
    assert {"higher": "higher is better", "lower": "lower is better", "zero": "0 is right"}[metric.better] in summary
    if metric.unit:
        assert f"({metric.unit}" in summary
    else:
        assert "without a unit" in summary or "mean opinion score" in summary


@pytest.mark.parametrize("name", METRICS)
def test_worse_audio_scores_worse(speech, needs, name):
    """A little noise, and more noise with speech that runs too fast; of a difference of loudness, its size counts."""
    needs(name)
    target = speech.channels[0].samples.numpy()
    fast = np.interp(1.3 * np.arange(len(target)) % len(target), np.arange(len(target)), target)
    decodes = target + 0.01 * noise(len(target)), fast + 0.3 * noise(len(target))
    better, worse = (measure(decoded[None], speech, [name]) for decoded in decodes)
    assert not better.notes and not worse.notes
    sign = 1 if METRICS[name].better == "higher" else -1
    assert sign * abs(better.values[name]) > sign * abs(worse.values[name])


@pytest.mark.parametrize("name", PERFECT)
def test_equal_audio_is_perfect(speech, needs, name):
    needs(name)
    measured = measure(speech.channels[0].samples[None], speech, [name])
    assert measured.values[name] == pytest.approx(PERFECT[name], abs=1e-4) and not measured.notes


def test_only_a_metric_without_reference_has_no_perfect_value():
    assert set(METRICS) - set(PERFECT) == {"dnsmos"}


def test_metrics_of_packages_that_are_missing(monkeypatch):
    looked_for = []
    monkeypatch.setattr(metrics.importlib.util, "find_spec", looked_for.append)  # finds nothing
    assert available_metrics() == ("mel", "stft", "lsd", "si_sdr", "snr", "loudness")
    assert {"pystoi", "pesq", "swift_f0", "speechmos", "resemblyzer", "hama"} <= set(looked_for)


@pytest.mark.parametrize(
    ("name", "module"), [("f0", "swift_f0"), ("stoi", "pystoi"), ("pesq_nb", "pesq"), ("phonemes", "hama")]
)
def test_a_missing_package_is_named(monkeypatch, name, module):
    for load in (pitch._load_tracker, recognition._load_recogniser):
        load.cache_clear()  # a network that is loaded needs no package
    missing = ModuleNotFoundError(f"No module named {module!r}", name=module)
    monkeypatch.setattr("codec.errors.importlib.import_module", Mock(side_effect=missing))
    with pytest.raises(ConfigError, match=one_line(module, "not installed", f"pip install {module}")):
        measure(voice(), Original(voice(), RATE), [name])


# --- measure


ODD = {
    "silence": np.zeros(2 * RATE),
    "near silence": 1e-12 * voice(),
    "a constant": np.full(2 * RATE, 0.1),
    "one sample": np.full(1, 0.1),
    "10 samples": noise(10),
    "0.1 s": voice()[8000:9600],
    "0.3 s": voice()[8000:12_800],
    "a click": np.eye(1, 2 * RATE, RATE)[0],
    "noise": noise(2 * RATE),
    "far beyond full scale": 1e4 * voice(),
}


@pytest.mark.parametrize("name", METRICS)
def test_whatever_is_measured_has_a_value_or_a_reason(needs, name):
    needs(name)
    for what, target in ODD.items():
        original = Original(target, RATE)
        for decoded in (target, 1e-13 * target, target + noise(len(target), seed=3)):
            values, notes = measure(decoded, original, [name])
            assert math.isfinite(values[name]) != (name in notes), what
            assert not math.isinf(values[name])


def test_values_are_those_of_the_functions_in_order(speech):
    decoded = speech.channels[0].samples + torch.from_numpy(noise(2 * RATE))
    names = ("snr", "mel", "si_sdr")
    values, notes = measure(decoded[None], speech, names)
    pair = clips(decoded, speech.channels[0].samples)
    assert list(values) == list(names) and notes == {}
    assert values == {"snr": snr(*pair), "mel": mel_distance(*pair), "si_sdr": si_sdr(*pair)}


def test_a_second_decode_is_measured_as_the_first(speech):
    """What is kept of the original is not changed."""
    names = [name for name in available_metrics() if name not in ("dnsmos", "estoi")]  # slow; random
    decodes = [speech.channels[0].samples[None] + torch.from_numpy(noise(1, 2 * RATE, seed=seed)) for seed in (0, 1)]
    alone = [measure(decoded, Original(speech.channels[0].samples[None], RATE), names) for decoded in decodes]
    assert [measure(decoded, speech, names) for decoded in decodes] == alone


def test_channels_are_averaged():
    audio, target = noise(2, 3000), noise(2, 3000, seed=1)
    values, _ = measure(audio, Original(target, RATE), ("si_sdr", "mel"))
    for name in ("si_sdr", "mel"):
        each = [METRICS[name].measure(*clips(audio[c], target[c])) for c in range(2)]
        assert values[name] == pytest.approx(np.mean(each))


def test_channels_without_a_value_are_left_out_and_named():
    audio, target = noise(3, 3000), noise(3, 3000, seed=1)
    target[1] = 0
    values, notes = measure(audio, Original(target, RATE), ("snr", "mel"))
    assert values["snr"] == pytest.approx((snr(*clips(audio[0], target[0])) + snr(*clips(audio[2], target[2]))) / 2)
    assert notes == {"snr": "2 of 3 channels: the original is silent"}
    values, notes = measure(audio, Original(0 * target, RATE), ("snr",))
    assert math.isnan(values["snr"]) and notes == {"snr": "the original is silent"}


def test_measure_refuses_other_shapes_and_names():
    with pytest.raises(AudioError, match=one_line("(2, 10)", "(2, 11)")):
        measure(np.ones((2, 10)), Original(np.ones((2, 11)), RATE), ("snr",))
    with pytest.raises(ConfigError, match=one_line("'visqol'", "mel", "si_sdr")):
        measure(np.ones(10), Original(np.ones(10), RATE), ("visqol",))
