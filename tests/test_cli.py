import csv
import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from messages import one_line
from models import tiny_codec
from tiny_runs import TINY_RUN

import codec.dsp.precision
from codec import cli
from codec.audio.file import load_audio
from codec.bitstream import Bitstream, Header, read_codes
from codec.cli.loading import find_device, load_model
from codec.cli.options import ModelOptions
from codec.config import FILE_BEAM, CodecConfig, QuantizerConfig, from_dict
from codec.errors import AudioError, ConfigError
from codec.eval.metrics.metrics import METRICS
from codec.inference.batching import compress_batch
from codec.inference.compression import compress
from codec.inference.modes import MODES
from codec.inference.pretrained import load_codec, save_codec
from codec.model.builder import build_codec
from codec.model.digest import model_identity

Main = Callable[[list[str]], None]
Call = Callable[..., tuple[int, str, str]]
ROOT = Path(cli.__file__).parents[2]


def save_model(folder: Path, *, seed: int = 0) -> Path:
    """A tiny model: 8 kHz, 400 frames a second, 2 levels of 4 bit, 1600 bit/s a level."""
    quantizer = QuantizerConfig(num_quantizers=2, codebook_size=16, codebook_dim=4)
    save_codec(tiny_codec(sample_rate=8000, quantizer=quantizer, seed=seed), folder)
    return folder


def write_noise(
    path: str | Path, rate: int = 8000, num_samples: int = 801, num_channels: int = 1, seed: int = 0
) -> Path:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (num_samples, num_channels))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate)
    return Path(path)


def files(folder: str | Path = ".") -> set[str]:
    """Every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def encoded(model: Path) -> bytes:
    """A .codec file of the tiny model: 801 samples in one chunk."""
    audio = torch.linspace(-0.5, 0.5, 801)[None, None]
    return compress(load_codec(model), audio).to_bytes()


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path) -> Call:
    """Run a command in an empty folder; encode, decode and eval with the tiny model unless the words name another."""
    monkeypatch.chdir(tmp_path)

    def run(main: Main, *words: object) -> tuple[int, str, str]:
        argv = [str(word) for word in words]
        if main is not cli.train_main and "--model" not in argv:
            argv += ["--model", str(model), "--device", "cpu"]
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert isinstance(stop.value.code, int)
        return stop.value.code, *capsys.readouterr()

    return run


def assert_refused(result: tuple[int, str, str], *facts: object) -> None:
    """The command did nothing, and said why in one line with these facts."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert re.search(one_line(*facts), err.removesuffix("\n"))


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("name", "rate", "num_samples", "num_channels"),
        [("a.wav", 8000, 801, 1), ("a.wav", 44_100, 4411, 2), ("a.flac", 16_000, 1, 1)],
    )
    def test_rate_channels_and_length_come_back(
        self, call: Call, name: str, rate: int, num_samples: int, num_channels: int
    ) -> None:
        write_noise(name, rate, num_samples, num_channels)
        code, out, err = call(cli.encode_main, name)
        assert (code, err) == (0, "")
        seconds, size = num_samples / rate, Path("a.codec").stat().st_size
        assert out == f"a.codec  {seconds:.2f} s  2 levels, {size * 8 / seconds / 1000:.2f} kbit/s\n"
        code, out, err = call(cli.decode_main, "a.codec")
        assert (code, err) == (0, "")
        info = sf.info("a.decoded.wav")
        assert (info.samplerate, info.frames, info.channels) == (rate, num_samples, num_channels)
        channels = "1 channel" if num_channels == 1 else "2 channels"
        assert out == f"a.decoded.wav  {seconds:.2f} s  {rate} Hz, {channels}\n"

    def test_codes_are_those_of_the_library(self, call: Call, model: Path) -> None:
        write_noise("a.wav")
        call(cli.encode_main, "a.wav")
        expected = compress(load_codec(model), load_audio("a.wav"))
        assert Path("a.codec").read_bytes() == expected.to_bytes()

    @pytest.mark.parametrize("batch_seconds", [0, 60])
    def test_a_beam_gives_files_that_decode_and_are_closer(self, call: Call, model: Path, batch_seconds: int) -> None:
        names = [str(write_noise(f"in/{name}.wav", num_samples=8000, seed=seed)) for seed, name in enumerate("ab")]
        for words in (["--beam", 1], ["--beam", 4], []):
            folder = f"out{len(words) and words[1]}"
            call(cli.encode_main, *names, "-o", f"{folder}/", "--batch-seconds", batch_seconds, *words)
            assert call(cli.decode_main, f"{folder}/a.codec")[0] == 0
        codec, audio = load_codec(model), load_audio("in/a.wav")
        latents = codec.encoder(codec.pad(audio))
        codes = [Bitstream.from_bytes(Path(f"out{beam}/a.codec").read_bytes()).codes for beam in (1, 4, 0)]
        decoded = [codec.quantizer.decode(torch.from_numpy(each)) for each in codes]
        one, four, default = (float((latents - each).square().mean()) for each in decoded)
        assert one > four > default
        assert (codes[2] == compress(codec, audio, beam=FILE_BEAM).codes).mean() > 0.99

    @pytest.mark.parametrize("suffix", ["npz", "jsonl"])
    def test_plain_codes_with_metadata(self, call: Call, suffix: str) -> None:
        write_noise("a.wav", 44_100, 4411, 2)
        assert call(cli.encode_main, "a.wav")[0] == 0
        assert call(cli.encode_main, "a.wav", "--format", suffix)[:1] == (0,)
        assert call(cli.decode_main, "a.codec")[0] == 0
        assert call(cli.decode_main, f"a.{suffix}", "-o", "plain.wav")[0] == 0
        assert Path("plain.wav").read_bytes() == Path("a.decoded.wav").read_bytes()

    def test_npy_holds_the_codes_alone(self, call: Call) -> None:
        write_noise("a.wav", 16_000)
        call(cli.encode_main, "a.wav")
        call(cli.encode_main, "a.wav", "-o", "b.npy")
        codes = np.load("b.npy")
        np.testing.assert_array_equal(codes, Bitstream.from_bytes(Path("a.codec").read_bytes()).codes)
        assert call(cli.decode_main, "b.npy")[0] == 0
        info = sf.info("b.decoded.wav")
        delay = 25  # of the low band a hop, of what is above it a quarter
        assert (info.samplerate, info.frames) == (8000, codes.shape[2] * 20 - delay)

    def test_generated_tokens(self, call: Call) -> None:
        Path("lm.jsonl").write_text('{"codes": [[0, 15, 3, 9]]}\n')
        assert call(cli.decode_main, "lm.jsonl", "--format", "flac")[0] == 0
        assert (sf.info("lm.decoded.flac").frames, sf.info("lm.decoded.flac").samplerate) == (55, 8000)

    def test_a_line_of_jsonl_is_a_recording(self, call: Call) -> None:
        """Each becomes a file, a bad one is named, and what is there is kept or skipped."""
        lines = [
            '{"path": "in/x.wav", "codes": [[0, 15, 3, 9]]}',
            '{"codes": [[99]]}',
            '{"codes": [[[1, 2]], [[3, 4]]]}',
        ]
        Path("lm.jsonl").write_text("\n".join(lines) + "\n")
        code, out, err = call(cli.decode_main, "lm.jsonl")
        assert code == 1
        assert [line.split()[0] for line in out.splitlines()] == ["lm.decoded.x.wav", "lm.decoded.3.wav"]
        assert re.search(one_line("lm.jsonl", 99), err.removesuffix("\n"))
        assert (sf.info("lm.decoded.x.wav").frames, sf.info("lm.decoded.3.wav").channels) == (55, 2)
        Path("lm.jsonl").write_text("\n".join([lines[0], "", lines[2]]) + "\n")
        code, out, err = call(cli.decode_main, "lm.jsonl")
        assert (code, out, err.count("already there")) == (1, "", 2)
        Path("lm.decoded.3.wav").unlink()
        assert call(cli.decode_main, "lm.jsonl", "--skip-existing")[1].startswith("lm.decoded.3.wav ")
        assert_refused(call(cli.decode_main, "lm.jsonl", "-o", "-"), "codec-decode", "several", "-o")

    def test_folders_keep_their_tree(self, call: Call) -> None:
        write_noise("in/a.wav")
        write_noise("in/deep/b.flac", 16_000)
        code, out, err = call(cli.encode_main, "in", "-o", "codes")
        assert (code, err) == (0, "")
        assert [line.split()[0] for line in out.splitlines()] == ["codes/a.codec", "codes/deep/b.codec"]
        assert call(cli.decode_main, "codes", "-o", "out")[0] == 0
        assert files("out") == {"a.decoded.wav", "deep/b.decoded.wav"}


class TestLevels:
    @pytest.mark.parametrize(
        ("words", "levels"),
        [
            (["--num-quantizers", "1"], 1),
            (["--bitrate", "1600"], 1),
            (["--bitrate", "3.1k"], 1),
            (["--bitrate", "3.2k"], 2),
            (["--bitrate", "64k"], 2),
        ],
    )
    def test_encode(self, call: Call, words: list[str], levels: int) -> None:
        write_noise("a.wav", num_channels=2)
        assert call(cli.encode_main, "a.wav", *words)[0] == 0
        assert Bitstream.from_bytes(Path("a.codec").read_bytes()).header.num_quantizers == levels

    def test_cut_without_a_model(self, call: Call) -> None:
        write_noise("a.wav")
        call(cli.encode_main, "a.wav", "--beam", 1)
        call(cli.encode_main, "a.wav", "-o", "low.codec", "--num-quantizers", 1, "--beam", 1)
        code, out, err = call(cli.encode_main, "a.codec", "--num-quantizers", 1, "--model", "no such model")
        assert (code, err) == (0, "")
        assert out.startswith("a.1.codec  0.10 s  1 level, ")
        assert Path("a.1.codec").read_bytes() == Path("low.codec").read_bytes()

    def test_decode_fewer(self, call: Call) -> None:
        write_noise("a.wav", 16_000)
        call(cli.encode_main, "a.wav")
        call(cli.encode_main, "a.codec", "--num-quantizers", 1)
        call(cli.decode_main, "a.1.codec")
        assert call(cli.decode_main, "a.codec", "--num-quantizers", 1)[0] == 0
        assert Path("a.decoded.wav").read_bytes() == Path("a.1.decoded.wav").read_bytes()
        call(cli.decode_main, "a.codec", "-o", "full.wav")
        assert Path("full.wav").read_bytes() != Path("a.decoded.wav").read_bytes()

    @pytest.mark.parametrize(
        ("words", "facts"),
        [
            (["a.wav", "--num-quantizers", "3"], ("num_quantizers", 3, 1, 2)),
            (["a.wav", "--num-quantizers", "0"], ("num_quantizers", 0, 1, 2)),
            (["a.wav", "--bitrate", "1k"], ("bitrate", "1000 bit/s", "1600 bit/s")),
            (["a.wav", "--bitrate", "fast"], ("bitrate", "'fast'", "positive")),
            (["a.wav", "--bitrate", "3k", "--num-quantizers", "1"], ("--num-quantizers", "--bitrate")),
            (["a.wav", "--beam", "0"], ("beam", 0, 1, 64)),
            (["a.wav", "--beam", "65"], ("beam", 65, 1, 64)),
            (["a.wav", "--batch-seconds", "nan"], ("batch_seconds", "finite", "'nan'")),
            (["a.wav", "--batch-seconds", "inf"], ("batch_seconds", "finite", "'inf'")),
            (["a.wav", "--batch-seconds", "-1"], ("batch_seconds", 0, "'-1'")),
            (["a.codec"], (".codec", "fewer levels", "--num-quantizers")),
            (["a.codec", "--num-quantizers", "1", "--format", "npy"], (".codec", "fewer levels")),
            (["a.codec", "a.wav", "--num-quantizers", "1"], ("audio", ".codec", "not both")),
            (["a.codec", "--num-quantizers", "3"], ("a.codec", "num_quantizers", 3, "1..2")),
        ],
    )
    def test_refused(self, call: Call, encoded: bytes, words: list[str], facts: tuple[object, ...]) -> None:
        write_noise("a.wav")
        Path("a.codec").write_bytes(encoded)
        assert_refused(call(cli.encode_main, *words, "-o", "new/"), "codec-encode", *facts)
        assert files() == {"a.wav", "a.codec"}


class TestNothingIsLost:
    def test_existing_outputs_are_refused_before_anything_is_written(self, call: Call) -> None:
        write_noise("in/a.wav")
        write_noise("in/b.wav")
        Path("in/b.codec").write_text("precious")
        facts = ("in/b.codec", "already there", "1 of 2 files", "--overwrite")
        assert_refused(call(cli.encode_main, "in"), "codec-encode", *facts)
        assert Path("in/b.codec").read_text() == "precious"
        assert not Path("in/a.codec").exists()
        assert call(cli.encode_main, "in", "--overwrite")[0] == 0
        assert Path("in/b.codec").read_bytes()[:4] == b"CODC"

    def test_decode_refuses_too(self, call: Call, encoded: bytes) -> None:
        write_noise("a.wav")
        Path("a.codec").write_bytes(encoded)
        before = Path("a.wav").read_bytes()
        assert_refused(
            call(cli.decode_main, "a.codec", "-o", "a.wav"), "codec-decode", "a.wav", "already there", "--overwrite"
        )
        assert Path("a.wav").read_bytes() == before
        assert call(cli.decode_main, "a.codec", "-o", "a.wav", "--overwrite")[0] == 0
        assert Path("a.wav").read_bytes() != before

    def test_two_inputs_of_one_name(self, call: Call) -> None:
        write_noise("in/a.wav")
        write_noise("in/a.flac", seed=1)
        assert call(cli.encode_main, "in", "-o", "codes")[0] == 0
        assert files("codes") == {"a.wav.codec", "a.flac.codec"}
        assert call(cli.decode_main, "codes", "-o", "out")[0] == 0
        assert files("out") == {"a.wav.decoded.wav", "a.flac.decoded.wav"}

    @pytest.mark.parametrize("format", ["codec", "npz"])
    def test_skip_existing(self, call: Call, model: Path, tmp_path: Path, format: str) -> None:
        """Results are left alone if they are complete, of this model and of as many levels; others are errors."""
        for seed, name in enumerate(("cut", "gone", "good", "low", "other")):
            write_noise(f"in/{name}.wav", seed=seed)
        words = ["in", "-o", "codes", "--format", format]
        assert call(cli.encode_main, *words)[0] == 0
        path = {name: Path(f"codes/{name}.{format}") for name in ("cut", "gone", "good", "low", "other")}
        before = path["good"].stat().st_ino
        path["gone"].unlink()
        path["cut"].write_bytes(path["cut"].read_bytes()[:-1])
        low = ["in/low.wav", "-o", path["low"], "--overwrite", "--num-quantizers", 1]
        assert call(cli.encode_main, *low)[0] == 0
        other = ["in/other.wav", "-o", path["other"], "--overwrite", "--model", save_model(tmp_path / "m", seed=1)]
        assert call(cli.encode_main, *other)[0] == 0
        code, out, err = call(cli.encode_main, *words, "--skip-existing")
        assert code == 1 and [line.split()[0] for line in out.splitlines()] == [str(path["gone"])]
        assert [line.split()[1] for line in err.splitlines()] == [
            "1",
            "in/cut.wav:",
            "in/low.wav:",
            "in/other.wav:",
            "3",
        ]
        code, out, err = call(cli.encode_main, *words, "--skip-existing", "--overwrite")
        assert code == 0 and len(out.splitlines()) == 3 and "2 of 5" in err
        assert path["good"].stat().st_ino == before
        code, out, err = call(cli.encode_main, *words, "--skip-existing")
        assert (code, out, err) == (0, "", "codec-encode: 5 of 5 files are done already\n")

    @pytest.mark.parametrize("format", ["codec", "npz"])
    def test_skip_existing_when_decoding(self, call: Call, format: str) -> None:
        for seed, name in enumerate(("a", "b", "c")):
            write_noise(f"in/{name}.wav", seed=seed)
        assert call(cli.encode_main, "in", "-o", "codes", "--format", format)[0] == 0
        words = ["codes", "-o", "out", "--skip-existing"]
        assert call(cli.decode_main, *words)[0] == 0
        _truncate(Path("out/a.decoded.wav"))
        write_noise("out/b.decoded.wav", num_samples=800)
        code, out, err = call(cli.decode_main, *words, "--overwrite")
        assert code == 0 and [line.split()[0] for line in out.splitlines()] == [
            "out/a.decoded.wav",
            "out/b.decoded.wav",
        ]
        assert err == "codec-decode: 1 of 3 files are done already\n"

    def test_skip_existing_when_cutting(self, call: Call, encoded: bytes) -> None:
        Path("a.codec").write_bytes(encoded)
        words = ["a.codec", "--num-quantizers", 1, "--skip-existing"]
        assert call(cli.encode_main, *words)[1].startswith("a.1.codec")
        assert call(cli.encode_main, *words)[:2] == (0, "")
        Path("a.1.codec").write_bytes(encoded)
        assert_refused(call(cli.encode_main, *words), "codec-encode", "a.1.codec", "--overwrite")

    @pytest.mark.parametrize(("output", "limit"), [("a.codec", 150), ("a.npz", 300)])
    def test_full_disk_while_encoding(self, call: Call, output: str, limit: int) -> None:
        write_noise("a.wav")
        with file_size_limit(limit):
            result = call(cli.encode_main, "a.wav", "-o", output)
        assert_refused(result, "codec-encode", "a.wav", "File too large")
        assert files() == {"a.wav"}

    def test_full_disk_while_decoding(self, call: Call, encoded: bytes) -> None:
        Path("a.codec").write_bytes(encoded)
        with file_size_limit(150):
            result = call(cli.decode_main, "a.codec")
        assert_refused(result, "codec-decode", "a.codec", "disk full")
        assert files() == {"a.codec"}

    def test_interrupted(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        write_noise("a.wav")
        monkeypatch.setattr("codec.bitstream.chunks.BitstreamWriter.close", interrupt)
        assert call(cli.encode_main, "a.wav") == (130, "", "codec-encode: interrupted\n")
        assert files() == {"a.wav"}


class file_size_limit:
    """A limit on the size of every file written: what a full disk is to the program, a write that fails."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.num_bytes, self.before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _not_a_number(path: Path) -> None:
    sf.write(path, np.array([0.0, np.nan, 0.5]), 8000, subtype="FLOAT")


BAD_AUDIO: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "missing": (Path.unlink, ("bad.wav",)),
    "empty": (lambda path: path.write_bytes(b""), ("bad.wav", "0 bytes")),
    "non-audio": (lambda path: path.write_text("not audio at all\n" * 9), ("bad.wav", "not audio")),
    "truncated": (_truncate, ("bad.wav", "truncated")),
    "NaN": (_not_a_number, ("bad.wav", "NaN or Inf")),
    "no samples": (lambda path: sf.write(path, np.zeros(0), 8000), ("bad.wav", "no samples")),
}


class TestBadAudio:
    @pytest.mark.parametrize("kind", BAD_AUDIO)
    @pytest.mark.parametrize("target", ["bad.codec", "bad.npz"])
    def test_one_line(self, call: Call, kind: str, target: str) -> None:
        make, facts = BAD_AUDIO[kind]
        make(write_noise("bad.wav"))
        before = files()
        assert_refused(call(cli.encode_main, "bad.wav", "-o", target), "codec-encode", *facts)
        assert files() == before

    def test_empty_folder(self, call: Call) -> None:
        Path("none").mkdir()
        assert_refused(call(cli.encode_main, "none"), "codec-encode", "nothing to do", "none", ".wav")

    def test_among_good_files(self, call: Call) -> None:
        write_noise("in/a.wav")
        write_noise("in/c.wav")
        Path("in/b.wav").write_text("no audio")
        code, out, err = call(cli.encode_main, "in", "-o", "out")
        assert code == 1
        assert files("out") == {"a.codec", "c.codec"}
        assert [line.split()[0] for line in out.splitlines()] == ["out/a.codec", "out/c.codec"]
        first, last = err.splitlines()
        assert first.startswith("codec-encode: in/b.wav is not audio")
        assert last == "codec-encode: 1 of 3 files failed, are incomplete or were not tried"


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Files of every batch that is encoded from here on."""
    found: list[int] = []

    def count(codec: object, recordings: list[object], **how: object) -> object:
        found.append(len(recordings))
        return compress_batch(codec, recordings, **how)  # type: ignore[arg-type]

    monkeypatch.setattr("codec.inference.batching.compress_batch", count)
    return found


def same_codes(first: Path, second: Path) -> None:
    """Two float paths gave the same file, but for near-ties."""
    one, two = (Bitstream.from_bytes(path.read_bytes()) for path in (first, second))
    assert one.header == two.header
    assert (one.codes == two.codes).mean() > 0.99


class TestBatches:
    """Lengths are seconds at the 8 kHz of the model."""

    def test_files_of_similar_length_go_together(self, call: Call, batches: list[int]) -> None:
        write_noise("in/a.wav", 8000, 8000, seed=1)
        write_noise("in/b.wav", 44_100, 80_000, 2, seed=2)
        write_noise("in/c.flac", 16_000, 15_000, seed=3)
        write_noise("in/d.wav", 8000, 800, seed=4)
        write_noise("in/e.wav", 8000, 7501, seed=5)
        code, out, err = call(cli.encode_main, "in", "-o", "together", "--batch-seconds", 4)
        assert (code, err, batches) == (0, "", [3])
        names = ["a.codec", "b.codec", "c.codec", "d.codec", "e.codec"]
        assert [line.split()[0] for line in out.splitlines()] == [f"together/{name}" for name in names]
        assert call(cli.encode_main, "in", "-o", "alone", "--batch-seconds", 0)[0] == 0
        assert batches == [3]
        for name in names:
            same_codes(Path("together", name), Path("alone", name))

    @pytest.mark.parametrize(("seconds", "expected"), [(0, []), (0.9, []), (1.9, []), (2, [2, 2]), (60, [5])])
    def test_a_batch_holds_so_many_seconds(
        self, call: Call, batches: list[int], seconds: float, expected: list[int]
    ) -> None:
        for name in "abcde":
            write_noise(f"in/{name}.wav", num_samples=8000)
        assert call(cli.encode_main, "in", "-o", "out", "--batch-seconds", seconds)[0] == 0
        assert len(files("out")) == 5
        assert batches == expected

    def test_windows(self, call: Call, batches: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        """Lengths are compared within a window, so that a corpus need not be read through before it starts."""
        monkeypatch.setattr("codec.cli.encode.WINDOW_FILES", 2)
        for name in "abcde":
            write_noise(f"in/{name}.wav", seed=ord(name))
        code, out, _ = call(cli.encode_main, "in", "-o", "out")
        assert (code, batches) == (0, [2, 2])
        assert [line.split()[0] for line in out.splitlines()] == [f"out/{name}.codec" for name in "abcde"]
        for name in "abcde":
            call(cli.encode_main, f"in/{name}.wav", "-o", "one.codec", "--overwrite")
            same_codes(Path(f"out/{name}.codec"), Path("one.codec"))

    @pytest.mark.parametrize("suffix", ["npy", "npz", "jsonl"])
    def test_plain_codes(self, call: Call, batches: list[int], suffix: str) -> None:
        write_noise("in/a.wav", 44_100, 4411, 2, seed=1)
        write_noise("in/b.wav", num_samples=800, seed=2)
        assert call(cli.encode_main, "in", "-o", "plain", "--format", suffix, "--num-quantizers", 1)[0] == 0
        assert call(cli.encode_main, "in", "-o", "codes", "--num-quantizers", 1)[0] == 0
        assert batches == [2, 2]
        model = Bitstream.from_bytes(Path("codes/a.codec").read_bytes()).header
        for name in ("a", "b"):
            expected = Bitstream.from_bytes(Path(f"codes/{name}.codec").read_bytes())
            assert expected.header.num_quantizers == 1
            found = read_codes(f"plain/{name}.{suffix}", model)
            np.testing.assert_array_equal(found.codes, expected.codes)
            if suffix != "npy":
                assert found.header == expected.header

    def test_a_bad_file_costs_only_itself(self, call: Call, batches: list[int]) -> None:
        """Whether its header tells, or only its samples, or that it can't be written."""
        for name in ("a", "b", "d", "f"):
            write_noise(f"in/{name}.wav", num_samples=8000)
        Path("in/b.wav").write_text("no audio")
        sf.write("in/c.wav", np.append(np.zeros(7999), np.nan), 8000, subtype="FLOAT")
        write_noise("in/e.wav", num_samples=8000, num_channels=4)
        with file_size_limit(800):
            code, out, err = call(cli.encode_main, "in", "-o", "out")
        assert (code, batches) == (1, [4])
        assert [line.split()[0] for line in out.splitlines()] == [f"out/{name}.codec" for name in "adf"]
        assert files("out") == {"a.codec", "d.codec", "f.codec"}
        lines = err.splitlines()
        assert [line.split()[1] for line in lines] == ["in/b.wav", "in/c.wav", "in/e.wav:", "3"]
        assert "File too large" in lines[2]

    def test_a_recording_that_only_the_batch_finds_bad(self, call: Call, batches: list[int]) -> None:
        """Finite in its file, it overflows when it is resampled."""
        for name in ("a", "b"):
            write_noise(f"in/{name}.wav", num_samples=8000)
        loud = 3e38 * np.random.default_rng(0).choice([-1, 1], 48_000).astype(np.float32)
        for name in ("c", "d"):
            sf.write(f"in/{name}.wav", loud, 48_000, subtype="FLOAT")
        code, _, err = call(cli.encode_main, "in", "-o", "out")
        assert code == 1 and files("out") == {"a.codec", "b.codec"}
        assert [line.split()[1] for line in err.splitlines()] == ["in/c.wav:", "in/d.wav:", "2"]

    def test_all_bad(self, call: Call, batches: list[int]) -> None:
        for name in "ab":
            Path("in").mkdir(exist_ok=True)
            _not_a_number(Path(f"in/{name}.wav"))
        code, out, err = call(cli.encode_main, "in", "-o", "out")
        assert (code, out, batches) == (1, "", [])
        assert len(err.splitlines()) == 3


def _patch(offset: int, value: int) -> Callable[[Path], None]:
    def patch(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[offset] = value if value >= 0 else data[offset] ^ 1
        path.write_bytes(data)

    return patch


def _npy(codes: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.array(codes))


BAD_CODES: dict[str, tuple[str, Callable[[Path], Any], tuple[object, ...]]] = {
    "missing": ("bad.codec", Path.unlink, ("bad.codec",)),
    "empty": ("bad.codec", lambda path: path.write_bytes(b""), ("bad.codec", "not", ".codec")),
    "other file": ("bad.codec", lambda path: path.write_text("RIFF"), ("bad.codec", "not", ".codec")),
    "truncated": ("bad.codec", _truncate, ("bad.codec", "1 of 1 chunk")),
    "bit flip": ("bad.codec", _patch(120, -1), ("bad.codec", "1 of 1 chunk", "0.00-0.10 s")),
    "flip in header": ("bad.codec", _patch(45, -1), ("bad.codec", "header", "damaged")),
    "future version": ("bad.codec", _patch(4, 9), ("bad.codec", "version 9")),
    "npy range": ("bad.npy", _npy([[0, 16, 1, 2]]), ("bad.npy", 16, "0..15")),
    "npy negative": ("bad.npy", _npy([[0, -1, 1, 2]]), ("bad.npy", -1, "0..15")),
    "npy levels": ("bad.npy", _npy([[0, 1]] * 3), ("bad.npy", "3 levels", 2)),
    "npy floats": ("bad.npy", _npy([[0.5, 1.0]]), ("bad.npy", "float64")),
    "npy text": ("bad.npy", lambda path: path.write_text("[1, 2]"), ("bad.npy", "read", ".npy")),
    "jsonl range": ("bad.jsonl", lambda path: path.write_text('{"codes": [[0, 99, 1]]}\n'), ("bad.jsonl", 99)),
    "jsonl text": ("bad.jsonl", lambda path: path.write_text("{codes}\n"), ("bad.jsonl", "read", ".jsonl")),
}


class TestBadCodes:
    @pytest.mark.parametrize("kind", BAD_CODES)
    def test_one_line(self, call: Call, encoded: bytes, kind: str) -> None:
        name, make, facts = BAD_CODES[kind]
        Path("bad.codec").write_bytes(encoded)
        make(Path(name))
        before = files()
        assert_refused(call(cli.decode_main, name, "-o", "out/new.wav"), "codec-decode", *facts)
        assert files() == before

    def test_of_another_model(self, call: Call, tmp_path: Path) -> None:
        write_noise("a.wav")
        other = save_model(tmp_path / "other", seed=1)
        call(cli.encode_main, "a.wav", "--model", other)
        result = call(cli.decode_main, "a.codec")
        identity = model_identity(load_codec(other)).hex()[:12]
        assert_refused(result, "codec-decode", "a.codec", f"model {identity}")

    def test_salvage(self, call: Call) -> None:
        write_noise("a.wav", num_samples=9 * 8000)
        call(cli.encode_main, "a.wav")
        _patch(3000, -1)(Path("a.codec"))
        code, out, err = call(cli.decode_main, "a.codec", "--salvage")
        assert code == 1
        assert out == "a.decoded.wav  9.00 s  8000 Hz, 1 channel\n"
        facts = ("codec-decode", "a.codec", "1 of 3 chunks", "4.00-8.00 s")
        assert re.search(one_line(*facts), err.removesuffix("\n"))
        samples = sf.read("a.decoded.wav")[0]
        assert len(samples) == 9 * 8000
        assert not samples[4 * 8000 + 100 : 8 * 8000 - 100].any()
        assert samples[: 4 * 8000 - 100].any()
        code, out, err = call(cli.decode_main, "a.codec", "--salvage", "--num-quantizers", 1, "-o", "low.wav")
        assert code == 1 and re.search(one_line(*facts), err.removesuffix("\n"))

    def test_salvage_of_an_intact_file(self, call: Call, encoded: bytes) -> None:
        Path("a.codec").write_bytes(encoded)
        code, _, err = call(cli.decode_main, "a.codec", "--salvage")
        assert (code, err) == (0, "")

    @pytest.mark.parametrize("words", [[], ["--num-quantizers", "1"]])
    @pytest.mark.parametrize(
        ("num_samples", "size", "fact"),
        [
            (801, 78, "no chunk is intact"),
            (20 * 60 * 8000, 78, "bytes can hold"),
            (2**31, 78, "bytes can hold"),
            (20 * 60 * 8000, None, "bytes can hold"),
            (2**31, None, "bytes can hold"),
        ],
    )
    def test_salvage_gives_no_more_than_the_file_can_hold(
        self, call: Call, encoded: bytes, words: list[str], num_samples: int, size: int | None, fact: str
    ) -> None:
        """A header alone, or a chunk and a forged length."""
        header = dataclasses.replace(Header.from_bytes(encoded), num_samples=num_samples)
        Path("a.codec").write_bytes((header.to_bytes() + encoded[78:])[:size])
        assert_refused(call(cli.decode_main, "a.codec", "--salvage", *words), "codec-decode", "a.codec", fact)
        assert files() == {"a.codec"}


@pytest.mark.parametrize("name", ["train", "encode", "decode", "eval", "compare", "bench", "export", "release"])
def test_every_command_tells_its_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        getattr(cli, f"{name}_main")(["any", "--version"])
    assert capsys.readouterr() == (f"codec-{name} {metadata.version('codec')}\n", "")


class TestModel:
    def test_no_such_model(self, call: Call) -> None:
        write_noise("a.wav")
        assert_refused(call(cli.encode_main, "a.wav", "--model", "nope"), "codec-encode", "'nope'")

    def test_another_architecture(self, call: Call, tmp_path: Path) -> None:
        write_noise("a.wav")
        folder = save_model(tmp_path / "m")
        config = json.loads((folder / "config.json").read_text())
        config["encoder"]["channels"] = 24
        (folder / "config.json").write_text(json.dumps(config))
        result = call(cli.encode_main, "a.wav", "--model", folder)
        assert_refused(result, "codec-encode", folder / "model.safetensors", "architecture")

    def test_without_model(self, call: Call, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """None ships: it has to be named. One ships: it is taken."""
        write_noise("a.wav")
        monkeypatch.setattr("codec.cli.loading.shipped", lambda kind: tmp_path / kind)
        monkeypatch.setattr("sys.argv", ["codec-encode", "a.wav", "--device", "cpu"])
        with pytest.raises(SystemExit, match="2"):
            cli.encode_main()
        assert files() == {"a.wav"}
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "only").symlink_to(model)
        with pytest.raises(SystemExit, match="0"):
            cli.encode_main()
        assert Bitstream.from_bytes(Path("a.codec").read_bytes()).header.model_id == model_identity(load_codec(model))

    def test_no_such_device(self, call: Call, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        write_noise("a.wav")
        words = ["a.wav", "--model", model, "--device", "cuda"]
        assert_refused(call(cli.encode_main, *words), "codec-encode", "no CUDA device", "--device cpu")
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
        assert_refused(call(cli.encode_main, *words[:-1], "mps"), "codec-encode", "no MPS device", "--device cpu")
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
        assert_refused(call(cli.encode_main, *words[:-1], "cuda:2"), "codec-encode", "cuda:2", "cuda:1")
        assert find_device("cuda:1") == "cuda:1"

    def test_training_runs_on_one_device_or_on_one_a_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from codec.train import engine

        found: list[tuple[object, object]] = []

        def build(*, accelerator: str, devices: object, **_: object) -> None:
            found.append((accelerator, devices))
            raise InterruptedError

        monkeypatch.setattr(engine, "Fabric", build)
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        for device in ("cpu", "cuda:3", "mps"):
            with pytest.raises(InterruptedError):
                engine.build_fabric("32-true", device)
        assert found == [("cpu", 1), ("cuda", [3]), ("mps", 1)]
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        with pytest.raises(ConfigError, match=one_line("cuda:3", "2 processes", "--device cuda")):
            engine.build_fabric("32-true", "cuda:3")


class TestTrain:
    def test_train_resume_and_use(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        code, out, _ = call(cli.train_main, *TINY_RUN, "--train.steps", "4")
        assert code == 0
        assert out.startswith("last checkpoint: run/checkpoints/step-00000004\n")
        assert out.endswith("next: codec-encode talk.wav --model run\n")
        recipe = json.loads(Path("run/recipe.json").read_text())
        assert (recipe["train"]["steps"], recipe["codec"]["encoder"]["channels"]) == (4, 8)

        before = {name: Path("run", name).read_bytes() for name in files("run")}
        assert_train_refused(call(cli.train_main, *TINY_RUN), "run", "already", "--resume", "--out")
        assert {name: Path("run", name).read_bytes() for name in files("run")} == before

        from codec.train.trainer import Trainer

        starts, fit = [], Trainer.fit
        monkeypatch.setattr(Trainer, "fit", lambda trainer: (starts.append(trainer.progress.step), fit(trainer)))
        words = ["quickstart", "--out", "run", "--device", "cpu", "--resume", "--train.steps", "6"]
        code, out, _ = call(cli.train_main, *words)
        assert (code, starts) == (0, [4])
        assert "last checkpoint: run/checkpoints/step-00000006\n" in out
        assert json.loads(Path("run/recipe.json").read_text())["train"]["steps"] == 6

        write_noise("talk.wav")
        assert call(cli.encode_main, "talk.wav", "--model", "run", "--device", "cpu")[0] == 0
        assert_train_refused(
            call(cli.train_main, *TINY_RUN[:1], *TINY_RUN[3:], "--out", "two", "--init-from", "run", "--seed", "x"),
            *("seed", "integer"),
        )

    def test_data_may_move_between_resumes(self, call: Call) -> None:
        write_noise("here/data/a.wav")
        words = [*TINY_RUN, "--data.root", "here", "--data.train", "data"]
        assert call(cli.train_main, *words, "--train.steps", "2")[0] == 0
        root = json.loads(Path("run/recipe.json").read_text())["data"]["root"]
        assert Path(root) == Path("here").absolute()
        Path("here").rename("there")
        resume = ["quickstart", "--out", "run", "--device", "cpu", "--resume", "--train.steps", "3"]
        assert_train_refused(call(cli.train_main, *resume), Path("here/data").absolute())
        assert call(cli.train_main, *resume, "--data.root", "there", "--data.num-workers", "1")[0] == 0
        assert Path(json.loads(Path("run/recipe.json").read_text())["data"]["root"]) == Path("there").absolute()

    def test_init_from_another_architecture(self, call: Call, model: Path) -> None:
        result = call(cli.train_main, *TINY_RUN, "--init-from", model)
        assert_train_refused(result, model / "model.safetensors", "architecture")
        assert not Path("run").exists()

    def test_resume_starts_a_run_that_is_not_there(self, call: Call) -> None:
        words = [*TINY_RUN, "--train.steps", "2", "--resume"]
        code, out, _ = call(cli.train_main, *words)
        assert (code, out.splitlines()[0]) == (0, "last checkpoint: run/checkpoints/step-00000002")
        code, _, err = call(cli.train_main, *words)
        assert code == 2
        assert re.search("--resume.*train.steps.*train.epochs.*train.max_minutes.*data.root.*data.num_workers", err)

    @pytest.mark.parametrize(
        ("words", "facts"),
        [
            (["quickstart", "--train.stepz", "3"], ("'train.stepz'", "'train.steps'")),
            (["quickstart", "--train.steps", "0"], ("train.steps", "greater than 0", "'0'")),
            (["bad.toml"], ("bad.toml", "'train.batchsize'", "'train.batch_size'")),
            (["range.toml"], ("range.toml", "train.steps", "greater than 0", -1)),
            (["nope"], ("'nope'", ".toml", "quickstart")),
            (["quickstrat"], ("'quickstrat'", "'quickstart'")),
            (["quickstart", "--resume", "--init-from", "x"], ("own weights",)),
            (
                ["quickstart", "--train.steps", "10", "--train.bypass-steps", "10"],
                ("train.bypass_steps", 10, "train.steps", 10),
            ),
            (["quickstart", "--data.root", "nowhere"], ("nowhere/MANIFEST.tsv",)),
        ],
    )
    def test_refused(self, call: Call, words: list[str], facts: tuple[object, ...]) -> None:
        Path("bad.toml").write_text("[train]\nbatchsize = 3\n")
        Path("range.toml").write_text("[train]\nsteps = -1\n")
        assert_train_refused(call(cli.train_main, *words), *facts)
        assert files() == {"bad.toml", "range.toml"}
        assert not Path("runs").exists()

    def test_interrupted(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("codec.train.trainer.Trainer.fit", interrupt)
        code, out, err = call(cli.train_main, *TINY_RUN)
        assert (code, out) == (130, "")
        assert err.endswith("codec-train: interrupted; go on with  codec-train quickstart --out run --resume\n")


def assert_train_refused(result: tuple[int, str, str], *facts: object) -> None:
    """As `assert_refused`, after what Lightning itself may print about devices and precision."""
    code, out, err = result
    assert_refused((code, out, err[err.index("codec-train: ") :]), "codec-train", *facts)


class TestModes:
    def test_files_of_every_mode_decode_in_every_mode(self, call: Call) -> None:
        write_noise("a.wav", seed=1)
        for mode in MODES:
            assert call(cli.encode_main, "a.wav", "--mode", mode, "-o", f"{mode}.codec")[0] == 0
            for other in MODES:
                target = f"{mode}_{other}.wav"
                assert call(cli.decode_main, f"{mode}.codec", "--mode", other, "-o", target)[0] == 0
                assert sf.info(target).frames == sf.info("a.wav").frames
        assert Path("float32.codec").read_bytes() == Path("bf16_decoder.codec").read_bytes()

    def test_what_a_mode_changes_is_reported(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        write_noise("a.wav", seed=1)
        words = ["a.wav", "--metrics", "mel", "--mode", "bf16_decoder", "-o", "results.json"]
        for fast, note in ((True, ""), (False, "note: mode bf16_decoder is slow here")):
            monkeypatch.setattr(codec.dsp.precision, "has_fast_bfloat16", lambda _, fast=fast: fast)
            code, out, err = call(cli.eval_main, *words, "--overwrite")
            assert code == 0 and note in err and bool(note) == ("note" in err)
        assert out.splitlines()[0].endswith("s of audio, bf16_decoder")
        assert "codes that are those of float32, by level: 100.0% 100.0%" in out
        report = json.loads(Path("results.json").read_text())
        assert (report["about"]["mode"], report["about"]["device"]) == ("bf16_decoder", "cpu")
        assert report["agreement"] == [1.0, 1.0]

    def test_onnx_is_of_the_processor(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        options = ModelOptions(model=str(model), mode="onnx")
        assert load_model(options).device.type == "cpu"
        with pytest.raises(ConfigError, match=one_line("onnx", "CPU", "cuda", "cpu")):
            load_model(dataclasses.replace(options, device="cuda"))


class TestEval:
    def test_table_and_results(self, call: Call, model: Path) -> None:
        write_noise("a.wav", seed=1)
        write_noise("b.wav", 16_000, 9000, seed=2)
        words = ["a.wav", "b.wav", "--bitrates", "1600", "4k", "--metrics", "mel", "si_sdr", "-o", "out/results.json"]
        code, out, _ = call(cli.eval_main, *words)
        assert code == 0
        lines = out.splitlines()
        assert lines[0] == "2 files, 0.7 s of audio, float32"
        assert lines[2].split() == ["codec", "setting", "kbit/s", "mel", "si_sdr"]
        assert [line.split()[1:3] for line in lines[3:5]] == [["1", "level"], ["2", "levels"]]
        assert [line.split(" by band")[0] for line in lines if "bands in Hz" in line] == [
            "Energy",
            "SNR",
            "Power error",
        ]
        health = lines[-4:]
        assert health[0].split() == ["level", "usage", "perplexity", "entropy", "(bit)"]
        assert [line.split()[0] for line in health[1:3]] == ["1", "2"]
        assert health[3].startswith("ideal entropy coding of these levels: ") and health[3].endswith(" of 3.20 kbit/s")

        results = json.loads(Path("out/results.json").read_text())
        about = results["about"]
        assert about["model"]["identity"] == model_identity(load_codec(model)).hex()
        assert about["versions"]["packages"]["torch"] == torch.__version__.split("+")[0]
        assert about["beam"] == 8 and about["command"].startswith("codec-eval a.wav b.wav --bitrates 1600 4k")
        assert [mean["setting"] for mean in results["means"]] == ["1 level", "2 levels"]
        assert results["edges_hz"][-2:] == [3000, 4000]
        assert [len(values) for row in results["rows"] for values in row["bands"].values()] == [7, 7, 7] * 4
        assert [(row["path"], row["setting"]) for row in results["rows"]] == [
            *(("a.wav", "1 level"), ("a.wav", "2 levels")),
            *(("b.wav", "1 level"), ("b.wav", "2 levels")),
        ]
        mean = np.mean([row["mel"] for row in results["rows"] if row["setting"] == "2 levels"])
        assert results["means"][1]["metrics"]["mel"]["mean"] == pytest.approx(mean)
        assert results["metrics"]["mel"] == {"label": "mel distance", "unit": "neper", "better": "lower"}
        (health,) = results["health"].values()
        assert {name: len(values) for name, values in health.items()} == {"entropy": 2, "perplexity": 2, "usage": 2}
        assert_refused(call(cli.eval_main, *words), "codec-eval", "out/results.json", "already there", "--overwrite")

    def test_rows_as_lines_and_as_a_table(self, call: Call) -> None:
        write_noise("a.wav", seed=1)
        words = ["a.wav", "--bitrates", "1600", "3200", "--metrics", "mel"]
        for name in ("r.jsonl", "r.csv"):
            assert call(cli.eval_main, *words, "-o", name)[0] == 0
        lines = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
        table = list(csv.DictReader(Path("r.csv").read_text().splitlines()))
        assert [row["setting"] for row in lines] == [row["setting"] for row in table] == ["1 level", "2 levels"]
        assert [row["mel"] for row in lines] == pytest.approx([float(row["mel"]) for row in table])
        assert_refused(call(cli.eval_main, *words, "-o", "r.txt"), "codec-eval", "r.txt", ".json", ".csv")

    def test_rates_are_those_of_the_files_that_codec_encode_writes(self, call: Call) -> None:
        """Of a stereo file at another rate too, by the table and the results."""
        write_noise("a.wav", seed=1)
        write_noise("b.wav", 9000, 4001, 2, seed=2)
        code, out, _ = call(cli.eval_main, "a.wav", "b.wav", "--bitrates", "3200", "--metrics", "mel", "-o", "r.json")
        assert code == 0 and call(cli.encode_main, "a.wav", "b.wav", "-o", "codes/")[0] == 0
        results = json.loads(Path("r.json").read_text())
        sizes = [Path("codes", name).stat().st_size for name in ("a.codec", "b.codec")]
        assert [row["num_bytes"] for row in results["rows"]] == sizes
        seconds = [sf.info(name).duration for name in ("a.wav", "b.wav")]
        rates = [8 * size / second for size, second in zip(sizes, seconds, strict=True)]
        assert [row["bitrate"] for row in results["rows"]] == pytest.approx(rates, rel=1e-3)
        assert results["means"][0]["bitrate"] == pytest.approx(8 * sum(sizes) / sum(seconds), rel=1e-3)
        assert out.splitlines()[3].split()[3] == f"{results['means'][0]['bitrate'] / 1000:.2f}"

    def test_gains_and_conditions(self, call: Call) -> None:
        write_noise("a.wav", seed=1)
        words = ["a.wav", "--metrics", "mel", "--gains", "0", "-20", "-20", "--conditions", "dc", "noise=10"]
        code, out, _ = call(cli.eval_main, *words, "-o", "r.json")
        names = ["as it is", "-20 dB", "DC +0.05", "noise 10 dB"]
        assert code == 0 and [line for line in out.splitlines() if line.startswith("Condition")] == [
            f"Condition: {name}" for name in names
        ]
        means = json.loads(Path("r.json").read_text())["means"]
        assert [(mean["condition"], mean["setting"]) for mean in means] == [
            (name, setting) for name in names for setting in ("1 level", "2 levels")
        ]

    def test_beside_other_codecs(self, call: Call, model: Path) -> None:
        write_noise("a.wav", num_samples=8000, seed=1)
        words = ["a.wav", "--metrics", "mel", "snr", "--codecs", "opus@12k,24k", f"model:{model}@1600"]
        assert_refused(call(cli.eval_main, *words), "codec-eval", "1 level", "twice")
        code, out, _ = call(cli.eval_main, *words[:-1], "-o", "r.json")
        results = json.loads(Path("r.json").read_text())
        assert code == 0 and [mean["codec"] for mean in results["means"]][2:] == ["opus", "opus"]
        assert [(rate["codec"], rate["reference"], rate["metric"]) for rate in results["bd_rate"]] == [
            (results["means"][0]["codec"], "opus", metric) for metric in ("mel", "snr")
        ]
        assert "Bits at equal quality, relative to opus" in out
        assert_refused(call(cli.eval_main, *words[:-1], "--versus", "mp3"), "codec-eval", "mp3", "opus")

    def test_a_report_is_resumed(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that was cut off after the first file ends with the same rows and clips."""
        for name in ("a", "b", "c"):
            write_noise(f"{name}.wav", seed=ord(name))
        words = ["a.wav", "b.wav", "c.wav", "--metrics", "mel", "--report-clips", "2", "--report"]
        assert call(cli.eval_main, *words, "whole")[0] == 0
        assert call(cli.eval_main, *words, "cut")[0] == 0
        ledger = Path("cut/progress.jsonl")
        ledger.write_text("\n".join(ledger.read_text().splitlines()[:2]))
        for path in (Path("cut/index.html"), *Path("cut/clips").glob("*2.js")):
            path.unlink()
        assert_refused(call(cli.eval_main, *words, "cut"), "codec-eval", "cut", "--resume", "--overwrite")
        code, out, err = call(cli.eval_main, *words, "cut", "--resume")
        assert code == 0 and "1 of 3 files are done already" in err and "report: cut/index.html" in out
        for name in ("clips/001.js", "clips/002.js"):
            assert Path("cut", name).read_bytes() == Path("whole", name).read_bytes()
        whole, cut = (json.loads(Path(folder, "results.json").read_text()) for folder in ("whole", "cut"))
        clock = {"encode_speed": 0, "decode_speed": 0}
        for key in ("rows", "means"):
            assert [row | clock for row in whole[key]] == [row | clock for row in cut[key]]
        assert whole["health"] == cut["health"] and Path("cut/listening.html").exists()
        assert " on 3 files</h1>" in Path("cut/index.html").read_text()
        for other, what in ((["--report-clips", "1"], "kept"), (["--report-clips", "2", "--beam", "1"], "beam")):
            others = [*words[:-3], *other, "--report", "cut", "--resume"]
            assert_refused(call(cli.eval_main, *others), "codec-eval", "cut", f"another {what}", "--overwrite")
        assert_refused(call(cli.eval_main, "a.wav", "--resume"), "codec-eval", "--report")
        Path("other").mkdir()
        Path("other/mine.txt").write_text("x")
        assert_refused(call(cli.eval_main, *words, "other", "--overwrite"), "codec-eval", "other", "new folder")

    @pytest.mark.parametrize(
        ("words", "facts"),
        [
            (["--codecs", "opus@12k", "--versus", "mp3"], ("mp3", "opus")),
            (["--versus", "mp3"], ("mp3",)),
            (["--plot", "curves.png", "--gains", "-20"], ("nothing to draw", "gain 0")),
        ],
    )
    def test_what_can_not_be_reported_is_refused_before_the_work(
        self, call: Call, monkeypatch: pytest.MonkeyPatch, words: list[str], facts: tuple[str, ...]
    ) -> None:
        write_noise("a.wav", seed=1)
        monkeypatch.setattr("codec.eval.evaluate.evaluate", lambda *_, **__: pytest.fail("it has worked already"))
        assert_refused(call(cli.eval_main, "a.wav", "--metrics", "mel", *words), "codec-eval", *facts)

    def test_a_file_that_neither_mode_can_code_costs_only_itself(self, call: Call) -> None:
        write_noise("a.wav", num_samples=800)
        sf.write("loud.wav", np.full(800, 5.0), 16_000, "FLOAT")
        code, out, err = call(cli.eval_main, "a.wav", "loud.wav", "--metrics", "mel", "--mode", "bf16_decoder")
        assert code == 1 and "codes that are those of float32, by level: 100.0% 100.0%" in out
        assert "loud.wav" in err.splitlines()[-1]

    def test_a_codec_that_fails_is_named(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        write_noise("a.wav", seed=1)

        def fail(self: object, audio: torch.Tensor) -> None:
            raise AudioError("no luck")

        monkeypatch.setattr("codec.eval.systems.soundfile_codecs.SoundfileCodec.__call__", fail)
        words = ["a.wav", "--metrics", "mel", "--codecs", "opus@12k", "-o", "r.json"]
        code, out, err = call(cli.eval_main, *words)
        assert code == 1 and err.splitlines()[-1] == "codec-eval: a.wav: opus, 12 kbit/s: no luck"
        assert "opus, 12 kbit/s: failed on 1 of 1 files" in out
        assert [row["error"] for row in json.loads(Path("r.json").read_text())["rows"]] == [None, None, "no luck"]

    def test_no_nan_in_the_results(self, call: Call) -> None:
        """A silent file among the others is null where it has no value, and counted."""
        write_noise("a.wav", seed=1)
        sf.write("silent.wav", np.zeros(8000), 16_000)
        code, out, _ = call(
            cli.eval_main, "a.wav", "silent.wav", "--metrics", "snr", "--bitrates", "3200", "-o", "r.json"
        )
        results = json.loads(Path("r.json").read_text(), parse_constant=pytest.fail)
        assert code == 0 and "files without a finite value, left out of the mean: 1 of snr" in out
        silent = results["rows"][1]
        assert silent["snr"] is None and "silent" in silent["notes"]["snr"]
        assert silent["bands"]["energy"] == [None] * 7
        (mean,) = results["means"]
        assert mean["metrics"]["snr"] == {"mean": results["rows"][0]["snr"], "low": None, "high": None, "num": 1}
        assert mean["bands_left_out"] == [1] * 7

    def test_a_bad_file_costs_only_itself(self, call: Call) -> None:
        write_noise("a.wav", num_samples=800)
        Path("text.wav").write_text("no audio")
        code, out, err = call(cli.eval_main, "text.wav", "a.wav", "--metrics", "mel", "-o", "r.json")
        results = json.loads(Path("r.json").read_text())
        assert code == 1 and out.startswith("1 files, ") and "codec-eval: text.wav is not audio" in err
        assert {row["path"] for row in results["rows"]} == {"a.wav"} and list(results["unread"]) == ["text.wav"]

    def test_manifest(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only rows of the split and kinds are judged; a metric that is not installed is named."""
        for name in ("a", "b", "c"):
            write_noise(f"{name}.wav", num_samples=800)
        rows = ["path\tsplit\tkind", "a.wav\ttest\tspeech", "b.wav\ttest\tmusic", "c.wav\ttrain\tspeech"]
        Path("m.tsv").write_text("\n".join(rows) + "\n")
        fast = tuple(name for name, metric in METRICS.items() if not metric.slow and name != "pesq_wb")
        monkeypatch.setattr("codec.eval.metrics.metrics.available_metrics", lambda: fast)
        words = ["m.tsv", "--split", "test", "--kinds", "speech", "-o", "r.json"]
        code, _, err = call(cli.eval_main, *words)
        assert code == 0
        assert err.startswith("codec-eval: without pesq_wb: to have it, run  pip install pesq\n")  # then a bar, if slow
        results = json.loads(Path("r.json").read_text())
        assert {row["path"] for row in results["rows"]} == {"a.wav"}
        stoi = results["means"][0]["metrics"]["stoi"]["mean"]
        assert stoi is None, "a clip of 0.1 s is too short for STOI: null, not NaN"

    @pytest.mark.parametrize(
        ("words", "facts"),
        [
            (["gone.wav"], ("gone.wav",)),
            ([], ("nothing to do",)),
            (["a.wav", "--codecs", "opsu"], ("'opsu'", "opus")),
            (["a.wav", "--conditions", "rain"], ("'rain'", "noise")),
            (["a.wav", "--metrics", "beauty"], ("'beauty'", "mel")),
            (["a.wav", "a.wav", "b.wav", "--jobs", "-1"], ("jobs", -1, 0)),
            (
                ["a.wav", "b.wav", "--mode", "onnx", "--jobs", "2", "--metrics", "mel"],
                ("onnx", "processes", "--jobs 1"),
            ),
            (["a.wav", "--bitrates", "800"], ("bitrate", "800 bit/s", "1600 bit/s")),
            (["text.wav", "--metrics", "mel"], ("text.wav", "not audio")),
        ],
    )
    def test_refused(self, call: Call, words: list[str], facts: tuple[object, ...]) -> None:
        write_noise("a.wav")
        write_noise("b.wav")
        Path("text.wav").write_text("no audio")
        assert_refused(call(cli.eval_main, *words), "codec-eval", *facts)


def python(code: str, *words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


class TestProcess:
    def test_help_and_mistakes_load_no_torch(self, tmp_path: Path) -> None:
        code = """
import sys
from codec import cli
for words in (["--help"], ["--no-such-option"]):
    for main in (cli.train_main, cli.encode_main, cli.decode_main, cli.eval_main):
        try:
            main(words)
        except SystemExit as stop:
            assert stop.code == (0 if words == ["--help"] else 2), stop.code
try:
    cli.train_main(["quickstart", "--help"])
except SystemExit:
    pass
heavy = {"torch", "soundfile", "lightning_fabric", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
        done = python(code, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        for command in ("train", "encode", "decode", "eval"):
            assert f"usage: codec-{command} " in done.stdout
        assert "talk.wav -> talk.codec" in done.stdout
        assert "quickstart " in done.stdout
        assert "--train.max-minutes" in done.stdout
        assert len(done.stderr.splitlines()) == 4, "one line for each mistake"

    def test_a_command_loads_no_other(self, tmp_path: Path) -> None:
        code = """
import sys
from codec import cli
for main in (cli.train_main, cli.encode_main, cli.decode_main, cli.eval_main):
    before = set(sys.modules)
    try:
        main(["--no-such-option"])
    except SystemExit:
        pass
    new = {name for name in set(sys.modules) - before if name.startswith("codec.cli.")}
    shared = {"jobs", "loading", "options", "output", "program_options", "command_line", "pipes", "values"}
    shared |= {"code_file", "edit"}  # of codec-encode
    print(*(new - {f"codec.cli.{name}" for name in shared}))
"""
        done = python(code, cwd=tmp_path)
        assert done.stdout.splitlines() == [f"codec.cli.{name}" for name in ("train", "encode", "decode", "evaluate")]

    def test_encode(self, tmp_path: Path, model: Path) -> None:
        write_noise(tmp_path / "talk.wav")
        (tmp_path / "bad.wav").write_text("no audio")
        words = ["talk.wav", "bad.wav", "-o", "out", "--model", str(model)]
        done = python("from codec.cli import encode_main; encode_main()", *words, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stdout.startswith("out/talk.codec  0.10 s  2 levels, ")
        assert len(done.stdout.splitlines()) == 1
        assert [line.split(" ", 2)[:2] for line in done.stderr.splitlines()] == [
            ["codec-encode:", "bad.wav"],
            ["codec-encode:", "1"],
        ]

    def test_the_length_of_a_file_takes_no_memory(self, tmp_path: Path) -> None:
        """Peak of encoding and decoding 8 minutes in stereo over that of 10 seconds. The samples alone take 61 MB."""
        values = {"latent_dim": 8, "encoder": {"channels": 8, "num_blocks": 1}, "decoder": {"channels": 8}}
        values["quantizer"] = {"num_quantizers": 2, "codebook_size": 16, "codebook_dim": 4}
        save_codec(build_codec(from_dict(CodecConfig, values, source="test")), tmp_path / "model")
        block = np.random.default_rng(0).uniform(-0.5, 0.5, (160_000, 2))
        for name, num_blocks in (("short", 1), ("long", 48)):
            with sf.SoundFile(tmp_path / f"{name}.wav", "w", 16_000, 2) as file:
                for _ in range(num_blocks):
                    file.write(block)
        code = """
import resource
from codec import cli
for name in ("short", "long"):
    for main, source in ((cli.encode_main, f"{name}.wav"), (cli.decode_main, f"{name}.codec")):
        try:
            main([source, "--model", "model", "--device", "cpu"])
        except SystemExit as stop:
            assert stop.code == 0
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
        done = python(code, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert sf.info(tmp_path / "long.decoded.wav").frames == 48 * 160_000
        peaks = [int(line.split()[1]) / 1000 for line in done.stdout.splitlines() if line.startswith("peak")]
        assert len(peaks) == 2
        assert peaks[1] - peaks[0] < 20, "MB"
