import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from messages import one_line
from metric_cases import RATE, clips

from codec.audio.file import load_audio
from codec.errors import ConfigError
from codec.eval.metrics import judges
from codec.eval.metrics.clip import Clip, NoValue
from codec.eval.metrics.judges import dnsmos, speaker_similarity

CLIPS = Path(__file__).parents[1] / "data" / "clips"
WINDOW = 144_160  # of DNSMOS, 9.01 s
RECORDED_DNSMOS = 2.9642623
RECORDED = [0.171682, 0.0, 0.068623, 0.0, 0.0, 0.035534, 0.003392, 0.029572]


def clip(name):
    return load_audio(CLIPS / f"speech_{name}.flac", RATE)[0, 0]


def short(name):
    """2.3 s, which DNSMOS makes one window of: it takes a third of a second for each."""
    return clip(name)[:36_800]


@pytest.fixture
def with_dnsmos():
    pytest.importorskip("speechmos")
    pytest.importorskip("onnxruntime")


def package():
    """The function of the package itself, which also needs librosa."""
    pytest.importorskip("librosa")
    from speechmos import dnsmos as package

    return package.run


@pytest.fixture
def with_speaker():
    if importlib.util.find_spec("resemblyzer") is None:  # not imported: what it requires need not be there
        pytest.skip("resemblyzer is not installed")


# --- DNSMOS


def test_dnsmos_is_what_the_package_gave(with_dnsmos):
    """Recorded from speechmos 0.0.1.1 with librosa 0.11. Floats of ONNX Runtime differ a little by processor."""
    audio = np.resize(clip("en-us").numpy(), WINDOW)
    assert dnsmos(*clips(audio, audio)) == pytest.approx(RECORDED_DNSMOS, abs=1e-3)


@pytest.mark.parametrize("num_samples", [WINDOW, WINDOW + 5000])
def test_dnsmos_of_a_clip_of_one_window_of_the_package_equals_it(with_dnsmos, num_samples):
    """The package takes a second window from 10.01 s on; we take one as soon as the first does not reach the end."""
    run = package()
    audio = clip("en-us").repeat(3)[:num_samples].numpy()
    windows = {first: run(audio[first : first + WINDOW], RATE)["ovrl_mos"] for first in (0, num_samples - WINDOW)}
    expected = sum(windows.values()) / len(windows)
    assert dnsmos(*clips(audio, np.ones_like(audio) + audio)) == pytest.approx(expected, abs=1e-5)


def test_dnsmos_repeats_a_short_clip(with_dnsmos):
    run = package()
    audio = clip("en-us").numpy()
    expected = run(np.resize(audio, WINDOW), RATE)["ovrl_mos"]
    assert dnsmos(*clips(audio, audio)) == pytest.approx(expected, abs=1e-5)


def test_dnsmos_hears_noise_and_not_the_original(with_dnsmos):
    audio = short("en-us")
    noise = 0.05 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    clean = dnsmos(*clips(audio, audio))
    assert 1 <= dnsmos(*clips(audio + noise, audio)) < clean - 0.5
    assert dnsmos(*clips(audio, audio + noise)) == clean


def test_dnsmos_clips_as_a_file_does(with_dnsmos):
    audio = 4 * short("en-us") / short("en-us").abs().amax()
    assert dnsmos(*clips(audio, audio)) == dnsmos(*clips(audio.clamp(-1, 1), audio))


# --- speaker


def test_speaker_of_the_same_and_of_other_audio(with_speaker):
    ours, other = clip("en-us"), clip("en-us_f3")
    num_samples = min(len(ours), len(other))
    ours, other = ours[:num_samples], other[:num_samples]
    assert speaker_similarity(*clips(ours, ours)) == pytest.approx(1, abs=1e-6)
    assert 0 < speaker_similarity(*clips(other, ours)) < 0.85
    noise = 0.003 * torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
    assert speaker_similarity(*clips(other, ours)) < speaker_similarity(*clips(ours + noise, ours)) < 0.9999


def test_speaker_embedding_is_what_the_package_gave(with_speaker):
    """Recorded from resemblyzer 0.1.4 with librosa 0.11: embed_utterance after normalize_volume."""
    embedding = judges.embed_voice(Clip(clip("en-us"), RATE))
    assert embedding[:8].tolist() == pytest.approx(RECORDED, abs=1e-5)
    assert float(embedding.norm()) == pytest.approx(1, abs=1e-6) and float(embedding.min()) >= 0


def test_speaker_does_not_depend_on_a_level_below_30_db(with_speaker):
    ours, other = clip("en-us")[:50_000], clip("en-us_f3")[:50_000]
    expected = speaker_similarity(*clips(0.01 * other, 0.01 * ours))
    assert speaker_similarity(*clips(0.001 * other, 0.02 * ours)) == pytest.approx(expected, abs=1e-5)


def test_speaker_hears_quiet_speech_at_30_db(with_speaker):
    ours = clip("en-us")[:50_000].double()
    ours /= ours.square().mean().sqrt()
    quiet, raised, loud = (10 ** (level_db / 20) * ours for level_db in (-35, -30, -20))
    embed = judges._load_speaker().embed
    assert torch.allclose(embed(quiet), embed(raised), atol=1e-6)
    assert not torch.allclose(embed(loud), embed(raised), atol=1e-3)


def test_speaker_of_silence_for_speech_is_the_end_of_the_scale(with_speaker):
    assert speaker_similarity(*clips(np.zeros(RATE * 2), clip("en-us")[: RATE * 2])) == 0


# --- both


@pytest.mark.parametrize("judge", [dnsmos, speaker_similarity])
@pytest.mark.parametrize("target", [np.zeros(2 * RATE), np.full(2 * RATE, 0.1), np.tile([0.1, -0.1], RATE // 2)])
def test_what_is_silent_constant_or_short_can_not_be_judged(with_dnsmos, with_speaker, judge, target):
    with pytest.raises(NoValue, match="shorter than 1.6 s" if len(target) < 1.6 * RATE else "constant"):
        judge(*clips(target, target))


@pytest.mark.parametrize("judge", [dnsmos, speaker_similarity])
def test_other_rates_are_resampled(with_dnsmos, with_speaker, judge):
    audio = load_audio(CLIPS / "speech_en-us.flac", 24_000)[0, 0, :55_200]
    assert judge(*clips(audio, audio, 24_000)) == pytest.approx(judge(*clips(short("en-us"), short("en-us"))), abs=0.05)


@pytest.mark.parametrize("load", [judges._load_dnsmos, judges._load_speaker])
def test_models_are_loaded_once(with_dnsmos, with_speaker, load):
    assert load() is load()


@pytest.mark.parametrize(
    ("load", "facts"),
    [
        (judges._load_dnsmos, ("speechmos", "not installed", "'eval'", "pip install speechmos")),
        (judges._load_speaker, ("resemblyzer", "not installed", "pip install --no-deps resemblyzer")),
    ],
)
def test_a_missing_package_is_named(monkeypatch, load, facts):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(judges.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=one_line(*facts)):
        load.__wrapped__()
