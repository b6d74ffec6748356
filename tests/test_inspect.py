"""codec-inspect: files, models, and models with audio."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from messages import one_line
from models import noise, tiny_codec, tiny_tables
from PIL import Image
from tiny_runs import buzz

from codec import cli
from codec.config import QuantizerConfig, to_dict
from codec.inference.compression import compress
from codec.inference.pretrained import load_codec, save_codec
from codec.model.codec import Codec
from codec.model.digest import model_identity


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folder of `packed`, a model without tables, `coded`, one with them, and `other`."""
    folder = tmp_path_factory.mktemp("models")
    codec = tiny_codec()
    save_codec(codec, folder / "packed")
    parts = codec.encoder, codec.quantizer, codec.decoder, codec.config, codec.allocation
    save_codec(Codec(*parts, entropy=tiny_tables(codec, noise(1, 1, 8000))), folder / "coded")
    save_codec(tiny_codec(seed=1), folder / "other")
    (folder / "coded" / "README.md").write_text("# coded\n\nBy us.\n\nThe weights are under CC0-1.0, like the data.\n")
    return folder


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as stop:
            cli.inspect_main([str(word) for word in words])
        return stop.value.code, *capsys.readouterr()

    return run


def write_codes(path, model, num_samples=4000, num_channels=1):
    codec = load_codec(model)
    audio = noise(1, num_channels, num_samples).clamp(-1, 1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(compress(codec, audio).to_bytes())
    return Path(path)


def facts(out):
    """Facts of a text by name."""
    lines = [line.strip() for line in out.splitlines()[1:]]
    found = [re.split(r"\s{2,}", line, maxsplit=1) for line in lines if "  " in line]
    return {name: text for name, text in found if not name.isdigit()}


def assert_refused(result, *words):
    code, out, err = result
    assert (code, out) == (2, "")
    assert re.search(one_line("codec-inspect", *words), err.removesuffix("\n"))


# ---- Files


@pytest.mark.parametrize("kind", ["packed", "coded"])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_a_file_and_its_model(call, models, kind, num_channels):
    path = write_codes("talk.codec", models / kind, num_channels=num_channels)
    code, out, err = call(path, "--model", models / kind)
    assert (code, err) == (0, "")
    found = facts(out)
    assert out.splitlines()[0] == "talk.codec"
    assert found["format"].endswith("entropy-coded" if kind == "coded" else "packed")
    assert found["model"] == f"{model_identity(load_codec(models / kind)).hex()[:12]} ({models / kind})"
    size = path.stat().st_size
    assert found["bytes"].startswith(f"{size}: ")
    nominal = num_channels * 12.8
    assert found["bitrate"] == f"{8 * size / 0.25 / 1000:.2f} kbit/s, nominal {nominal:g}"
    rows = [line.split() for line in out.split("\n\n")[1].splitlines()]
    assert [row[0] for row in rows] == ["level", "1", "2", "3", "4"]


def test_json_is_an_object_a_file(call, models):
    for name in ("b", "a/c"):
        write_codes(f"codes/{name}.codec", models / "coded")
    write_codes("codes/.hidden/d.codec", models / "coded")
    code, out, err = call("codes", "--model", models / "coded", "--json")
    values = [json.loads(line) for line in out.splitlines()]
    assert (code, err, [each["path"] for each in values]) == (0, "", ["codes/a/c.codec", "codes/b.codec"])
    assert values[0]["num_samples"] == 4000 and len(values[0]["levels"]["usage"]) == 4
    assert values[0]["model"]["name"] == str(models / "coded")


def test_without_the_model_there_is_the_header(call, models):
    code, out, err = call(write_codes("coded.codec", models / "coded"))
    assert (code, err) == (0, "")
    assert "not one that ships" in facts(out)["model"] and "--model" in facts(out)["model"]
    assert "all intact" in facts(out)["chunks"] and "%" not in out
    code, out, err = call(write_codes("packed.codec", models / "packed"))
    assert (code, "%" in out, "--model" in out) == (0, True, False)


def test_a_model_that_ships_is_found(call, models, monkeypatch):
    write_codes("talk.codec", models / "coded")
    monkeypatch.setattr("codec.cli.inspect.find_shipped", lambda: [models / "other", models / "coded"])
    code, out, _ = call("talk.codec")
    assert code == 0 and facts(out)["model"].endswith("(coded, which ships)") and "%" in out


@pytest.mark.parametrize("kind", ["packed", "coded"])
def test_a_wrong_model_is_refused(call, models, kind):
    write_codes("talk.codec", models / kind)
    identity = model_identity(load_codec(models / kind)).hex()[:12]
    assert_refused(call("talk.codec", "--model", models / "other"), "talk.codec", identity, models / "other", "--model")
    assert_refused(call("talk.codec", "--model", "nobody"), "'nobody'")


def test_a_damaged_file_is_shown_and_the_exit_code_is_1(call, models):
    data = write_codes("talk.codec", models / "coded", num_samples=16_000 * 9).read_bytes()
    Path("talk.codec").write_bytes(data[:2000] + b"\xff" + data[2001:])
    code, out, err = call("talk.codec", "--model", models / "coded")
    assert (code, err) == (1, "")
    assert "2 intact, 1 lost" in facts(out)["chunks"]
    assert facts(out)["damage"] == "1 of 3 chunks is damaged: 0.00-4.00 s is lost"
    Path("cut.codec").write_bytes(data[:-5])
    code, out, err = call("cut.codec", "--model", models / "coded", "--json")
    assert code == 1 and json.loads(out)["damage"] == "the index is damaged or missing; no codes are lost"


def test_a_bad_file_does_not_hide_the_others(call, models):
    write_codes("good.codec", models / "packed")
    Path("bad.codec").write_bytes(b"RIFF" + bytes(100))
    code, out, err = call("bad.codec", "good.codec", "nobody", "--json")
    assert code == 1
    values = [json.loads(line) for line in out.splitlines()]
    assert [(each["error"] is not None, each["path"]) for each in values] == [
        (True, "bad.codec"),
        (False, "good.codec"),
        (True, "nobody"),
    ]
    first, second, last = err.splitlines()
    assert re.search(one_line("bad.codec", "RIFF"), first) and "'nobody'" in second and "2 of 3" in last


def test_a_folder_is_searched_as_by_the_other_commands(call, models):
    Path("in/folder.codec").mkdir(parents=True)
    write_codes("in/folder.codec/LOUD.CODEC", models / "packed")
    write_codes("in/.hidden.codec", models / "packed")
    code, out, _ = call("in", "--json")
    assert code == 0 and [json.loads(line)["path"] for line in out.splitlines()] == ["in/folder.codec/LOUD.CODEC"]


def test_a_file_of_one_frame(call, models):
    code, out, _ = call(write_codes("short.codec", models / "packed", num_samples=1), "--json")
    values = json.loads(out)
    assert code == 0 and values["num_samples"] == 1
    assert sum(values["levels"]["usage"]) > 0


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        ((), ("nothing to inspect", "--help")),
        (("missing.codec",), ("missing.codec",)),
        (("missing",), ("'missing'", "model.safetensors")),
        ((".",), (".codec", "model.safetensors")),
        (("a.codec", "-o", "pictures"), ("--audio",)),
        (("a", "b", "--audio", "."), ("one model",)),
        (("a", "--audio", "missing.wav"), ("missing.wav",)),
        (("a", "--jsno"), ("--jsno", "--json")),
    ],
)
def test_refused_in_one_line(call, words, facts):
    assert_refused(call(*words), *facts)


def test_help_teaches_by_examples(call):
    code, out, _ = call("--help")
    assert code == 0 and out.count("  codec-inspect ") >= 4


# ---- Models


def test_a_model(call, models):
    code, out, err = call(models / "coded")
    assert (code, err) == (0, "")
    found, codec = facts(out), load_codec(models / "coded")
    assert found["identity"] == model_identity(codec).hex()
    assert found["latency"].startswith(f"{codec.latency} samples ({codec.latency / 16:.4g} ms)")
    assert found["frame rate"].startswith("800 Hz")
    assert found["receptive field"] == "160 samples (10 ms): encoder 80 samples (5 ms), decoder 5 frames (6.25 ms)"
    assert found["licence"] == "The weights are under CC0-1.0, like the data."
    assert "model.safetensors" in found["files"] and "entropy.safetensors" in found["files"]
    assert re.search(r"^  decoder +kind=harmonic_noise channels=16 num_blocks=1", out, re.MULTILINE)
    last = out.splitlines()[-1].split()
    assert last == ["4", "12.8", "9.60"]  # 12 bits a frame by the tables


def test_a_model_as_json(call, models):
    code, out, _ = call(models / "packed", "--json")
    values, codec = json.loads(out), load_codec(models / "packed")
    assert code == 0 and values["config"] == to_dict(codec.config)
    assert values["identity"] == model_identity(codec).hex() and values["licence"] == ""
    assert [rate["nominal"] for rate in values["rates"]] == pytest.approx([3200, 6400, 9600, 12_800])
    assert {rate["in_files"] for rate in values["rates"]} == {None}
    assert values["file_bytes"]["model.safetensors"] == (models / "packed" / "model.safetensors").stat().st_size
    learned = sum(parameter.numel() for parameter in codec.parameters()) + codec.quantizer.codebooks.table.numel()
    assert sum(values["parameters"].values()) == learned


# ---- Models with audio


def write_audio(folder):
    folder.mkdir()
    sf.write(folder / "mono.wav", buzz(0.3, 150), 16_000)
    sf.write(folder / "stereo.wav", np.stack([buzz(0.2, 110), buzz(0.2, 230)], axis=1), 16_000)
    sf.write(folder / "train.wav", buzz(0.2, 90), 16_000)
    rows = ["path\tsplit\tkind", "mono.wav\tvalid\tspeech", "stereo.wav\tvalid\tmusic", "train.wav\ttrain\tspeech"]
    (folder / "MANIFEST.tsv").write_text("\n".join(rows) + "\n")
    return folder


def test_use_of_the_codebooks(call, models, tmp_path):
    data = write_audio(tmp_path / "data")
    code, out, err = call(models / "packed", "--audio", data, "--json")
    every = json.loads(out)["use"]
    assert (code, err, every["num_files"]) == (0, "", 3)
    code, out, _ = call(models / "packed", "--audio", data / "MANIFEST.tsv", "--kinds", "speech", "--json")
    speech = json.loads(out)["use"]
    codec = load_codec(models / "packed")
    codes = torch.from_numpy(
        compress(codec, torch.from_numpy(sf.read(data / "mono.wav", dtype="float32")[0])[None, None]).codes
    )
    assert speech["num_files"] == 1 and speech["num_frames"] == codes.shape[-1] < every["num_frames"]
    assert speech["levels"]["usage"] == [len(level.unique()) / 16 for level in codes[0]]
    assert speech["never_used"] == [16 - len(level.unique()) for level in codes[0]]
    code, out, _ = call(models / "packed", "--audio", data / "mono.wav")
    assert "1 file, 0.3 s of audio" in out and "entropy of all levels" in out.splitlines()[-1]


def test_pictures_of_the_codebooks(call, models, tmp_path):
    data = write_audio(tmp_path / "data")
    code, _, err = call(models / "packed", "--audio", data, "-o", "pictures")
    names = {"codebooks.png", *(f"level_0{level}.png" for level in (1, 2, 3, 4))}
    assert code == 0 and "5 pictures" in err and {path.name for path in Path("pictures").iterdir()} == names
    for name in names:
        with Image.open(Path("pictures", name)) as picture:
            assert min(picture.size) > 300 and len(np.unique(picture.convert("L"))) > 10
    assert_refused(call(models / "packed", "--audio", data, "-o", "pictures"), "level_01.png", "--overwrite")
    assert call(models / "packed", "--audio", data, "-o", "pictures", "--overwrite")[0] == 0


def test_a_picture_that_is_there_stops_it_before_any_is_drawn(call, models, tmp_path):
    Path("pictures").mkdir()
    Path("pictures/level_03.png").touch()
    words = models / "packed", "--audio", write_audio(tmp_path / "data"), "-o", "pictures"
    assert_refused(call(*words), "level_03.png", "--overwrite")
    assert [path.name for path in Path("pictures").iterdir()] == ["level_03.png"]


def test_a_file_that_cannot_be_read_is_left_out(call, models, tmp_path):
    data = write_audio(tmp_path / "data")
    (data / "mono.wav").write_bytes(b"")
    code, out, err = call(models / "packed", "--audio", data)
    assert code == 1 and re.search(one_line("mono.wav", "0 bytes"), err.removesuffix("\n")) and "2 files" in out


def test_a_folder_without_audio_is_refused(call, models, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(call(models / "packed", "--audio", tmp_path / "empty"), tmp_path / "empty")


def test_one_level_of_one_dimension_can_be_drawn(call, tmp_path):
    save_codec(tiny_codec(quantizer=QuantizerConfig(num_quantizers=1, codebook_size=4, codebook_dim=1)), tmp_path / "m")
    assert call("m", "--audio", write_audio(tmp_path / "data"), "-o", "pictures")[0] == 0
    assert {path.name for path in Path("pictures").iterdir()} == {"codebooks.png", "level_01.png"}
