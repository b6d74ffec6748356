"""codec-decode --start --duration, and codec-encode that cuts and joins .codec files."""

import contextlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from messages import one_line
from models import noise, tiny_codec, tiny_tables

from codec import cli
from codec.audio.file import save_audio
from codec.bitstream import Bitstream
from codec.inference.compression import entropy_coder
from codec.inference.pretrained import save_codec

RATE = 16_000


def codec_of(name):
    codec = tiny_codec(seed=len(name))
    codec.entropy = tiny_tables(codec, noise(1, 1, 5_000))
    return codec


def run(main, *words):
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words), *([] if "--model" in words else ["--model", "model"])])
    return stop.value.code


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Recordings a and b of 0.5 s and their codes in every format; others that do not fit them; and their models."""
    folder = tmp_path_factory.mktemp("files")
    with contextlib.chdir(folder):
        for name in ("model", "another"):
            save_codec(codec_of(name), Path(name))
        for seed, name in enumerate(("a", "b")):
            save_audio(Path(f"{name}.wav"), noise(1, 2, 8_001, seed=seed).clamp(-1, 1), RATE)
            for suffix in ("codec", "npz", "npy", "jsonl"):
                assert run(cli.encode_main, f"{name}.wav", "--format", suffix) == 0
        save_audio(Path("mono.wav"), noise(1, 1, 500).clamp(-1, 1), RATE)
        save_audio(Path("slow.wav"), noise(1, 2, 500).clamp(-1, 1), 8_000)
        assert run(cli.encode_main, "mono.wav", "slow.wav", "-o", "./") == 0
        assert run(cli.encode_main, "a.wav", "-o", "other.codec", "--model", "another") == 0
        assert run(cli.encode_main, "a.codec", "--num-quantizers", 1, "-o", "low.codec") == 0
    return folder


@pytest.fixture
def call(files, tmp_path, monkeypatch, capsys):
    """Run a command in a folder with copies of the files."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    return lambda *words: (run(*words), *capsys.readouterr())


def refused(result, prog, *facts):
    code, out, err = result
    assert (code, out) == (2, "") and re.search(one_line(prog, *facts), err.removesuffix("\n")), err


def samples_of(path):
    return sf.read(path, dtype="int16", always_2d=True)[0]


# ---- Decoding a part


@pytest.mark.parametrize("suffix", ["codec", "npz", "npy", "jsonl"])
@pytest.mark.parametrize("levels", [[], ["--num-quantizers", 2]], ids=["all", "two"])
def test_a_part_is_the_slice_of_the_whole(call, suffix, levels):
    assert call(cli.decode_main, f"a.{suffix}", "-o", "whole.wav", *levels)[0] == 0
    words = ["--start", 0.2, "--duration", "0:00.1", *levels]
    code, out, err = call(cli.decode_main, f"a.{suffix}", *words)
    assert (code, out, err) == (0, "a.decoded.wav  0.10 s  16000 Hz, 2 channels\n", "")
    np.testing.assert_array_equal(samples_of("a.decoded.wav"), samples_of("whole.wav")[3_200:4_800])


def test_a_folder(call):
    """What a file does not have costs only that file."""
    save_audio(Path("in", "short.wav"), noise(1, 1, 1_000).clamp(-1, 1), RATE)
    for name in ("a", "b"):
        Path("in", f"{name}.codec").write_bytes(Path(f"{name}.codec").read_bytes())
    call(cli.encode_main, "in/short.wav")
    code, out, err = call(cli.decode_main, "in", "-o", "out", "--start", 0.4)
    assert code == 1 and out.count("0.10 s") == 2
    assert re.search(one_line("in/short.codec", "start", "0.4 s", "ends at 0.0625 s"), err.splitlines()[0])
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.decoded.wav", "b.decoded.wav"]
    code, out, err = call(cli.decode_main, "in", "-o", "out", "--start", 0.4, "--skip-existing")
    assert (code, out) == (2, "") and "2 of 3 files are done" in err
    code, out, _ = call(cli.decode_main, "in", "-o", "out", "--start", 0.3, "--skip-existing", "--overwrite")
    assert code == 1 and out.count("0.20 s") == 2


def test_lines_of_jsonl(call):
    line = json.loads(Path("a.jsonl").read_text())
    Path("lm.jsonl").write_text("".join(json.dumps({**line, "path": f"{name}.flac"}) + "\n" for name in "xy"))
    assert call(cli.decode_main, "lm.jsonl", "--start", 0.25)[0] == 0
    call(cli.decode_main, "a.jsonl", "--start", 0.25)
    for name in "xy":
        np.testing.assert_array_equal(samples_of(f"lm.decoded.{name}.wav"), samples_of("a.decoded.wav"))
    assert call(cli.decode_main, "lm.jsonl", "--start", 0.25, "--skip-existing")[:2] == (0, "")


@pytest.mark.parametrize("form", ["parquet", "wds"])
def test_a_recording_of_a_shard(call, form):
    pytest.importorskip("pyarrow", reason="run  pip install pyarrow")
    for name in ("a", "b"):
        Path("in").mkdir(exist_ok=True)
        shutil.copy(f"{name}.wav", f"in/{name}.wav")
    assert call(cli.encode_main, "in", "-o", "shards", "--format", form)[0] == 0
    assert call(cli.decode_main, "shards", "-o", "whole")[0] == 0
    words = ["--path", "b.wav", "--start", 0.1, "--duration", 0.2]
    code, out, _ = call(cli.decode_main, "shards", "-o", "part.wav", *words)
    assert code == 0 and out.startswith("part.wav  0.20 s")
    np.testing.assert_array_equal(samples_of("part.wav"), samples_of("whole/b.wav")[1_600:4_800])
    code, out, _ = call(cli.decode_main, "shards", "-o", "part.wav", *words, "--skip-existing")
    assert (code, out) == (0, "")


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["--start", "9"], ("a.codec", "start", "9 s", "ends at 0.500062 s")),
        (["--start", "-1"], ("start", "'-1'", "1:30")),
        (["--start", "nan"], ("start", "'nan'")),
        (["--duration", "0"], ("a.codec", "duration", "0 s")),
        (["--duration", "soon"], ("duration", "'soon'")),
        (["--start"], ("--start", "a value")),
    ],
)
def test_no_such_part(call, words, facts):
    refused(call(cli.decode_main, "a.codec", *words), "codec-decode", *facts)
    refused(call(cli.encode_main, "a.codec", *words), "codec-encode", *facts)
    assert not list(Path().glob("*.decoded*")) and not list(Path().glob("*.cut*"))


def test_damage_is_found_in_the_part_alone(call):
    data = bytearray(Path("a.codec").read_bytes())
    data[90] ^= 1  # the only chunk
    Path("bad.codec").write_bytes(data)
    refused(call(cli.decode_main, "bad.codec", "--start", 0.1), "codec-decode", "bad.codec", "lost", "--salvage")
    refused(call(cli.encode_main, "bad.codec", "--start", 0.1), "codec-encode", "bad.codec", "lost")


# ---- Cutting and joining


def test_json_tells_of_the_part(call):
    _, out, _ = call(cli.decode_main, "a.codec", "--start", 0.2, "--duration", 0.1, "--json")
    decoded = json.loads(out)
    assert (decoded["output"], decoded["num_samples"], decoded["seconds"]) == ("a.decoded.wav", 1_600, 0.1)
    _, out, _ = call(cli.encode_main, "a.codec", "--start", 0.2, "--duration", 0.1, "--json")
    assert json.loads(out)["num_samples"] == 1_600
    _, out, _ = call(cli.encode_main, "b.codec", "a.codec", "--join", "-o", "both.codec", "--json")
    joined = json.loads(out)
    assert (joined["path"], joined["output"], joined["error"]) == ("b.codec", "both.codec", None)
    assert joined["num_samples"] == 401 * 20 + 8_001


def test_cut_and_join(call):
    """By their names, and with the levels cut too."""
    for words in (["--duration", 0.2], ["--start", 0.2]):
        code, out, err = call(cli.encode_main, "a.codec", *words, "-o", f"{words[0].strip('-')}.codec")
        assert (code, err) == (0, "") and re.search(r"  0\.[23]0 s  4 levels", out)
    joined = ["duration.codec", "start.codec", "--join", "-o"]
    assert call(cli.encode_main, *joined, "joined.codec")[0] == 0
    assert Path("joined.codec").read_bytes() == Path("a.codec").read_bytes()
    assert call(cli.encode_main, *joined, "two.codec", "--num-quantizers", 2)[0] == 0
    call(cli.encode_main, "a.codec", "--num-quantizers", 2)
    assert Path("two.codec").read_bytes() == Path("a.2.codec").read_bytes()
    assert call(cli.encode_main, "a.codec", "--start", 0.1)[1].startswith("a.cut.codec  0.40 s  4 levels")
    code, out, _ = call(cli.encode_main, "a.codec", "--start", 0.1, "--num-quantizers", 3)
    assert out.startswith("a.cut.3.codec  0.40 s  3 levels")
    whole = Bitstream.from_bytes(Path("a.codec").read_bytes(), coder=entropy_coder(codec_of("model")))
    expected = whole.cut(0.1).keep_quantizers(3)
    assert Path("a.cut.3.codec").read_bytes() == expected.to_bytes()


def test_cut_a_folder_and_go_on(call):
    for name in ("a", "b"):
        Path("in").mkdir(exist_ok=True)
        shutil.copy(f"{name}.codec", f"in/{name}.codec")
    words = ["in", "-o", "out", "--duration", 0.1, "--skip-existing"]
    assert call(cli.encode_main, *words)[0] == 0
    Path("out/b.cut.codec").write_bytes(Path("b.codec").read_bytes())
    code, out, err = call(cli.encode_main, *words, "--overwrite")
    assert code == 0 and out.startswith("out/b.cut.codec  0.10 s") and out.count("\n") == 1 and "1 of 2" in err


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["a.codec", "b.codec", "--join"], ("--join", "-o")),
        (["a.codec", "b.codec", "--join", "-o", "out/"], ("--join", "-o")),
        (["a.codec", "b.codec", "--join", "-o", "a.codec"], ("a.codec", "already there")),
        (["a.codec", "b.codec", "--join", "-o", "a.codec", "--overwrite"], ("a.codec", "its own run", "-o")),
        (["a.codec", "model", "--join", "-o", "x.codec"], ("model", "folder")),
        (["a.codec", "none.codec", "--join", "-o", "x.codec"], ("none.codec",)),
        (["a.codec", "b.codec", "--join", "--start", "0.1", "-o", "x.codec"], ("--join", "--start", "before")),
        (["a.codec", "low.codec", "--join", "-o", "x.codec"], ("low.codec", "a.codec", 1, 4, "--num-quantizers 1")),
        (["a.codec", "mono.codec", "--join", "-o", "x.codec"], ("mono.codec", "num_channels", 1, 2)),
        (["a.codec", "slow.codec", "--join", "-o", "x.codec"], ("slow.codec", "sample_rate", 8000, 16000)),
        (["a.codec", "other.codec", "--join", "-o", "x.codec"], ("other.codec", "model")),
        (["a.wav", "--start", "0.1"], ("--start", ".codec", "a.wav")),
        (["a.wav", "b.wav", "--join", "-o", "x.codec"], ("--join", ".codec", "a.wav")),
        (["a.codec", "--start", "0.1", "--format", "npz"], (".codec", "--format")),
        (["model", "--start", "0.1"], ("model", ".codec")),
    ],
)
def test_what_can_not_be_cut_or_joined(call, words, facts):
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    refused(call(cli.encode_main, *words), "codec-encode", *facts)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
