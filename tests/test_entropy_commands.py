"""codec-encode and codec-decode with a model that has entropy tables."""

import re
import shutil
from pathlib import Path

import pytest
from messages import one_line
from models import noise, tiny_codec, tiny_tables

from codec import cli
from codec.audio.file import save_audio
from codec.bitstream import ENTROPY_CODED, PACKED, Header
from codec.inference.compression import compress, compress_file
from codec.inference.pretrained import save_codec


def codec_of(name):
    codec = tiny_codec(seed=len(name))
    codec.entropy = tiny_tables(codec, noise(1, 1, 5_000))
    return codec


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a recording, a model with tables, and another one."""
    monkeypatch.chdir(tmp_path)
    save_audio(tmp_path / "a.wav", noise(1, 2, 5_000).clamp(-1, 1), 16_000)
    for name in ("model", "another"):
        save_codec(codec_of(name), tmp_path / name)
    return tmp_path


@pytest.fixture
def call(folder, capsys):
    def run(command, *words):
        with pytest.raises(SystemExit) as stop:
            command([str(word) for word in words])
        return stop.value.code, *capsys.readouterr()

    return run


def test_encode_and_decode(call):
    code, out, err = call(cli.encode_main, "a.wav", "--model", "model")
    assert (code, err) == (0, "")
    size = Path("a.codec").stat().st_size
    assert out == f"a.codec  0.31 s  4 levels, {size * 8 / 0.3125 / 1000:.2f} kbit/s\n"
    header = Header.from_bytes(Path("a.codec").read_bytes())
    assert header.payload_kind == ENTROPY_CODED and size < header.num_bytes
    assert compress_file(codec_of("model"), Path("a.wav"), Path("expected.codec")) == header
    assert Path("expected.codec").read_bytes() == Path("a.codec").read_bytes()
    assert call(cli.decode_main, "a.codec", "--model", "model")[0] == 0
    assert call(cli.encode_main, "a.wav", "--model", "model", "--format", "npz")[0] == 0
    assert call(cli.decode_main, "a.npz", "-o", "plain.wav", "--model", "model")[0] == 0
    assert Path("plain.wav").read_bytes() == Path("a.decoded.wav").read_bytes()


def test_a_batch_is_entropy_coded_too(call):
    shutil.copy("a.wav", "b.wav")
    assert call(cli.encode_main, "a.wav", "b.wav", "-o", "codes", "--model", "model")[0] == 0
    for path in Path("codes").iterdir():
        assert Header.from_bytes(path.read_bytes()).payload_kind == ENTROPY_CODED
        assert path.stat().st_size < Header.from_bytes(path.read_bytes()).num_bytes


@pytest.mark.parametrize("is_shipped", [False, True])
def test_cut_to_fewer_levels(call, monkeypatch, is_shipped):
    """With the tables of the model asked for, or of the one among those that ship which made the file."""
    greedy = ["--beam", 1, "--model", "model"]  # whose first levels are those of a search over fewer
    call(cli.encode_main, "a.wav", *greedy)
    call(cli.encode_main, "a.wav", "-o", "low.codec", "--num-quantizers", 2, *greedy)
    if is_shipped:
        monkeypatch.setattr("codec.cli.loading.shipped", lambda kind: Path())
    words = [] if is_shipped else ["--model", "model"]
    code, out, err = call(cli.encode_main, "a.codec", "--num-quantizers", 2, *words)
    assert (code, err) == (0, "") and out.startswith("a.2.codec  0.31 s  2 levels, ")
    assert Path("a.2.codec").read_bytes() == Path("low.codec").read_bytes()
    call(cli.decode_main, "a.codec", "--num-quantizers", 2, "-o", "cut.wav", "--model", "model")
    call(cli.decode_main, "a.2.codec", "-o", "low.wav", "--model", "model")
    assert Path("cut.wav").read_bytes() == Path("low.wav").read_bytes()


@pytest.mark.parametrize(
    ("words", "fact"),
    [(["--model", "another"], "another"), ([], "not ship")],
    ids=["another", "none"],
)
def test_cut_without_its_model(call, monkeypatch, words, fact):
    monkeypatch.setattr("codec.cli.loading.shipped", lambda kind: Path("nowhere"))
    call(cli.encode_main, "a.wav", "--model", "model")
    code, out, err = call(cli.encode_main, "a.codec", "--num-quantizers", 2, *words)
    identity = Header.from_bytes(Path("a.codec").read_bytes()).model_id.hex()[:12]
    assert (code, out) == (2, "")
    facts = ("codec-encode", "a.codec", f"model {identity}", fact, "--model")
    assert re.search(one_line(*facts), err.removesuffix("\n"))
    assert not Path("a.2.codec").exists()


def test_decode_with_another_model(call):
    call(cli.encode_main, "a.wav", "--model", "model")
    for words in ([], ["--num-quantizers", 2]):
        code, _, err = call(cli.decode_main, "a.codec", "--model", "another", *words)
        assert code == 2 and re.search(one_line("codec-decode", "a.codec", "--model"), err.removesuffix("\n"))


def test_packed_files_are_cut_without_any_model(call):
    codec = tiny_codec()
    Path("p.codec").write_bytes(compress(codec, noise(1, 1, 500).clamp(-1, 1)).to_bytes())
    assert Header.from_bytes(Path("p.codec").read_bytes()).payload_kind == PACKED
    assert call(cli.encode_main, "p.codec", "--num-quantizers", 2, "--model", "no such model")[0] == 0
