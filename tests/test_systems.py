"""Laws that all codecs for codec-eval obey, each in a small form of it."""

import pickle

import fake_lyra
import fake_programs
import pytest
import torch
from models import noise, tiny_codec
from tiny_runs import write_clips
from tiny_transformers import save_tiny

from codec.adapters.transformers_codec import load_transformers
from codec.errors import AudioError, CodecError
from codec.eval.systems.lyra import Lyra, read_files
from codec.eval.systems.ours import OurCodec
from codec.eval.systems.parametric import ParametricCodec, fit
from codec.eval.systems.programs import Codec2, OpusTools
from codec.eval.systems.soundfile_codecs import SoundfileCodec
from codec.eval.systems.system import codec_errors, round_trip, whole_frames
from codec.model.digest import with_identity

RATE = 16_000
KINDS = ("ours", "opus", "vorbis", "mp3", "opusenc", "codec2", "lyra", "parametric", "encodec", "dac", "mimi")
WITH_CODES = {"ours": 4, "lyra": 16, "parametric": 4, "encodec": 2, "dac": 2, "mimi": 2}


@pytest.fixture(scope="module")
def codebooks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codebooks")
    path = folder / "parametric.safetensors"
    fit(sorted(write_clips(folder / "clips").iterdir()), path, progress=False)
    return path


@pytest.fixture
def system(request, monkeypatch, tmp_path):
    kind = request.param
    if kind in ("opus", "vorbis", "mp3"):
        return SoundfileCodec(kind, 16_000, RATE)
    if kind in ("opusenc", "codec2"):
        fake_programs.install_copies(tmp_path / "bin", monkeypatch)
        return OpusTools(6000, RATE) if kind == "opusenc" else Codec2(3200)
    if kind == "lyra":
        read_files.cache_clear()
        return Lyra(fake_lyra.install(tmp_path / "lyra", monkeypatch), 3200)
    if kind == "parametric":
        return ParametricCodec(request.getfixturevalue("codebooks"), 4)
    if kind == "ours":
        return OurCodec("tiny", with_identity(tiny_codec()), 4)
    pytest.importorskip("transformers")
    save_tiny(kind, tmp_path / kind)
    return OurCodec(kind, load_transformers(tmp_path / kind), 2)


every_system = pytest.mark.parametrize("system", KINDS, indirect=True)
library_warnings = pytest.mark.filterwarnings("default")  # of transformers, which is not ours


@library_warnings
@every_system
@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("num_samples", [1, 4001])
def test_a_recording_keeps_its_channels_and_nearly_its_length(system, num_channels, num_samples):
    coded = system(noise(num_channels, num_samples, scale=0.1))
    assert coded.audio.dtype == torch.float32 and coded.audio.isfinite().all()
    assert coded.audio.shape[0] == num_channels
    # MP3 without room for its length adds a frame and the delay of its filters, 1,800 samples in all.
    assert num_samples <= coded.audio.shape[1] <= num_samples + 2000
    assert coded.num_bytes > 0
    assert coded.encode_seconds > 0 and coded.decode_seconds > 0


@library_warnings
@every_system
def test_silence_stays_quiet(system):
    decoded = system(torch.zeros(1, 4000)).audio
    if system.codec not in ("encodec", "dac", "mimi", "tiny", "lyra"):  # random weights, or an odd first frame
        assert decoded.abs().max() < 1e-3
    assert decoded.isfinite().all()


@library_warnings
@every_system
def test_a_system_can_be_sent_to_another_process(system):
    audio = noise(1, 3000, scale=0.1)
    received = pickle.loads(pickle.dumps(system))
    assert (received.codec, received.setting, received.sample_rate) == (
        system.codec,
        system.setting,
        system.sample_rate,
    )
    first, second = system(audio), received(audio)
    assert torch.equal(first.audio, second.audio) and first.num_bytes == second.num_bytes


@library_warnings
@every_system
def test_channels_are_coded_separately_where_there_are_codes(system, request):
    kind = request.node.callspec.params["system"]
    audio = noise(2, 4001, scale=0.1)
    both, right = system(audio), system(audio[1:])
    if kind not in WITH_CODES:
        assert both.codes is None
        return
    assert both.codes.dtype == torch.int64
    assert both.codes.shape[:2] == (2, WITH_CODES[kind])
    assert torch.equal(both.codes[1:], right.codes)
    # A batch of two adds up in another order than one of one.
    torch.testing.assert_close(both.audio[1:], right.audio, rtol=1e-3, atol=1e-4)
    assert both.nominal_bitrate == 2 * right.nominal_bitrate > 0


def test_a_round_trip_counts_the_seconds_of_each_half():
    trip = round_trip("x", torch.ones(1, 3), lambda audio: audio + 1, lambda encoded: 2 * encoded.double())
    assert trip.encoded.tolist() == [[2, 2, 2]]
    assert trip.audio.tolist() == [[4, 4, 4]] and trip.audio.dtype == torch.float32
    assert trip.encode_seconds > 0 and trip.decode_seconds > 0


@pytest.mark.parametrize("action", ["encode", "decode"])
def test_whatever_a_codec_raises_becomes_an_error_of_one_line(action):
    def fail(given):
        raise ZeroDivisionError("no\nroom")

    halves = {"encode": lambda given: given, "decode": lambda given: given} | {action: fail}
    with pytest.raises(CodecError, match=rf"^x can't {action}: no room$"):
        round_trip("x", torch.ones(1, 3), halves["encode"], halves["decode"])


def test_an_error_of_ours_keeps_its_kind_and_text():
    with pytest.raises(AudioError, match=r"^as it is$"), codec_errors("x", "encode"):
        raise AudioError("as it is")


def test_frames_are_filled_with_zeros():
    assert whole_frames(torch.ones(2, 5), 4).tolist() == [[1, 1, 1, 1, 1, 0, 0, 0]] * 2
    assert whole_frames(torch.ones(2, 8), 4).shape == (2, 8)
