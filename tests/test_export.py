"""The exported folder: complete or not at all, and usable without this package."""

import json
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from messages import one_line
from models import HOP, noise, tiny_codec

import codec.onnx.export
from codec import cli
from codec.errors import ModelError, WriteError
from codec.inference.pretrained import load_codec, save_codec
from codec.model.digest import model_identity
from codec.onnx.check import NEAR_TIE, tie_margin
from codec.onnx.export import FILES, export_codec
from codec.onnx.graphs import trace_graphs

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_codec(tiny_codec(), folder)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("exported") / "new" / "onnx"
    export_codec(load_codec(model), folder)
    return folder


@pytest.fixture(scope="module")
def traced():
    tiny = tiny_codec()
    return tiny, trace_graphs(tiny)


@pytest.fixture
def quick(traced, monkeypatch):
    """A model that is traced once, for the tests of files."""
    tiny, graphs = traced
    monkeypatch.setattr(codec.onnx.export, "trace_graphs", lambda *_: graphs)
    return tiny


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestFolder:
    def test_facts(self, exported, model):
        tiny = load_codec(model)
        assert sorted(contents(exported)) == sorted(FILES)
        facts = json.loads((exported / "codec.json").read_text())
        assert facts["model_identity"] == model_identity(tiny).hex()
        assert [facts[name] for name in ("sample_rate", "hop_length", "delay", "latency")] == [RATE, HOP, 25, 45]
        assert (facts["num_quantizers"], facts["codebook_size"]) == (4, 16)
        assert facts["opset"] == 17
        assert facts["versions"]["onnxruntime"] == onnxruntime.__version__
        for half, first in (("encoder", "audio"), ("decoder", "codes")):
            session = onnxruntime.InferenceSession(exported / facts[half]["file"])
            puts = {put.name: put.shape for put in session.get_inputs()}
            assert list(puts) == [first, *(state["name"] for state in facts[half]["states"])]
            for state in facts[half]["states"]:
                assert puts[state["name"]] == ["batch", *state["shape"]]
            outputs = [put.name for put in session.get_outputs()][1:]
            assert outputs == [f"next.{state['name']}" for state in facts[half]["states"]]

    def test_a_beam_is_in_the_graph_and_in_the_facts(self, exported, model, tmp_path):
        assert json.loads((exported / "codec.json").read_text())["beam"] == 1
        tiny = load_codec(model)
        export_codec(tiny, tmp_path, beam=4)
        assert json.loads((tmp_path / "codec.json").read_text())["beam"] == 4
        session, audio = onnxruntime.InferenceSession(tmp_path / "encoder.onnx"), noise(1, 1, 9 * HOP)
        states = {put.name: np.zeros([1, *put.shape[1:]], np.float32) for put in session.get_inputs()[1:]}
        codes, *_ = session.run(None, {"audio": audio.numpy(), **states})
        expected = tiny.encode_frames(audio, beam=4)
        assert tie_margin(tiny, audio, expected, torch.from_numpy(codes), beam=4) <= NEAR_TIE
        assert not torch.equal(expected, tiny.encode_frames(audio))

    def test_the_exported_files_describe_how_to_run_them(self, exported, model):
        tiny = load_codec(model)
        facts = json.loads((exported / "codec.json").read_text())
        audio = noise(2, 1, 9 * HOP)

        def run(half, given):
            session = onnxruntime.InferenceSession(exported / facts[half]["file"])
            states = {state["name"]: np.zeros([2, *state["shape"]], np.float32) for state in facts[half]["states"]}
            result, *_ = session.run(None, {session.get_inputs()[0].name: given, **states})
            return torch.from_numpy(result)

        codes = tiny.encode_frames(audio)
        assert tie_margin(tiny, audio, codes, run("encoder", audio.numpy())) <= NEAR_TIE
        decoded = run("decoder", codes[:, :3].numpy())
        torch.testing.assert_close(decoded, tiny.decode_frames(codes[:, :3]), rtol=0, atol=1e-5)

    def test_nothing_is_overwritten_unasked(self, tmp_path, quick):
        target = tmp_path / "onnx"
        export_codec(quick, target)
        (target / "codec.json").write_text("mine")
        before = contents(tmp_path)
        with pytest.raises(WriteError, match=one_line(target, "already there", "overwrite=True")):
            export_codec(quick, target)
        assert contents(tmp_path) == before
        export_codec(quick, target, overwrite=True)
        assert json.loads((target / "codec.json").read_text())["hop_length"] == HOP
        assert sorted(contents(tmp_path)) == sorted(f"onnx/{name}" for name in FILES)

    def test_an_empty_folder_is_new(self, tmp_path, quick):
        (tmp_path / "onnx").mkdir()
        export_codec(quick, tmp_path / "onnx")
        assert sorted(contents(tmp_path / "onnx")) == sorted(FILES)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_folder_of_other_things_stays(self, tmp_path, quick, overwrite):
        (tmp_path / "thesis.tex").write_text("all of it")
        with pytest.raises(WriteError, match=one_line("thesis.tex")):
            export_codec(quick, tmp_path, overwrite=overwrite)
        assert contents(tmp_path) == {"thesis.tex": b"all of it"}

    def test_a_file_in_its_place(self, tmp_path, quick):
        (tmp_path / "onnx").write_text("")
        with pytest.raises(WriteError, match=one_line(tmp_path / "onnx", "file")):
            export_codec(quick, tmp_path / "onnx", overwrite=True)

    def test_a_folder_that_cannot_be_made(self, tmp_path, quick):
        (tmp_path / "file").write_text("")
        with pytest.raises(WriteError, match=one_line("write", tmp_path / "file/onnx", "Not a directory")):
            export_codec(quick, tmp_path / "file" / "onnx")
        assert contents(tmp_path) == {"file": b""}

    @pytest.mark.parametrize("there", [False, True])
    def test_a_disk_that_fills_up(self, tmp_path, quick, monkeypatch, there):
        if there:
            export_codec(quick, tmp_path / "onnx")
        before = contents(tmp_path)

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(codec.onnx.export.shutil, "copyfile", fail)
        with pytest.raises(WriteError, match=one_line("write", tmp_path / "onnx", "No space left on device")):
            export_codec(quick, tmp_path / "onnx", overwrite=True)
        assert contents(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == (["onnx"] if there else [])

    def test_an_export_that_cannot_take_the_place_of_another(self, tmp_path, quick, monkeypatch):
        export_codec(quick, tmp_path / "onnx")
        before = contents(tmp_path)

        def fail(*_):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(WriteError, match=one_line("write", tmp_path / "onnx", "Input/output error")):
            export_codec(quick, tmp_path / "onnx", overwrite=True)
        assert contents(tmp_path) == before

    def test_an_existing_folder_or_link_is_kept_in_place(self, tmp_path, quick, monkeypatch):
        """It may be the working directory of a shell, or the target of a link."""
        (tmp_path / "here").mkdir()
        (tmp_path / "link").symlink_to("here")
        monkeypatch.chdir(tmp_path / "here")
        export_codec(quick, ".")
        assert sorted(path.name for path in Path.cwd().iterdir()) == sorted(FILES)
        (tmp_path / "here" / FILES[0]).write_bytes(b"old")
        export_codec(quick, tmp_path / "link", overwrite=True)
        assert (tmp_path / "link").is_symlink() and len((tmp_path / "here" / FILES[0]).read_bytes()) > 1000
        assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "link"]

    def test_graphs_of_another_model_are_not_written(self, tmp_path, quick):
        with pytest.raises(ModelError, match=one_line("engine", "differ")):
            export_codec(tiny_codec(seed=1), tmp_path / "onnx")
        assert list(tmp_path.iterdir()) == []


class TestCommand:
    def call(self, capfd, *words):
        with pytest.raises(SystemExit) as stop:
            cli.export_main([str(word) for word in words])
        return stop.value.code, *capfd.readouterr()

    def test_one_line(self, tmp_path, capfd, monkeypatch, model):
        monkeypatch.chdir(tmp_path)
        code, out, err = self.call(capfd, model, "-o", "onnx")
        assert (code, err) == (0, "")
        size = (tmp_path / "onnx" / "encoder.onnx").stat().st_size / 1e6
        assert out.startswith(f"onnx  encoder.onnx {size:.1f} MB, decoder.onnx ")
        assert "same codes, audio within " in out and out.count("\n") == 1
        assert sorted(contents(tmp_path / "onnx")) == sorted(FILES)

    @pytest.mark.parametrize(
        ("words", "facts"),
        [
            (["nothing", "-o", "new"], ("'nothing'",)),
            (["MODEL", "-o", "new", "--beam", "0"], ("beam", 0, 1, 64)),
            (["MODEL"], ("--output",)),
            (["MODEL", "-o", "MODEL"], ("config.json",)),
        ],
    )
    def test_mistakes(self, capfd, tmp_path, monkeypatch, model, words, facts):
        monkeypatch.chdir(tmp_path)
        code, out, err = self.call(capfd, *(model if word == "MODEL" else word for word in words))
        assert (code, out) == (2, "")
        assert re.search(one_line("codec-export", *facts), err.removesuffix("\n"))
        assert list(tmp_path.iterdir()) == []

    def test_without_onnx_runtime(self, capfd, tmp_path, monkeypatch, model):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        code, out, err = self.call(capfd, model, "-o", tmp_path / "new")
        assert (code, out) == (2, "")
        assert err == "codec-export: onnxruntime is not installed (extra 'export'): run  pip install onnxruntime\n"


def write(path, num_samples=1010, rate=RATE, channels=1, width=2):
    samples = (3000 * np.random.default_rng(0).standard_normal(num_samples * channels)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes() if width == 2 else bytes(num_samples * channels * width))
    return samples


def read(path):
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


class TestExample:
    GUARD = "import sys, runpy; sys.modules['torch'] = sys.modules['codec'] = None; sys.argv = sys.argv[1:]\n"
    RUN = GUARD + "runpy.run_path(sys.argv[0], run_name='__main__')"

    def run(self, exported, folder, *words):
        words = [str(word) for word in (exported / "example.py", *words)]
        return subprocess.run([sys.executable, "-c", self.RUN, *words], cwd=folder, capture_output=True, text=True)

    @pytest.mark.parametrize("block", [[], ["--block", "1.25"], ["--block", "3"]])
    def test_the_example_equals_the_package_and_does_not_import_it(self, exported, model, tmp_path, block):
        samples = write(tmp_path / "in.wav")
        done = self.run(exported, tmp_path, "in.wav", "out.wav", *block)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("out.wav  0.06 s  52 frames of 4 codes, ")
        assert done.stdout.endswith("x real time\n")
        tiny = load_codec(model)
        audio = torch.from_numpy(samples / np.float32(32768))[None, None]
        expected = 32768 * tiny.decode(tiny.encode(audio), len(samples))[0, 0].numpy()
        found = read(tmp_path / "out.wav")
        assert len(found) == len(samples)
        assert np.abs(found - expected.clip(-32768, 32767)).max() <= 0.6  # half a step, and rounding of float32
        assert np.abs(expected).max() > 100

    @pytest.mark.parametrize(
        ("audio", "words", "facts"),
        [
            ({"rate": 8000}, [], ("in.wav", "mono", "16 bit", "16000 Hz", "1 channels", "16 bit", "8000 Hz")),
            ({"channels": 2}, [], ("in.wav", "mono", "2 channels")),
            ({"width": 1}, [], ("in.wav", "16 bit", "8 bit")),
            ({"num_samples": 0}, [], ("in.wav", "no samples")),
            ({}, ["--block", "0"], ("--block", "positive", "0.0")),
        ],
    )
    def test_mistakes(self, exported, tmp_path, audio, words, facts):
        write(tmp_path / "in.wav", **audio)
        done = self.run(exported, tmp_path, "in.wav", "out.wav", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(one_line(*facts), done.stderr.splitlines()[-1])
        assert not (tmp_path / "out.wav").exists()

    def test_nothing_is_overwritten(self, exported, tmp_path):
        write(tmp_path / "in.wav")
        before = (tmp_path / "in.wav").read_bytes()
        done = self.run(exported, tmp_path, "in.wav", "in.wav")
        assert done.returncode == 2 and "in.wav is already there: give another name" in done.stderr
        assert (tmp_path / "in.wav").read_bytes() == before
