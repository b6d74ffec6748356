import math
import warnings

import numpy as np
import pytest
import torch
from messages import one_line

from codec.errors import AudioError, ConfigError
from codec.eval.metrics import metrics
from codec.eval.metrics.metrics import JUDGES, available_metrics, measure, mel_distance, pesq_wb, si_sdr, snr, stoi

RATE = 16000


def noise(*shape, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


def voice(num_samples=2 * RATE, sample_rate=RATE):
    """A buzz with a gliding pitch, in bursts: enough of a voice for STOI and PESQ."""
    time = np.arange(num_samples) / sample_rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 3 * time)) / sample_rate
    buzz = sum(np.sin(k * phase) / k for k in range(1, 30))
    envelope = np.sqrt(np.clip(np.sin(2 * np.pi * 2 * time), 0, None))
    return 0.2 * buzz * envelope + 0.001 * noise(num_samples, seed=9)


def reference_log_mel(samples):
    """The definition, in plain NumPy, at 16 kHz."""
    samples = np.pad(samples, (0, max(0, 1024 - len(samples))))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1023)
    frames = [samples[i : i + 1024] * window for i in range(0, len(samples) - 1023, 256)]
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 82) / 2595) - 1)
    bins = np.arange(513) * RATE / 1024
    bank = np.stack([np.interp(bins, corners[i : i + 3], [0, 1, 0]) for i in range(80)], axis=1)
    return np.log(np.maximum(np.abs(np.fft.rfft(frames)) @ bank, 1e-5))


# --- mel ---


@pytest.mark.parametrize("num_samples", [1, 1000, 1024, 1279, 1280, 5000])
def test_mel_distance_equals_numpy(num_samples):
    audio, target = noise(num_samples), noise(num_samples, seed=1)
    expected = np.abs(reference_log_mel(audio) - reference_log_mel(target)).mean()
    assert mel_distance(audio, target, RATE) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 24000, 44100, 48000])
def test_mel_distance_of_a_scaled_copy_is_the_log_of_the_scale(sample_rate):
    target = noise(6000)
    assert mel_distance(0.5 * target, target, sample_rate) == pytest.approx(math.log(2))
    assert mel_distance(target, target, sample_rate) == 0


# --- snr, si_sdr ---


def test_snr_of_a_scaled_copy():
    target = noise(500)
    assert snr(1.1 * target, target) == pytest.approx(20)
    assert snr(0 * target, target) == pytest.approx(0)
    assert snr(target, target) == math.inf
    assert snr(target, 0 * target) == -math.inf
    assert snr(0 * target, 0 * target) == math.inf


def test_si_sdr_of_a_hand_case():
    # audio = 3 target + 1 other, both of mean 0 and orthogonal: 10 log10(9 * 4 / 4)
    target, other = np.array([1.0, -1.0, 1.0, -1.0]), np.array([1.0, 1.0, -1.0, -1.0])
    assert si_sdr(3 * target + other, target) == pytest.approx(10 * math.log10(9))


def test_si_sdr_ignores_scale_and_mean():
    target = noise(1000)
    audio = target + noise(1000, seed=1)
    expected = si_sdr(audio, target)
    assert abs(expected) < 1  # as loud as each other
    for other_audio, other_target in (
        (5 * audio, target),
        (-audio, target),
        (audio, 0.01 * target),
        (audio + 0.3, target - 0.2),
    ):
        assert si_sdr(other_audio, other_target) == pytest.approx(expected)


def test_si_sdr_of_constants_is_defined():
    target = noise(1000)
    assert si_sdr(target, target) == math.inf
    for constant in (np.zeros(1000), np.full(1000, 0.1)):
        assert si_sdr(target, constant) == -math.inf
        assert si_sdr(constant, target) == -math.inf


# --- stoi, pesq ---


def test_stoi():
    pystoi = pytest.importorskip("pystoi")
    target = voice()
    noisy = target + noise(len(target))
    assert stoi(noisy, target, RATE) == pytest.approx(pystoi.stoi(target, noisy, RATE), rel=1e-9)
    assert stoi(noisy, target, RATE) != pytest.approx(stoi(target, noisy, RATE), rel=1e-4)  # the order counts
    values = [stoi(target + level * noise(len(target)), target, RATE) for level in (0, 0.1, 1, 5)]
    assert values[0] == pytest.approx(1)
    assert values[0] > values[1] > values[2] > values[3]
    assert values[1] > 0.9 and values[3] < 0.8


def test_pesq_wb():
    pytest.importorskip("pesq")
    target = voice()
    values = [pesq_wb(target + level * noise(len(target)), target, RATE) for level in (0, 0.01, 0.1, 1)]
    assert values[0] == pytest.approx(4.644, abs=0.001)  # the end of the scale
    assert values[0] > values[1] > values[2] > values[3]
    assert 1 < values[3] < 1.5


@pytest.mark.parametrize("sample_rate", [8000, 24000])
def test_stoi_and_pesq_resample(sample_rate):
    pytest.importorskip("pystoi")
    pytest.importorskip("pesq")
    target = voice(2 * sample_rate, sample_rate)
    assert stoi(target, target, sample_rate) == pytest.approx(1)
    assert pesq_wb(target, target, sample_rate) == pytest.approx(4.644, abs=0.001)
    noisy = target + 0.01 * noise(len(target))
    assert 1 < pesq_wb(noisy, target, sample_rate) < 4.5


@pytest.mark.parametrize("num_samples", [1, 255, 300, 3000, 6500])
def test_short_clips_give_nan_and_no_warning(num_samples):
    pytest.importorskip("pystoi")
    pytest.importorskip("pesq")
    clip = voice()[8000 : 8000 + num_samples]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(stoi(clip, clip, RATE))
        score = pesq_wb(clip, clip, RATE)
    assert math.isnan(score) if num_samples < 4000 else score > 4.6


def test_silence_has_defined_stoi_and_pesq():
    pytest.importorskip("pystoi")
    pytest.importorskip("pesq")
    speech, silence = voice(), np.zeros(2 * RATE)
    for audio in (speech, silence):
        assert math.isnan(stoi(audio, silence, RATE)) and math.isnan(pesq_wb(audio, silence, RATE))
    assert stoi(silence, speech, RATE) == pytest.approx(0, abs=0.01)
    assert pesq_wb(silence, speech, RATE) == 1.04


# --- all of them ---


def test_tensors_arrays_and_read_only_arrays_give_the_same():
    audio, target = noise(3000).astype(np.float32), noise(3000, seed=1).astype(np.float32)
    names = ("mel", "si_sdr", "snr")
    expected = measure(audio, target, RATE, names)
    assert list(expected) == list(names)
    tensors = torch.from_numpy(audio).requires_grad_(), torch.from_numpy(target.copy())
    assert measure(*tensors, RATE, names) == expected
    target.setflags(write=False)
    assert measure(audio, target, RATE, names) == expected
    assert expected["snr"] == snr(audio, target) and expected["mel"] == mel_distance(audio, target, RATE)


def test_measure_averages_channels():
    audio, target = noise(2, 3000), noise(2, 3000, seed=1)
    values = measure(audio, target, RATE, ("si_sdr", "mel"))
    assert values["si_sdr"] == pytest.approx((si_sdr(audio[0], target[0]) + si_sdr(audio[1], target[1])) / 2)
    mels = [mel_distance(audio[c], target[c], RATE) for c in range(2)]
    assert values["mel"] == pytest.approx(np.mean(mels))


def test_more_noise_is_a_worse_score():
    target, disturbance = voice(RATE), noise(RATE)
    rising = ("mel",)  # the judges want speech: tests/test_judges.py
    falling = tuple(name for name in available_metrics() if name not in (*rising, *JUDGES))
    better, worse = (measure(target + level * disturbance, target, RATE, rising + falling) for level in (0.01, 0.3))
    assert all(better[name] < worse[name] for name in rising)
    assert all(better[name] > worse[name] for name in falling)


def test_metrics_of_packages_that_are_missing(monkeypatch):
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None)
    assert available_metrics() == ("mel", "si_sdr", "snr")


@pytest.mark.parametrize(
    "metric", [snr, si_sdr, *(lambda a, t, m=m: m(a, t, RATE) for m in (mel_distance, stoi, pesq_wb))]
)
@pytest.mark.parametrize(
    ("audio", "target"),
    [
        (np.ones(10), np.ones(11)),
        (np.ones((1, 10)), np.ones((1, 10))),
        (np.ones(0), np.ones(0)),
        (np.ones(9), np.full(9, np.nan)),
    ],
)
def test_inputs_that_do_not_fit_are_refused(metric, audio, target):
    pytest.importorskip("pystoi")
    pytest.importorskip("pesq")
    with pytest.raises(AudioError, match=one_line()):
        metric(audio, target)


def test_measure_refuses_other_shapes_and_names():
    with pytest.raises(AudioError, match=one_line("(2, 10)", "(2, 11)")):
        measure(np.ones((2, 10)), np.ones((2, 11)), RATE, ("snr",))
    with pytest.raises(AudioError, match=one_line("[C, T]")):
        measure(np.ones((1, 2, 10)), np.ones((1, 2, 10)), RATE, ("snr",))
    with pytest.raises(ConfigError, match=one_line("'visqol'", "mel", "si_sdr")):
        measure(np.ones(10), np.ones(10), RATE, ("visqol",))
