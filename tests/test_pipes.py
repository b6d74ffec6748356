"""Standard input, named pipes and standard output give what files give."""

import io
import os
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from models import noise, tiny_codec

from codec import cli
from codec.audio.file import save_audio
from codec.inference.pretrained import save_codec


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A recording, its codes and what they decode to, in bytes by suffix; and the model."""
    folder = tmp_path_factory.mktemp("files")
    save_codec(tiny_codec(), folder / "model")
    save_audio(folder / "a.wav", noise(1, 1, 3000).clamp(-1, 1), 16_000)
    model = ["--model", str(folder / "model")]
    for main, *words in (
        (cli.encode_main, "a.wav"),
        *((cli.encode_main, "a.wav", "--format", suffix) for suffix in ("npy", "npz", "jsonl")),
        (cli.decode_main, "a.codec"),
    ):
        with pytest.raises(SystemExit, match="0"):
            main([*(str(folder / word) if word.startswith("a.") else word for word in words), *model])
    return folder


@pytest.fixture
def call(files, tmp_path, monkeypatch, capsysbinary):
    """Run a command in an empty folder with these bytes on standard input."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def run(main, *words, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as stop:
            main([*map(str, words), "--model", str(files / "model")])
        assert not list((tmp_path / "tmp").iterdir())
        return stop.value.code, *capsysbinary.readouterr()

    return run


@pytest.mark.parametrize("output", [["-o", "-"], ["-o", "/dev/stdout"], []])
def test_standard_input_to_standard_output(call, files, output):
    code, out, err = call(cli.encode_main, "-", *output, stdin=(files / "a.wav").read_bytes())
    assert (code, out) == (0, (files / "a.codec").read_bytes())
    assert err.startswith(b"stdout.codec  0.19 s") and err.count(b"\n") == 1


@pytest.mark.parametrize("format", ["npy", "npz", "jsonl"])
def test_plain_codes(call, files, format):
    codes = (files / f"a.{format}").read_bytes()
    assert call(cli.encode_main, files / "a.wav", "-o", "-", "--format", format)[:2] == (0, codes)
    assert call(cli.decode_main, "-", "-o", "b.wav", stdin=codes)[0] == 0
    assert Path("b.wav").stat().st_size > 3000


def test_codes_and_their_first_levels(call, files):
    codes = (files / "a.codec").read_bytes()
    assert call(cli.decode_main, "-", stdin=codes)[:2] == (0, (files / "a.decoded.wav").read_bytes())
    assert call(cli.encode_main, "-", "--num-quantizers", 4, stdin=codes)[:2] == (0, codes)


def test_options_that_are_words_become_numbers_once(call, files):
    """6.4k is that of all levels: 800 frames a second x 2 levels x 4 bit."""
    audio = (files / "a.wav").read_bytes()
    expected = call(cli.encode_main, files / "a.wav", "--bitrate", "6.4k", "-o", "-")[1]
    assert call(cli.encode_main, "-", "--bitrate", "6.4k", stdin=audio)[:2] == (0, expected)
    codes = (files / "a.codec").read_bytes()
    part = call(cli.decode_main, files / "a.codec", "--start", "0.05", "--duration", ".00625", "-o", "-")[1]
    assert len(part) == 44 + 2 * 100
    words = ["--start", "0.05", "--duration", ".00625"]
    assert call(cli.decode_main, "-", *words, stdin=codes)[:2] == (0, part)


def test_a_named_pipe(call, files):
    os.mkfifo("p.wav")
    writer = threading.Thread(target=lambda: Path("p.wav").write_bytes((files / "a.wav").read_bytes()))
    writer.start()
    code, out, _ = call(cli.encode_main, "p.wav", "-o", "b.codec")
    writer.join()
    assert code == 0 and out.startswith(b"b.codec")
    assert Path("b.codec").read_bytes() == (files / "a.codec").read_bytes()


@pytest.mark.parametrize(
    ("main", "stdin", "fact"),
    [
        (cli.encode_main, b"", b"codec-encode: stdin is empty"),
        (cli.encode_main, b"text" * 99, b"codec-encode: stdin is not audio"),
        (cli.decode_main, b"text" * 99, b"codec-decode: stdin: not a .codec file"),
        (cli.decode_main, b"{" * 99, b"codec-decode: stdin.jsonl"),
    ],
)
def test_what_is_bad_is_one_line(call, main, stdin, fact):
    code, out, err = call(main, "-", stdin=stdin)
    assert (code, out) == (2, b"")
    assert err.startswith(fact) and err.count(b"\n") == 1 and b"tmp" not in err


def test_a_salvaged_file_is_written_and_named(call, files):
    codes = (files / "a.codec").read_bytes()[:-1]
    code, out, err = call(cli.decode_main, "-", "--salvage", stdin=codes)
    assert (code, out) == (0, (files / "a.decoded.wav").read_bytes())
    assert b"stdout.wav" in err


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (["-", "a.wav", "-o", "out/"], b"one input"),
        (["a.wav", "b.wav", "-o", "-"], b"one input"),
        (["in", "-o", "-"], b"one input"),
        (["a.wav", "-o", "-"], b"terminal"),
        (["-"], b"terminal"),
    ],
)
def test_what_a_pipe_can_not_take(call, monkeypatch, words, fact):
    Path("in").mkdir()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: fact == b"terminal", raising=False)
    code, out, err = call(cli.encode_main, *words)
    assert (code, out) == (2, b"")
    assert fact in err and err.count(b"\n") == 1
