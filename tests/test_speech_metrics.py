"""PESQ and STOI: the values of their packages, what those can't score, and long clips."""

import numpy as np
import pytest
from metric_cases import RATE, clips, noise, voice

from codec.audio.resampling import resample
from codec.eval.metrics.clip import Clip, NoValue
from codec.eval.metrics.speech import extended_stoi, pesq_nb, pesq_wb, stoi

PESQ = [pesq_wb, pesq_nb]
STOI = [stoi, extended_stoi]


@pytest.fixture
def pesq():
    return pytest.importorskip("pesq").pesq


@pytest.fixture
def pystoi():
    return pytest.importorskip("pystoi")


@pytest.mark.parametrize(("metric", "extended"), [(stoi, False), (extended_stoi, True)])
def test_stoi_is_that_of_the_package(pystoi, metric, extended):
    target = voice()
    noisy = target + noise(len(target))
    expected = pystoi.stoi(target, noisy, RATE, extended=extended)
    assert metric(*clips(noisy, target)) == pytest.approx(expected, abs=1e-12)  # extended STOI adds tiny random noise
    assert metric(*clips(target, noisy)) != pytest.approx(expected, rel=1e-4), "the order counts"


def test_pesq_is_that_of_the_package(pesq):
    target = voice()
    noisy = target + 0.03 * noise(len(target))
    wide = pesq_wb(*clips(noisy, target))
    assert wide == pesq(RATE, target, noisy, "wb")
    narrow = [resample(Clip(samples, RATE).samples, RATE, 8000).double().numpy() for samples in (target, noisy)]
    assert pesq_nb(*clips(noisy, target)) == pesq(8000, *narrow, "nb") != wide
    assert pesq_nb(*clips(*narrow[::-1], 8000)) == pesq(8000, *narrow, "nb")


@pytest.mark.parametrize(("metric", "best"), [(pesq_wb, 4.644), (pesq_nb, 4.549), (stoi, 1), (extended_stoi, 1)])
def test_more_noise_scores_lower(pesq, pystoi, metric, best):
    target = voice()
    scores = [metric(*clips(target + level * noise(len(target)), target)) for level in (0, 0.01, 0.1, 1)]
    assert scores[0] == pytest.approx(best, abs=0.001) and scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.8 * best


@pytest.mark.parametrize("sample_rate", [8000, 24_000])
@pytest.mark.parametrize(("metric", "best"), [(pesq_wb, 4.644), (pesq_nb, 4.549), (stoi, 1), (extended_stoi, 1)])
def test_other_rates_are_resampled(pesq, pystoi, metric, best, sample_rate):
    target = voice(2 * sample_rate, sample_rate)
    assert metric(*clips(target, target, sample_rate)) == pytest.approx(best, abs=0.001)
    noisy = target + 0.1 * noise(len(target))
    assert 0.2 * best < metric(*clips(noisy, target, sample_rate)) < 0.999 * best


def test_a_clip_of_20_s_is_scored_whole(pesq):
    target = np.tile(voice(), 10)
    noisy = target + np.linspace(0, 0.1, len(target)) * noise(len(target))
    assert pesq_wb(*clips(noisy, target)) == pesq(RATE, target, noisy, "wb")


@pytest.mark.parametrize("metric", PESQ)
def test_a_long_clip_is_scored_in_parts(pesq, metric):
    target = np.tile(voice(), 12)[: 23 * RATE]
    noisy = target + np.linspace(0, 0.1, len(target)) * noise(len(target))
    parts = [metric(*clips(*(np.array_split(each, 2)[part] for each in (noisy, target)))) for part in (0, 1)]
    assert parts[0] > parts[1] + 0.1
    assert metric(*clips(noisy, target)) == pytest.approx(np.mean(parts), abs=0.01)


def test_a_hundred_utterances_are_scored(pesq):
    """The package alone ends the process after more than 50."""
    burst = np.concatenate([noise(8000), 1e-4 * noise(8000)])
    target = np.tile(burst, 100)
    noisy = target + 1e-3 * noise(len(target), seed=1)
    expected = pesq(RATE, target[: 20 * RATE], noisy[: 20 * RATE], "wb")
    assert pesq_wb(*clips(noisy, target)) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("metric", PESQ)
def test_a_silent_part_is_left_out(pesq, metric):
    target = np.tile(voice(), 8)
    noisy = target + 0.03 * noise(len(target))
    padded = [np.concatenate([each, np.zeros(16 * RATE)]) for each in (noisy, target)]
    assert metric(*clips(*padded)) == pytest.approx(metric(*clips(noisy, target)), abs=1e-3)


@pytest.mark.parametrize(("metric", "lowest"), [(pesq_wb, 1.04), (pesq_nb, 1.02), (stoi, 0), (extended_stoi, 0)])
def test_silence_for_speech_is_the_end_of_the_scale(pesq, pystoi, metric, lowest):
    target = voice()
    for silence in (np.zeros_like(target), 1e-60 * target):
        assert metric(*clips(silence, target)) == pytest.approx(lowest, abs=0.05)


@pytest.mark.parametrize("metric", [*PESQ, *STOI])
@pytest.mark.parametrize("decoded", [voice(), np.zeros(2 * RATE)])
def test_a_silent_original_has_no_value(pesq, pystoi, metric, decoded):
    with pytest.raises(NoValue, match="silent"):
        metric(*clips(decoded, np.zeros(2 * RATE)))


@pytest.mark.parametrize("metric", PESQ)
def test_pesq_finds_no_speech_in_a_short_sound(pesq, metric):
    sound = np.concatenate([np.zeros(8000), voice()[:1000], np.zeros(8000)])
    with pytest.raises(NoValue, match="no speech"):
        metric(*clips(sound, sound))


@pytest.mark.parametrize(
    ("metrics", "num_samples", "reason"),
    [(PESQ, 1, "0.25 s"), (PESQ, 3000, "0.25 s"), (STOI, 1, "0.4 s"), (STOI, 6399, "0.4 s"), (STOI, 6500, "0.4 s of")],
)
def test_short_clips_have_no_value(pesq, pystoi, metrics, num_samples, reason):
    clip = voice()[8000 : 8000 + num_samples]
    for metric in metrics:
        with pytest.raises(NoValue, match=reason):
            metric(*clips(clip, clip))
