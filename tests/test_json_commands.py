"""--json: every command prints strict objects of true facts and nothing else, failures too; exit codes stay."""

import base64
import io
import json
import math
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from models import noise, tiny_codec
from test_jsonfile import strictly
from test_listening import answers, mushra
from tiny_runs import TINY_RUN, write_clips

from codec import cli
from codec.audio.file import save_audio
from codec.bench.memory import FileMemory
from codec.inference.pretrained import load_codec, read_codec, save_codec
from codec.model.digest import model_identity

DOCS = Path(__file__).parents[1] / "docs" / "commands.md"
AUDIO = {"a.wav": (16_000, 3000, 1), "in/b.wav": (8000, 2000, 2)}
"""Rate, samples and channels."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_codec(tiny_codec(), folder)
    return folder


@pytest.fixture
def call(tmp_path, monkeypatch, capsys, model):
    """Run a command with --json among files: exit code, objects, standard error."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number, (name, (rate, num_samples, num_channels)) in enumerate(AUDIO.items()):
        save_audio(name, noise(1, num_channels, num_samples, seed=number).clamp(-1, 1), rate)

    def run(name, *words):
        argv = [str(word) for word in words]
        if name in ("encode", "decode", "eval") and "--model" not in argv:
            argv += ["--model", str(model), "--device", "cpu"]
        with pytest.raises(SystemExit) as stop:
            getattr(cli, f"{name}_main")([*argv, "--json"])
        out, err = capsys.readouterr()
        return stop.value.code, [strictly(line) for line in out.splitlines()], err

    return run


def identity_of(folder):
    return {"identity": model_identity(load_codec(folder)).hex()}


def documented():
    """Names of fields in the section for programs."""
    section = DOCS.read_text(encoding="utf-8").split("\n## For programs")[1].split("\n## ")[0]
    return set(re.findall(r"`(\w+)`", section))


# ---- A file


def test_encode(call, model):
    code, found, err = call("encode", "a.wav", "in", "-o", "codes", "--num-quantizers", 3)
    assert (code, err, [each["path"] for each in found]) == (0, "", list(AUDIO))
    for each, (rate, num_samples, num_channels) in zip(found, AUDIO.values(), strict=True):
        assert each["num_bytes"] == Path(each["output"]).stat().st_size > 0
        assert (each["sample_rate"], each["num_samples"], each["num_channels"]) == (rate, num_samples, num_channels)
        assert each["seconds"] == num_samples / rate
        assert each["bitrate"] == 8 * each["num_bytes"] / each["seconds"]
        model_samples = num_samples * each["model_sample_rate"] // rate
        assert each["num_frames"] == math.ceil((model_samples + each["delay"]) / each["hop_length"])
        assert each["num_quantizers"] == 3 and each["nominal_bitrate"] == num_channels * 3 * math.log2(16) * 800
        assert each["model"] == identity_of(model)
        assert (each["skipped"], each["error"]) == (False, None)
        assert set(each) <= documented()
    assert [each["output"] for each in found] == ["codes/a.codec", "codes/b.codec"]


def test_cut(call, model):
    call("encode", "a.wav")
    code, (found,), _ = call("encode", "a.codec", "--num-quantizers", 2)
    assert code == 0 and (found["path"], found["output"], found["num_quantizers"]) == ("a.codec", "a.2.codec", 2)
    assert found["num_bytes"] == Path("a.2.codec").stat().st_size < Path("a.codec").stat().st_size


def test_decode(call, model):
    call("encode", "a.wav", "in", "-o", "codes")
    code, found, err = call("decode", "codes", "-o", "out", "--num-quantizers", 1)
    assert (code, err) == (0, "")
    for each, (rate, num_samples, num_channels) in zip(found, AUDIO.values(), strict=True):
        info = sf.info(each["output"])
        assert (info.samplerate, info.frames, info.channels) == (rate, num_samples, num_channels)
        assert (each["sample_rate"], each["num_samples"], each["num_channels"]) == (rate, num_samples, num_channels)
        assert each["num_bytes"] == Path(each["output"]).stat().st_size
        assert each["num_quantizers"] == 1 and each["model"] == identity_of(model)
        assert set(each) <= documented()


def test_recordings_of_one_file(call):
    """An object for each, the bad line too."""
    call("encode", "a.wav", "--format", "jsonl")
    line = Path("a.jsonl").read_text().strip()
    Path("lm.jsonl").write_text(f"{line}\nbad\n{line}\n")
    code, found, _ = call("decode", "lm.jsonl")
    assert code == 1 and [each["path"] for each in found] == ["lm.jsonl"] * 3
    assert [each["error"] is None for each in found] == [True, False, True]
    assert all(Path(found[at]["output"]).stat().st_size == found[at]["num_bytes"] for at in (0, 2))
    assert [each["recording"] in str(each.get("output")) for each in found] == [True, False, True]
    code, found, _ = call("decode", "lm.jsonl", "--skip-existing")
    assert [each.get("skipped") for each in found] == [True, None, True]


def test_inspect(call, model):
    call("encode", "a.wav", "--num-quantizers", 3)
    code, found, _ = call("inspect", "a.codec", model)
    assert code == 0
    of_file, of_model = found
    assert (of_file["path"], of_file["num_bytes"]) == ("a.codec", Path("a.codec").stat().st_size)
    assert (of_file["num_quantizers"], of_file["error"]) == (3, None)
    assert of_model["path"] == str(model) and of_model["identity"] == of_file["model"]["identity"]
    assert of_model["error"] is None


def test_facts_have_the_same_names_in_all_commands(call):
    """What inspect says of a file is what encode said of it, and decode of its codes."""
    _, (encoded,), _ = call("encode", "in/b.wav", "-o", "b.codec")
    _, (inspected,), _ = call("inspect", "b.codec")
    _, (decoded,), _ = call("decode", "b.codec")
    shared = encoded.keys() & inspected.keys() - {"path", "model"}
    assert {"num_bytes", "bitrate", "seconds", "num_frames", "hop_length"} <= shared
    assert {name: encoded[name] for name in shared} == {name: inspected[name] for name in shared}
    assert encoded["model"]["identity"] == inspected["model"]["identity"] == decoded["model"]["identity"]
    codes = decoded.keys() & encoded.keys() - {"path", "output", "num_bytes"}
    assert {name: decoded[name] for name in codes} == {name: encoded[name] for name in codes}


# ---- Failures


def test_a_failed_file_is_an_object_in_its_place(call):
    Path("in/ab.wav").write_text("no audio")
    code, found, err = call("encode", "in/ab.wav", "in/b.wav", "a.wav", "-o", "out")
    assert code == 1 and [each["path"] for each in found] == ["in/ab.wav", "in/b.wav", "a.wav"]
    assert [each["error"] is None for each in found] == [False, True, True]
    assert set(found[0]) == {"path", "error"} and "\n" not in found[0]["error"]
    first, last = err.splitlines()
    assert found[0]["error"] in first and "1 of 3" in last


@pytest.mark.parametrize("name", ["encode", "decode", "inspect"])
def test_the_only_file_that_fails(call, name):
    path = Path("bad.wav" if name == "encode" else "bad.codec")
    path.write_bytes(b"no audio, no codes" * 9)
    code, (found,), err = call(name, path)
    assert code == 2 and found == {"path": str(path), "error": found["error"]}
    assert err == f"codec-{name}: {found['error']}\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train", ["quickstart", "--data.root", "gone"]),
        ("encode", ["gone.wav"]),
        ("decode", ["gone.codec"]),
        ("eval", ["gone.wav"]),
        ("inspect", ["gone.codec"]),
        ("compare", ["gone"]),
        ("bench", ["gone"]),
        ("export", ["gone", "-o", "out"]),
        ("release", ["gone", "-o", "out"]),
    ],
)
def test_a_command_that_fails_says_why(call, name, words):
    code, (found,), err = call(name, *words)
    assert code == 2 and err == f"codec-{name}: {found['error']}\n" and "gone" in found["error"]


def test_a_mistake_in_the_options_is_told_on_standard_error(call):
    assert call("encode", "--no-such-option") == (
        2,
        [],
        "codec-encode: no option --no-such-option: see codec-encode --help\n",
    )


def test_a_salvaged_file_has_its_facts_and_an_error(call):
    save_audio("long.wav", noise(1, 1, 16_000 * 9).clamp(-1, 1), 16_000)
    call("encode", "long.wav")
    data = bytearray(Path("long.codec").read_bytes())
    data[2000] ^= 255
    Path("long.codec").write_bytes(data)
    code, (found,), _ = call("decode", "long.codec", "--salvage")
    assert code == 1 and "0.00-4.00 s" in found["error"] and found["num_samples"] == 16_000 * 9
    assert found["num_bytes"] == Path(found["output"]).stat().st_size
    code, (found,), _ = call("inspect", "long.codec")
    assert code == 1 and found["error"] == found["damage"] != ""


def test_files_that_a_full_disk_leaves_untried(call, monkeypatch):
    from codec.errors import DiskFullError

    def full(*_, **__):
        raise DiskFullError("the disk is full")

    monkeypatch.setattr("codec.inference.compression.compress_file", full)
    code, found, _ = call("encode", "in", "a.wav", "-o", "out", "--batch-seconds", 0)
    assert code == 1 and [each["path"] for each in found] == ["in/b.wav", "a.wav"]
    assert [each["error"] for each in found] == ["the disk is full", "not tried: the disk is full"]


def test_files_that_are_done_already(call):
    call("encode", "a.wav", "-o", "codes/")
    code, found, err = call("encode", "in", "a.wav", "-o", "codes/", "--skip-existing")
    assert code == 0 and {each["path"]: each["skipped"] for each in found} == {"a.wav": True, "in/b.wav": False}
    assert found[0] == {"path": "a.wav", "output": "codes/a.codec", "skipped": True, "error": None}
    assert "1 of 2 files are done already" in err


# ---- Names and pipes


def test_a_name_that_is_not_utf_8(call):
    name = b"caf\xe9.wav"
    Path("a.wav").rename(os.fsdecode(name))
    code, (found,), _ = call("encode", os.fsdecode(name))
    assert code == 0 and base64.b64decode(found["path_base64"]) == name
    assert Path(os.fsdecode(base64.b64decode(found["output_base64"]))).stat().st_size == found["num_bytes"]
    assert (found["path"], found["output"]) == ("caf\ufffd.wav", "caf\ufffd.codec")


def test_standard_input(call, monkeypatch):
    """The path is - also of a failure, and no temporary name is told."""
    for data, error in ((Path("a.wav").read_bytes(), None), (b"text" * 99, "stdin is not audio")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code, (found,), _ = call("encode", "-", "-o", "b.codec", "--overwrite")
        assert code == (0 if error is None else 2) and found["path"] == "-"
        assert (found["error"] or "").startswith(error or "") and "/tmp" not in json.dumps(found)
    assert found == {"path": "-", "error": found["error"]}


@pytest.mark.parametrize("words", [["a.wav", "-o", "-"], ["-"]])
def test_audio_and_json_do_not_mix(call, words):
    code, (found,), err = call("encode", *words)
    assert code == 2 and "-o" in found["error"] and err == f"codec-encode: {found['error']}\n"


def test_what_a_library_prints_does_not_mix_with_it(call, monkeypatch):
    def chatter(path):
        print("loading", path)
        return read_codec(path)

    monkeypatch.setattr("codec.inference.pretrained.read_codec", chatter)
    code, found, _ = call("encode", "a.wav")
    assert code == 0 and len(found) == 1


# ---- A result


def test_eval(call, model):
    Path("in/bad.wav").write_text("no audio")
    words = ["a.wav", "in", "--metrics", "mel", "snr", "--bitrates", 3200, 6400, "-o", "results.json"]
    code, found, _ = call("eval", *words)
    results = json.loads(Path("results.json").read_text())
    *rows, unread, summary = found
    assert code == 1 and rows == results["rows"] and len(rows) == 4
    assert set(unread) == {"path", "error"} and unread["path"] == "in/bad.wav"
    assert summary["summary"]["means"] == results["means"] and summary["output"] == "results.json"
    assert summary["summary"]["about"]["model"]["identity"] == identity_of(model)["identity"]
    Path("answers.json").write_text(json.dumps(answers("Ann", [mushra("a.wav", ours=80)])))
    code, (found,), _ = call("eval", "--listening", "answers.json")
    assert code == 0 and [mean["mean"] for mean in found["mushra"]] == [100, 80]
    assert {mean["low"] for mean in found["mushra"]} == {None}, "of one listener and clip"


def test_train(call):
    write_clips(Path("data"))
    words = [*TINY_RUN, "--data.root", "data", "--data.train", ".", "--train.steps", 3, "--train.log-every", 1]
    code, (found,), err = call("train", *words, "--progress", "off")
    assert (code, err) == (0, "") and (found["step"], found["num_steps"], found["run_dir"]) == (3, 3, "run")
    last = json.loads(Path("run/history.jsonl").read_text().splitlines()[-1])
    assert found["losses"] == {name[5:]: value for name, value in last.items() if name.startswith("loss/")}
    assert found["losses"]["total"] > 0 and found["validation"] == {} and found["report"] is found["results"] is None
    assert all((Path(path) / "model.safetensors").exists() for path in found["checkpoints"].values())
    assert found["model"] == identity_of(found["checkpoints"]["last"]) and found["seconds"] > 0
    assert set(found) <= documented()


def test_an_interrupted_training(call, monkeypatch):
    write_clips(Path("data"))

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("codec.train.trainer.Trainer._report", interrupt)
    words = [*TINY_RUN, "--data.root", "data", "--data.train", ".", "--train.steps", 3, "--train.log-every", 2]
    code, (found,), _ = call("train", *words)
    assert (code, found["error"], found["step"]) == (130, "interrupted", 2)
    assert Path(found["checkpoints"]["last"]).is_dir()


def test_compare(call, monkeypatch):
    """Of a run of scalars, whose training says the same."""
    monkeypatch.setattr("codec.study.judge.DistortionJudge._figures", lambda *_: iter(()))  # they take a while
    words = ["gaussian_vq", "--out", "run", "--codec.latent-dim", 1, "--codec.quantizer.codebook-size", 4]
    words += ["--data.num-vectors", 200, "--data.num-held-out", 500, "--train.epochs", 1, "--device", "cpu"]
    code, (trained,), _ = call("train", *words)
    assert code == 0 and trained["results"] == json.loads(Path("run/results.json").read_text())
    code, (found,), _ = call("compare", "run", "-o", "vq.png")
    assert code == 0 and found["output"] == "vq.png" and Path("vq.png").exists()
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["run"]["distortion"] == trained["results"]["held_out_distortion"]
    assert rows["Lloyd-Max"]["distortion"] == pytest.approx(0.117482, abs=1e-6)
    assert rows["Lloyd-Max"]["seconds"] is None, "a reference has no time of training"


def test_export(call, model):
    code, (found,), _ = call("export", model, "-o", "onnx")
    assert code == 0 and found["model"] == identity_of(model) and found["beam"] == 1
    for part in ("encoder", "decoder"):
        assert found[f"{part}_bytes"] == Path(found["output"], f"{part}.onnx").stat().st_size
    assert 0 <= found["deviation"] < 1e-4 and set(found) <= documented()


def test_bench(call, model, monkeypatch):
    """What it measures is tested elsewhere, and takes a while."""
    monkeypatch.setattr("codec.bench.bench._measure", lambda *_: iter(()))
    monkeypatch.setattr("codec.bench.bench.measure_memory", lambda *_, **__: [FileMemory(1.0, 2, 3, math.nan, 4.0)])
    code, (found,), _ = call("bench", model, "--quick", "-o", "bench.json")
    written = json.loads(Path("bench.json").read_text())
    assert code == 0 and {name: found[name] for name in written} == written
    assert found["memory"][0]["encode_times_real_time"] is None
    assert found["model"]["identity"] == identity_of(model)["identity"] and found["output"] == "bench.json"


def test_release(call, tmp_path):
    write_clips(Path("data"))
    call("train", *TINY_RUN, "--data.root", "data", "--data.train", ".", "--train.steps", 2)
    Path("about.md").write_text("Buzzing, CC0.")
    code, (found,), _ = call("release", "run", "-o", "mine", "--about", "about.md", "--device", "cpu")
    assert code == 0 and found["model"] == identity_of("mine") and 0 < found["rounding"] < 1e-2
    assert found["num_bytes"] == sum(path.stat().st_size for path in Path("mine").iterdir())
    assert set(found) <= documented()


def test_a_corpus(call, model):
    pytest.importorskip("pyarrow", reason="run  pip install pyarrow")
    Path("in/bad.wav").write_text("no audio")
    code, found, _ = call("encode", "in", "-o", "out", "--engine", "local")
    bad, result = found
    assert code == 1 and bad["path"] == "bad.wav" and bad["error"]
    assert (result["output"], result["num_recordings"], result["num_failed"]) == ("out", 1, 1)
    assert result["seconds"] == 0.25 and result["model"] == identity_of(model) and set(result) <= documented()
    code, (result,), _ = call("encode", "in", "--verify", "out")
    assert (code, result["num_rows"], result["num_failed"], result["problems"]) == (0, 1, 1, [])
    assert set(result) <= documented()
    code, (found,), _ = call("decode", "out", "-o", "decoded")
    assert code == 0 and found["path"] == "b.wav" and found["num_samples"] == np.shape(sf.read(found["output"])[0])[0]
