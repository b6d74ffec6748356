import shutil

import fake_programs
import pytest
import torch
from audio_cases import pcm_noise, tone
from messages import one_line
from tiny_runs import buzz

from codec.errors import CodecError, ConfigError
from codec.eval.metrics.clip import Clip
from codec.eval.metrics.waveform import snr
from codec.eval.systems import programs
from codec.eval.systems.programs import CODEC2_MODES, Codec2, OpusTools, check_programs, run_program

RATE = 16_000


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """Programs that copy; the fixture is a function that returns their calls."""
    fake_programs.install_copies(tmp_path / "bin", monkeypatch)

    def calls():
        lines = (tmp_path / "bin" / "calls").read_text().splitlines()
        return [line.removeprefix(f"{tmp_path}/bin/").split() for line in lines]

    return calls


def test_opus_tools_get_the_file_and_the_bitrate_of_all_channels(copies):
    audio = pcm_noise(2, 1234)[0]
    coded = OpusTools(6000, RATE)(audio)
    assert torch.equal(coded.audio, audio)
    assert coded.num_bytes == 44 + 2 * 2 * 1234  # a WAV file of 16 bits
    encode, decode = copies()
    assert encode[:-2] == ["opusenc", "--quiet", "--framesize", "20", "--bitrate", "12"]
    assert decode[:-2] == ["opusdec", "--quiet", "--float", "--rate", str(RATE)]
    assert encode[-1] == decode[-2] and encode[-1].endswith(".opus")


def test_codec2_codes_channel_by_channel_in_whole_frames(copies):
    audio = pcm_noise(2, 1000)[0]
    coded = Codec2(700)(audio)
    assert coded.audio.shape == (2, 1280)  # 4 frames of 40 ms at 8 kHz
    assert torch.equal(coded.audio[:, :1000], audio) and not coded.audio[:, 1000:].any()
    assert coded.num_bytes == 2 * 2 * 1280
    assert coded.nominal_bitrate == 1400
    assert [(call[0], call[1]) for call in copies()] == [("c2enc", "700C"), ("c2dec", "700C")] * 2


def test_samples_beyond_full_scale_are_clipped(copies):
    decoded = Codec2(3200)(torch.tensor([[2.0, -2.0, 0.5]])).audio
    assert decoded[0, :3].tolist() == [32767 / 32768, -1.0, 0.5]


def test_a_program_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for system, name, package in ((OpusTools(6000, RATE), "opusenc", "opus-tools"), (Codec2(3200), "c2enc", "codec2")):
        with pytest.raises(ConfigError, match=one_line(name, f"apt-get install {package}")):
            system(torch.zeros(1, 100))


def test_a_program_that_fails(monkeypatch, tmp_path):
    script = "#!/bin/sh\necho first >&2\necho 'no such mode ' >&2\nexit 3\n"
    fake_programs.install(tmp_path / "bin", monkeypatch, c2enc=script, c2dec="#!/bin/sh\nexit 1\n")
    with pytest.raises(CodecError, match=one_line("c2enc", "3", "no such mode")) as caught:
        Codec2(3200)(torch.zeros(1, 100))
    assert "first" not in str(caught.value)
    with pytest.raises(CodecError, match=one_line("c2dec", "1", "no message")):
        run_program("c2dec")


def test_a_program_that_writes_no_file(monkeypatch, tmp_path):
    fake_programs.install(tmp_path / "bin", monkeypatch, opusenc="#!/bin/sh\n", opusdec="#!/bin/sh\n")
    with pytest.raises(CodecError, match=one_line("decoded.wav")):
        OpusTools(6000, RATE)(torch.zeros(1, 100))
    fake_programs.install(tmp_path / "bin", monkeypatch, c2enc="#!/bin/sh\n", c2dec="#!/bin/sh\n")
    with pytest.raises(CodecError, match=one_line("codec2", "decode")):
        Codec2(3200)(torch.zeros(1, 100))


def test_a_program_that_does_not_end(monkeypatch, tmp_path):
    fake_programs.install(tmp_path / "bin", monkeypatch, c2enc="#!/bin/sh\nexec sleep 60\n", c2dec="#!/bin/sh\n")
    monkeypatch.setattr(programs, "TIMEOUT_S", 0.2)
    with pytest.raises(CodecError, match=one_line("c2enc", "0.2 s")):
        Codec2(3200)(torch.zeros(1, 100))


def needs(*names):
    missing = [name for name in names if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} not installed")


@needs("opusenc", "opusdec")
@pytest.mark.parametrize("num_channels", [1, 2])
def test_opusenc_itself(num_channels):
    audio = tone(2 * RATE, RATE)[0].expand(num_channels, -1)
    coded = OpusTools(32_000, RATE)(audio)
    assert coded.audio.shape == audio.shape
    pairs = zip(coded.audio, audio, strict=True)
    assert all(snr(Clip(ours, RATE), Clip(theirs, RATE)) > 15 for ours, theirs in pairs)  # no delay
    assert 0 < 8 * coded.num_bytes / 2 < 2 * num_channels * 32_000  # variable: a tone is hard to code
    assert OpusTools(6000, RATE)(audio[:, :1]).audio.shape == (num_channels, 1)


@needs("c2enc", "c2dec")
@pytest.mark.parametrize(("bitrate", "num_bytes"), [(3200, 8), (2400, 6), (1600, 4), (1400, 3.5), (700, 2)])
def test_codec2_itself(bitrate, num_bytes):
    coded = Codec2(bitrate)(torch.from_numpy(buzz(1, 120, 8000)).float()[None])
    # A header of 7 bytes, and whole bytes for every packet: 20 ms of the modes 3200 and 2400, 40 ms of the others.
    assert coded.num_bytes == 7 + 50 * num_bytes
    assert coded.audio.shape == (1, 8000)
    assert 0.01 < coded.audio.square().mean().sqrt() < 0.5


def test_every_program_has_a_package():
    assert set(CODEC2_MODES) == {3200, 2400, 1600, 1400, 1300, 1200, 700}
    with pytest.raises(KeyError):
        check_programs("no-such-program")
