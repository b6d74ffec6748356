import dataclasses

import fake_lyra
import fake_programs
import pytest
from messages import one_line
from models import tiny_codec
from tiny_runs import write_clips
from tiny_transformers import save_tiny

from codec.errors import AudioError, ConfigError, ModelError
from codec.eval.systems.catalogue import KINDS, describe, parse_system, parse_systems
from codec.eval.systems.lyra import Lyra, read_files
from codec.eval.systems.programs import Codec2, OpusTools
from codec.eval.systems.soundfile_codecs import SoundfileCodec
from codec.inference.pretrained import save_codec

RATE = 16_000


def settings(specification, sample_rate=RATE):
    return [system.setting for system in parse_system(specification, sample_rate)]


@pytest.mark.parametrize("name", ["opus", "vorbis", "mp3"])
def test_formats_of_soundfile_at_bitrates(name):
    found = parse_system(f"{name}@16k,24000,32.5k", RATE)
    assert found == [SoundfileCodec(name, bitrate, RATE) for bitrate in (16_000, 24_000, 32_500)]


def test_defaults():
    assert settings("opus") == [f"{kbits} kbit/s" for kbits in (6, 8, 12, 16, 24)]
    assert settings("mp3") == [f"{kbits} kbit/s" for kbits in (16, 24, 32, 48)]
    assert settings("mp3", 44_100) == ["32 kbit/s", "48 kbit/s"]  # MP3 has no less there
    assert settings("vorbis") == [f"{kbits} kbit/s" for kbits in (24, 32, 48)]
    assert settings("vorbis", 44_100) == settings("vorbis")  # the limits of MP3 are not those of Vorbis


def test_the_rate_is_that_of_the_evaluation_or_the_next_one():
    assert [parse_system("opus", rate)[0].sample_rate for rate in (16_000, 22_050)] == [16_000, 24_000]


def test_programs(tmp_path, monkeypatch):
    fake_programs.install_copies(tmp_path, monkeypatch)
    assert parse_system("opusenc@6k", 44_100) == [OpusTools(6000, 44_100)]
    assert parse_system("codec2@3200,700", RATE) == [Codec2(3200), Codec2(700)]
    assert len(settings("codec2")) == 7
    with pytest.raises(ConfigError, match=one_line("codec2", "3000", "2400, 3200")):
        parse_system("codec2@3k", RATE)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for name, package in (("opusenc", "opus-tools"), ("codec2", "codec2")):
        with pytest.raises(ConfigError, match=one_line("apt-get install", package)):
            parse_system(name, RATE)


def test_lyra(tmp_path, monkeypatch):
    read_files.cache_clear()
    folder = fake_lyra.install(tmp_path / "a:b@c", monkeypatch)
    assert parse_system(f"lyra:{folder}@6k", RATE) == [Lyra(folder, 6000)]
    assert settings(f"lyra:{folder}") == ["3.2 kbit/s", "6 kbit/s", "9.2 kbit/s"]
    with pytest.raises(ConfigError, match=one_line("lyra", "3000", "3200, 6000, 9200")):
        parse_system(f"lyra:{folder}@3k", RATE)
    with pytest.raises(ConfigError, match=one_line(tmp_path / "none", "soundstream_encoder.tflite")):
        parse_system(f"lyra:{tmp_path / 'none'}", RATE)


@pytest.mark.filterwarnings("default")  # of transformers, which is not ours
def test_transformers(tmp_path):
    pytest.importorskip("transformers")
    folder = tmp_path / "small_dac"
    save_tiny("dac", folder)  # 3 levels of 4 kbit/s
    found = parse_system(f"transformers:{folder}@7.9k,20k", RATE)
    assert [(system.codec, system.num_quantizers, system.setting) for system in found] == [
        ("small_dac", 1, "1 level"),
        ("small_dac", 3, "3 levels"),
    ]
    assert found[0].sample_rate == 8000
    assert settings(f"transformers:{folder}") == ["1 level", "2 levels", "3 levels"]
    with pytest.raises(ConfigError, match=one_line(3900, 4000)):
        parse_system(f"transformers:{folder}@3.9k", RATE)


def test_parametric_is_fitted_once(tmp_path):
    clips = write_clips(tmp_path / "clips")
    path = tmp_path / "floor.safetensors"
    with pytest.raises(ConfigError, match=one_line(path, f"parametric:{path}=DATA")):
        parse_system(f"parametric:{path}", RATE)
    with pytest.raises(AudioError, match=one_line(tmp_path / "empty")):
        (tmp_path / "empty").mkdir()
        parse_system(f"parametric:{path}={tmp_path / 'empty'}", RATE)
    assert settings(f"parametric:{path}={clips}@3k") == ["3 kbit/s"]
    before = path.stat().st_mtime_ns
    assert settings(f"parametric:{path}={clips}") == settings(f"parametric:{path}")
    assert settings(f"parametric:{path}") == ["1.5 kbit/s", "3 kbit/s", "6 kbit/s", "8 kbit/s"]
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=one_line("parametric", "3100", "1500", "8000")):
        parse_system(f"parametric:{path}@3100", RATE)


def test_another_model(tmp_path):
    save_codec(tiny_codec(), tmp_path / "other")  # 4 levels of 3.2 kbit/s
    found = parse_system(f"model:{tmp_path / 'other'}@3200,9600", RATE)
    assert [(system.codec, system.setting) for system in found] == [("other", "1 level"), ("other", "3 levels")]
    assert settings(f"model:{tmp_path / 'other'}") == ["1 level", "2 levels", "4 levels"]
    with pytest.raises(ModelError, match=one_line(tmp_path / "none")):
        parse_system(f"model:{tmp_path / 'none'}", RATE)


@pytest.mark.parametrize(
    ("specification", "facts"),
    [
        ("opsu@6k", ("opsu", "'opus'")),
        ("xyz", ("xyz", "opus", "model")),
        ("", ("opus", "model")),
        ("lyra", ("lyra", "lyra:PATH")),
        ("model:@3k", ("model", "model:PATH")),
        ("opus:folder", ("opus", "folder")),
        ("opus@", ("opus@", "6k")),
        ("opus@6.5.1k", ("6.5.1k", "6000")),
        ("opus@6k,", ("opus@6k,", "6000")),
        ("opus@fast", ("opus@fast", "6k")),
        ("opus@0", ("0", "6k")),
        ("opus@-6k", ("opus@-6k", "9000")),
        ("opus@5k", ("opus", "5 kbit/s", "6")),
        ("mp3@300k", ("mp3", "300 kbit/s", "160")),
    ],
)
def test_what_is_wrong_with_a_specification(specification, facts):
    with pytest.raises(ConfigError, match=one_line(*facts)):
        parse_system(specification, RATE)


def test_equal_systems_are_refused():
    assert [system.codec for system in parse_systems(["opus@6k", "mp3@24k", "opus@8k"], RATE)] == [
        "opus",
        "mp3",
        "opus",
    ]
    with pytest.raises(ConfigError, match=one_line("opus", "6 kbit/s")):
        parse_systems(["opus@6k", "opus@6000"], RATE)


def test_the_help_names_every_kind():
    lines = describe().splitlines()
    assert [line.split(":")[0] for line in lines] == list(KINDS)
    assert all(line.endswith(".") and (":PATH" in line) == bool(KINDS[line.split(":")[0]].path) for line in lines)


def test_systems_are_plain_values():
    for system in parse_systems(["opus", "mp3"], RATE):
        assert dataclasses.is_dataclass(system) and hash(system) == hash(dataclasses.replace(system))
