"""Codecs of transformers behind the commands, in the same files as ours."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from messages import one_line
from models import tiny_codec
from tiny_transformers import save_tiny

from codec import cli
from codec.adapters.transformers_codec import load_transformers
from codec.bitstream import Bitstream
from codec.errors import ModelError
from codec.inference.pretrained import load_codec, save_codec

pytestmark = pytest.mark.filterwarnings("default")  # of transformers, which is not ours
pytest.importorskip("transformers")

LENGTHS = {"a.wav": 4001, "b/c.wav": 4000, "b/d.wav": 3990}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny DAC: 8 kHz, 1000 frames a second, 3 levels of 4 bit."""
    folder = tmp_path_factory.mktemp("models") / "dac"
    save_tiny("dac", folder)
    return folder


@pytest.fixture
def call(tmp_path, monkeypatch, capsys, folder):
    """Run a command in a folder with recordings `in`: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    for seed, (name, length) in enumerate(LENGTHS.items()):
        write_noise(Path("in", name), length, seed)

    def run(command, *words):
        words = [str(word) for word in words]
        if "--model" not in words:
            words += ["--model", f"transformers:{folder}"]
        with pytest.raises(SystemExit) as stop:
            getattr(cli, f"{command}_main")([*words, *(["--device", "cpu"] if command in ("encode", "decode") else [])])
        return stop.value.code, *capsys.readouterr()

    return run


def write_noise(path, length, seed, num_channels=1, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, (length, num_channels)), rate)


def assert_refused(result, *facts):
    code, out, err = result
    assert (code, out) == (2, "") and err.count("\n") == 1
    with pytest.raises(ValueError, match=one_line(*facts)):
        raise ValueError(err.strip())


def test_a_file_and_back(call, folder):
    write_noise(Path("x.wav"), 4411, 0, num_channels=2, rate=44_100)
    code, out, err = call("encode", "x.wav")
    assert (code, err) == (0, "") and out.startswith("x.codec  0.10 s  3 levels")
    header = Bitstream.from_bytes(Path("x.codec").read_bytes()).header
    assert header.model_id == load_transformers(folder).identity
    assert (header.sample_rate, header.num_channels, header.num_samples, header.delay) == (44_100, 2, 4411, 0)
    code, out, err = call("decode", "x.codec")
    assert (code, err) == (0, "")
    info = sf.info("x.decoded.wav")
    assert (info.samplerate, info.channels, info.frames) == (44_100, 2, 4411)


def test_files_encoded_together_are_as_each_alone(call, folder):
    assert call("encode", "in", "-o", "out/")[0] == 0
    codec = load_transformers(folder)
    for name in LENGTHS:
        audio = torch.from_numpy(sf.read(Path("in", name), dtype="float32")[0])
        stored = Bitstream.from_bytes(Path("out", name).with_suffix(".codec").read_bytes())
        assert np.array_equal(stored.codes, codec.encode(audio[None, None]).numpy())


def test_fewer_levels(call):
    assert call("encode", "in/a.wav", "--bitrate", "9k", "-o", "two.codec")[0] == 0
    assert Bitstream.from_bytes(Path("two.codec").read_bytes()).header.num_quantizers == 2
    assert call("encode", "in/a.wav", "-o", "all.codec")[0] == 0
    assert call("encode", "all.codec", "--num-quantizers", "2", "-o", "cut.codec")[0] == 0
    assert Path("cut.codec").read_bytes() == Path("two.codec").read_bytes()
    assert call("decode", "all.codec", "--num-quantizers", "1", "-o", "one.wav")[0] == 0
    assert_refused(call("encode", "in/a.wav", "--bitrate", "3k", "-o", "x.codec"), "3000", "4000")
    assert_refused(call("encode", "in/a.wav", "--num-quantizers", "4", "-o", "x.codec"), "4", "1 .. 3")


@pytest.mark.parametrize("form", ["npy", "npz", "jsonl"])
def test_plain_codes(call, form):
    call("encode", "in/a.wav", "-o", "a.codec")
    assert call("encode", "in/a.wav", "-o", f"a.{form}")[0] == 0
    assert call("decode", f"a.{form}", "-o", "plain.wav")[0] == 0
    assert call("decode", "a.codec", "-o", "a.wav")[0] == 0
    plain, decoded = sf.read("plain.wav")[0], sf.read("a.wav")[0]
    assert np.array_equal(plain[:4001], decoded) and len(plain) == (4008 if form == "npy" else 4001)


def test_skip_existing(call):
    call("encode", "in", "-o", "out/")
    code, _, err = call("encode", "in", "-o", "out/", "--skip-existing")
    assert code == 0 and "3 of 3 files are done already" in err


def test_inspect(call, folder):
    call("encode", "in/a.wav", "-o", "a.codec")
    code, out, _ = call("inspect", "a.codec", "--json")
    values = json.loads(out)
    assert code == 0 and values["model"]["name"] == f"transformers:{folder}"
    assert (values["num_quantizers"], values["codebook_size"], values["damage"]) == (3, 16, "")
    assert_refused(call("inspect", f"transformers:{folder}"), folder, "another library", "this toolkit")


def test_eval(call, folder):
    code, _, err = call("eval", "in", "--metrics", "snr", "si_sdr", "-o", "x.json", "--bitrates", "4k", "12k")
    assert code == 0, err
    results = json.loads(Path("x.json").read_text())
    assert {row["setting"] for row in results["rows"]} == {"1 level", "3 levels"}
    assert results["about"]["model"]["identity"] == load_transformers(folder).identity.hex()
    assert results["about"]["model"]["config"]["model_type"] == "dac"


def test_a_model_of_this_toolkit_beside_it(call, folder):
    save_codec(tiny_codec(sample_rate=8000), "ours")
    code, out, err = call("eval", "in", "--metrics", "snr", "--model", "ours", "--codecs", f"transformers:{folder}@4k")
    assert code == 0 and "dac" in out, err


def test_a_corpus(call):
    pytest.importorskip("pyarrow")
    code, out, err = call("encode", "in", "-o", "out", "--engine", "local")
    assert (code, err) == (0, "") and out.startswith("3 recordings")
    code, out, err = call("encode", "in", "--verify", "out")
    assert code == 0 and "3 encoded again: no problems" in out
    assert call("decode", "out", "-o", "decoded/")[0] == 0
    assert {name: sf.info(Path("decoded", name)).frames for name in LENGTHS} == LENGTHS


def test_damage(call):
    write_noise(Path("long.wav"), 80_000, 0)
    call("encode", "long.wav")
    data = bytearray(Path("long.codec").read_bytes())
    data[len(data) // 2] ^= 1
    Path("long.codec").write_bytes(data)
    code, _, err = call("decode", "long.codec", "--salvage")
    assert code != 0 and "4.00-8.00 s is lost" in err
    decoded = sf.read("long.decoded.wav")[0]
    assert len(decoded) == 80_000 and (decoded[32_000:64_000] == 0).all() and (decoded[64_000:] != 0).any()


def test_files_of_other_models(call, folder, tmp_path):
    save_codec(tiny_codec(sample_rate=8000), "ours")
    save_tiny("encodec", tmp_path / "encodec")
    call("encode", "in/a.wav", "-o", "a.codec")
    call("encode", "in/a.wav", "-o", "ours.codec", "--model", "ours")
    identity = load_transformers(folder).identity.hex()[:12]
    assert_refused(call("decode", "a.codec", "--model", "ours"), identity, "--model")
    assert_refused(call("decode", "ours.codec"), identity, "--model")
    assert_refused(call("decode", "a.codec", "--model", f"transformers:{tmp_path / 'encodec'}"), identity)
    assert_refused(call("inspect", "ours.codec"), "transformers")


def test_the_wrong_kind_of_model(call, folder):
    save_codec(tiny_codec(), "ours")
    assert_refused(call("encode", "in/a.wav", "--model", "transformers:ours"), "ours", "this toolkit")
    assert_refused(call("encode", "in/a.wav", "--model", folder), folder, "dac", f"transformers:{folder}")
    assert_refused(call("encode", "in/a.wav", "--model", "transformers:none"), "none", "save_pretrained")
    assert_refused(call("encode", "in/a.wav", "--mode", "bf16"), "float32", "--mode")
    with pytest.raises(ModelError, match=one_line(f"transformers:{folder}", "another library")):
        load_codec(f"transformers:{folder}")
