import math

import pytest
import torch
from messages import one_line
from models import noise

from codec.audio.resampling import resample
from codec.errors import CodecError, ConfigError
from codec.eval.metrics.clip import Clip
from codec.eval.metrics.waveform import snr
from codec.eval.systems import soundfile_codecs
from codec.eval.systems.soundfile_codecs import FORMATS, SoundfileCodec, allowed_rate, check_bitrate

RATE = 16_000


@pytest.fixture(scope="module")
def speechlike():
    """Five seconds of harmonics that swell, and noise, `[1, T]`."""
    time = torch.arange(5 * RATE, dtype=torch.float64) / RATE
    voice = sum(torch.sin(2 * math.pi * k * (120 * time + torch.sin(3 * time))) / k for k in range(1, 30))
    breath = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return (0.1 * (1 + torch.sin(25 * time)) * voice + 0.01 * breath).float()[None]


def bitrate_of(coded, audio, sample_rate=RATE):
    return 8 * coded.num_bytes * sample_rate / audio.shape[-1]


@pytest.mark.parametrize("bitrate", [6000, 9000, 24_000, 64_000])
def test_opus_has_nearly_the_bitrate_that_was_asked_for(speechlike, bitrate):
    mono = SoundfileCodec("opus", bitrate, RATE)(speechlike)
    # Variable, in an Ogg file: its pages cost 0.4 kbit/s, its header 0.1 kB.
    assert 0.75 * bitrate < bitrate_of(mono, speechlike) < 1.2 * bitrate + 800
    stereo = torch.cat([speechlike, speechlike.roll(4000)])
    both = SoundfileCodec("opus", bitrate, RATE)(stereo)
    assert 1.4 * bitrate < bitrate_of(both, stereo) < 2.4 * bitrate + 800  # the bitrate is that of a channel


@pytest.mark.parametrize(("bitrate", "rate"), [(16_000, RATE), (24_000, RATE), (64_000, 48_000), (24_000, 8000)])
def test_mp3_has_the_bitrate_that_was_asked_for(speechlike, bitrate, rate):
    audio = resample(speechlike, RATE, rate)
    coded = SoundfileCodec("mp3", bitrate, rate)(audio)
    assert bitrate_of(coded, audio, rate) == pytest.approx(
        bitrate, rel=0.06
    )  # whole frames of up to 72 ms, one for its length
    both = SoundfileCodec("mp3", bitrate / 2, rate)(audio.expand(2, -1))
    assert both.num_bytes == pytest.approx(coded.num_bytes, rel=0.01)


def test_vorbis_is_searched_for_the_bitrate(speechlike):
    for bitrate in (40_000, 60_000):
        coded = SoundfileCodec("vorbis", bitrate, RATE)(speechlike)
        assert 0.93 * bitrate < bitrate_of(coded, speechlike) <= bitrate
    smallest = SoundfileCodec("vorbis", 1000, RATE)(speechlike)
    assert 1000 < bitrate_of(smallest, speechlike) < 40_000


@pytest.mark.parametrize("codec", FORMATS)
def test_a_higher_bitrate_is_nearer_to_the_original(speechlike, codec):
    low, high = (SoundfileCodec(codec, bitrate, RATE)(speechlike) for bitrate in (24_000, 128_000))
    assert low.num_bytes < high.num_bytes
    original = Clip(speechlike[0], RATE)
    scores = [snr(Clip(coded.audio[0, : speechlike.shape[1]], RATE), original) for coded in (low, high)]
    assert scores[0] + 3 < scores[1] and scores[1] > 12  # no delay, no other channel, no other scale


def test_the_rate_of_a_format_is_not_below_the_wanted_one():
    assert [allowed_rate("opus", rate) for rate in (8000, 11_025, 16_000, 22_050, 44_100, 96_000)] == [
        *(8000, 12_000, 16_000, 24_000, 48_000, 48_000)
    ]
    assert [allowed_rate("mp3", rate) for rate in (7000, 44_100, 96_000)] == [8000, 44_100, 48_000]
    assert allowed_rate("vorbis", 12_345) == 12_345


@pytest.mark.parametrize("codec", ["opus", "mp3"])
@pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 48_000])
def test_libsndfile_takes_every_rate_and_the_ends_of_the_bitrates(codec, rate):
    low, high = soundfile_codecs.bitrate_range(codec, rate)
    audio = noise(1, rate // 2, scale=0.1)
    sizes = [SoundfileCodec(codec, bitrate, rate)(audio).num_bytes for bitrate in (low, high)]
    assert 0 < 3 * sizes[0] < sizes[1]


def test_a_bitrate_that_a_format_lacks():
    check_bitrate("opus", 6000, RATE)
    check_bitrate("vorbis", 1, RATE)
    with pytest.raises(ConfigError, match=one_line("opus", "5 kbit/s", "6", "256")):
        check_bitrate("opus", 5000, RATE)
    with pytest.raises(ConfigError, match=one_line("mp3", "16 kbit/s", "44100", "32", "320")):
        check_bitrate("mp3", 16_000, 44_100)


def test_an_error_of_libsndfile():
    with pytest.raises(CodecError, match=one_line("opus", "encode")):
        SoundfileCodec("opus", 6000, 7000)(torch.zeros(1, 100))


def test_the_setting_is_the_bitrate():
    assert SoundfileCodec("opus", 6000, RATE).setting == "6 kbit/s"
    assert SoundfileCodec("opus", 8500, RATE).setting == "8.5 kbit/s"
