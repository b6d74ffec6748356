import fake_lyra
import pytest
import torch
from messages import one_line
from models import noise

from codec.errors import ConfigError, ModelError
from codec.eval.systems.lyra import Lyra, read_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    read_files.cache_clear()
    return fake_lyra.install(tmp_path / "lyra", monkeypatch)


@pytest.mark.parametrize(("bitrate", "levels", "packet"), [(3200, 16, 8), (6000, 30, 15), (9200, 46, 23)])
def test_a_packet_holds_the_bits_of_its_levels(folder, bitrate, levels, packet):
    coded = Lyra(folder, bitrate)(noise(2, 641))
    assert coded.codes.shape == (2, levels, 3) and coded.codes.dtype == torch.int64
    assert coded.num_bytes == 2 * 3 * packet == 2 * 3 * levels * 4 / 8
    assert coded.nominal_bitrate == 2 * packet * 8 * 50 == 2 * bitrate
    assert coded.audio.shape == (2, 960)


def test_codes_and_audio_are_those_of_the_networks(folder):
    audio = noise(1, 640, scale=0.3)
    coded = Lyra(folder, 6000)(audio)
    features = audio.view(2, 320)[:, ::5].T  # [64, F]
    features[0, 0] = 1.0  # the first frame of an interpreter
    expected = ((features[:30] + 1) * 7.5).round().clamp(0, 15).long()
    assert torch.equal(coded.codes[0], expected)
    decoded = coded.audio.view(2, 64, 5)
    assert torch.equal(decoded, decoded[:, :, :1].expand(-1, -1, 5))
    torch.testing.assert_close(decoded[:, :30, 0].T, expected / 7.5 - 1)
    assert not decoded[:, 30:].any()  # levels that are not used decode to nothing


def test_every_channel_and_recording_starts_anew(folder):
    system, silence = Lyra(folder, 3200), torch.zeros(2, 960)
    for codes in (system(silence).codes, system(silence).codes):
        assert (codes[:, 0, 0] == 15).all() and (codes[:, 0, 1:] == 8).all()


def test_a_folder_without_the_files(folder):
    (folder / "lyragan.tflite").unlink()
    with pytest.raises(ConfigError, match=one_line(folder, "lyragan.tflite")):
        Lyra(folder, 3200)(torch.zeros(1, 320))


def test_a_file_that_is_no_network(folder):
    (folder / "soundstream_encoder.tflite").write_text("abc")
    with pytest.raises(ModelError, match=one_line(folder / "soundstream_encoder.tflite", "TFL3")):
        Lyra(folder, 3200)(torch.zeros(1, 320))


def test_without_the_runtime(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert", None)
    with pytest.raises(ConfigError, match=one_line("lyra", "pip install ai_edge_litert")):
        Lyra(folder, 3200)(torch.zeros(1, 320))
