"""Notes and warnings: by logging for those who import the package, on standard error for those who run a command."""

import logging
import subprocess
import sys

import pytest
from models import noise, tiny_codec

import codec
from codec import cli
from codec.audio.file import save_audio
from codec.cli.notes import LOGGER, notes_printed
from codec.inference.pretrained import save_codec


@pytest.fixture
def encode(tmp_path, monkeypatch):
    """Encode a folder that holds a file of another type, which gives a note."""
    monkeypatch.chdir(tmp_path)
    save_codec(tiny_codec(), tmp_path / "model")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").touch()
    save_audio(tmp_path / "in" / "a.wav", noise(1, 1, 3000).clamp(-1, 1), 16_000)

    def run():
        with pytest.raises(SystemExit, match="0"):
            cli.encode_main(["in", "-o", "out", "--model", "model", "--device", "cpu", "--overwrite"])

    return run


NOTE = "1 file of another type left out: .txt"


def test_a_command_prints_a_note_and_leaves_no_handler(encode, capsys):
    before = list(LOGGER.handlers), LOGGER.level
    for _ in range(2):
        encode()
        assert capsys.readouterr().err == f"note: {NOTE}\n"
    assert (LOGGER.handlers, LOGGER.level) == before


def test_a_caller_may_capture_and_silence_them(encode, capsys, caplog, monkeypatch):
    encode()
    assert caplog.record_tuples == [("codec.cli.jobs", logging.INFO, NOTE)]
    capsys.readouterr()
    monkeypatch.setattr(LOGGER, "level", logging.WARNING)
    LOGGER.manager._clear_cache()
    encode()
    assert capsys.readouterr().err == ""


def test_levels(capsys):
    with notes_printed("codec-x"):
        logging.getLogger("codec.any").debug("no")
        logging.getLogger("codec.any").info("%d files", 3)
        logging.getLogger("codec.any").warning("careful")
        logging.getLogger("other").warning("not ours")
    logging.getLogger("codec.any").warning("after the command")
    assert capsys.readouterr().err == "note: 3 files\ncodec-x: warning: careful\n"


def test_the_package_prints_nothing_by_itself():
    """Without a handler of the caller, Python would print a warning that is logged."""
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger(codec.__name__).handlers)
    code = "import codec, logging; logging.getLogger('codec.any').warning('careful')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
