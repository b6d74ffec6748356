"""codec-encode and codec-decode on a corpus: shards and back, resuming, verifying, and what is refused in one line."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import soundfile as sf

import codec.corpus
from codec import cli

parquet = pytest.importorskip("pyarrow.parquet", reason="run  pip install pyarrow")

from corpus_cases import LENGTHS, save_model, write_folder, write_tar  # noqa: E402 - not without pyarrow

from codec.corpus import shards  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def call(tmp_path, monkeypatch, capsys, model):
    """Run a command in a folder with a corpus `in`: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    write_folder(Path("in"))

    def call(*words):
        command, *words = map(str, words)
        with pytest.raises(SystemExit) as stop:
            getattr(cli, f"{command}_main")(words if "--model" in words else [*words, "--model", str(model)])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


def refused(done, *facts):
    code, _, err = done
    assert code == 2 and err.count("\n") == 1
    assert all(str(fact) in err for fact in facts), err


@pytest.mark.parametrize("form", ["parquet", "wds"])
def test_a_corpus_to_shards_and_back(call, form):
    code, out, err = call("encode", "in", "-o", "out", "--format", form)
    assert (code, err) == (0, "") and out.startswith("5 recordings")
    code, out, err = call("encode", "in", "--verify", "out")
    assert code == 0 and "5 recordings" in out and "5 encoded again: no problems" in out
    assert call("decode", "out", "-o", "decoded")[0] == 0
    for name in LENGTHS:
        info, original = sf.info(Path("decoded", name).with_suffix(".wav")), sf.info(Path("in", name))
        assert (info.frames, info.samplerate, info.channels) == (
            original.frames,
            original.samplerate,
            original.channels,
        )


def test_recordings_are_decoded_by_name(call):
    call("encode", "in", "-o", "out/", "--engine", "local", "--shard-hours", "1e-6")
    assert call("decode", "out", "-o", "some/", "--path", "a/two.flac", "long.wav")[0] == 0
    assert sorted(path.name for path in Path("some").rglob("*.wav")) == ["long.wav", "two.wav"]
    assert call("decode", "out", "-o", "one.flac", "--path", "b/one.wav")[0] == 0
    assert sf.info("one.flac").frames == 900
    assert call("decode", "out", "-o", "some/", "--path", "long.wav", "--skip-existing")[0] == 0
    refused(call("decode", "out", "-o", "some/", "--path", "long.wav"), "already there", "--overwrite")
    refused(call("decode", "out", "-o", "x/", "--path", "none.wav"), "no recording 'none.wav'")
    refused(call("decode", "out"), "-o")
    refused(call("decode", "out", "in/long.wav", "-o", "x/"), "in/long.wav", "no shard")
    refused(call("decode", "in/long.wav", "--path", "x"), "--path", "shards")


def test_a_damaged_shard_costs_only_its_own_recordings(call):
    call("encode", write_tar(Path("in.tar")), "-o", "out/", "--shard-hours", "1e-6")
    call("encode", "in.tar", "-o", "two/")
    Path("two/tokens-00000.parquet").rename("out/tokens-00001.parquet")
    write_tar(Path("other.tar"), {"other.wav": 700})
    call("encode", "other.tar", "-o", "three/")
    path = Path("three/tokens-00000.parquet").rename("out/tokens-00000.parquet")
    data = bytearray(path.read_bytes())
    data[parquet.ParquetFile(path).metadata.row_group(0).column(1).data_page_offset + 60] ^= 1  # of the codes
    path.write_bytes(data)
    code, out, err = call("decode", "out", "-o", "decoded")
    assert code == 1 and "tokens-00000.parquet" in err and "1 of 6" in err
    assert out.count("decoded/") == len(LENGTHS)


def test_levels_and_bitrate(call):
    call("encode", "in", "-o", "out/", "--format", "parquet", "--num-quantizers", "2")
    assert shards.read_model(Path("out/tokens-00000.parquet")).num_quantizers == 2
    call("decode", "out", "-o", "x.wav", "--path", "b/one.wav", "--num-quantizers", "1")
    assert sf.info("x.wav").frames == 900


@pytest.mark.parametrize("form", ["codec", "npz"])
def test_files_of_codes(call, form):
    assert call("encode", "in", "-o", "out", "--engine", "local", "--format", form)[0] == 0
    names = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob(f"*.{form}"))
    assert names == [f"{name.rpartition('.')[0]}.{form}" for name in sorted(LENGTHS)]
    assert call("encode", "in", "--verify", "out")[0] == 0
    refused(call("encode", "--verify", "out"), "give the corpus too")
    assert call("decode", "out/a", "-o", "decoded")[0] == 0


def test_bad_files_are_listed_and_the_run_goes_on_without_them(call):
    Path("in/junk.wav").write_bytes(b"junk")
    Path("in/none.flac").write_bytes(b"")
    code, out, err = call("encode", "in", "-o", "out", "--engine", "local")
    assert code == 1 and out.startswith("5 recordings")
    assert "junk.wav: " in err and "2 of 7 recordings failed: out/bad.jsonl" in err
    bad = [json.loads(line)["path"] for line in Path("out/bad.jsonl").read_text().split("\n") if line]
    assert bad == ["junk.wav", "none.flac"]
    code, out, err = call("encode", "in", "-o", "out", "--engine", "local", "--resume")
    assert code == 1 and out.startswith("0 recordings") and "7 of 7 recordings are done already" in err
    assert call("encode", "in", "--verify", "out")[0] == 0
    Path("out/bad.jsonl").unlink()
    write_folder(Path("in"), {"none.flac": 800})
    assert call("encode", "in", "-o", "out", "--resume")[1].startswith("1 recordings")


def test_a_run_is_resumed_and_another_is_refused(call, tmp_path):
    call("encode", "in", "-o", "out", "--format", "parquet")
    refused(call("encode", "in", "-o", "out", "--format", "parquet"), "already", "--resume")
    refused(call("encode", "in/a", "-o", "out", "--resume"), "another corpus", "-o")
    refused(call("encode", "in", "-o", "out", "--resume", "--num-quantizers", "2"), "another num_quantizers")
    refused(call("encode", "in", "-o", "out", "--resume", "--format", "wds"), "another format")
    other = save_other(tmp_path / "other")
    refused(call("encode", "in", "-o", "out", "--resume", "--model", other), "another model")
    refused(call("encode", "in", "--verify", "out", "--model", other), "another model")
    refused(call("encode", "in/a", "--verify", "out"), "another corpus")
    Path("out/tokens-00000.parquet").unlink()
    code, _, err = call("encode", "in", "--verify", "out")
    assert code == 1 and "a/one.wav is missing" in err
    assert call("encode", "in", "-o", "out", "--resume")[0] == 0
    assert call("encode", "--verify", "out")[0] == 0


def save_other(folder):
    from models import tiny_codec  # late: only here

    from codec.inference.pretrained import save_codec

    save_codec(tiny_codec(seed=5), folder)
    return folder


def test_bad_options_are_one_line(call):
    refused(call("encode", "in", "--engine", "local"), "-o")
    refused(call("encode", "-o", "out", "--engine", "local"), "nothing to do")
    refused(call("encode", "in", "-o", "out", "--workers", "2"), "--engine ray")
    refused(call("encode", "in", "-o", "out", "--engine", "local", "--overwrite"), "--resume")
    refused(call("encode", "in", "--verify", "nowhere"), "nowhere", "corpus.json")
    refused(call("encode", "gone", "-o", "out", "--engine", "local"), "gone")
    Path("again").mkdir()
    write_folder(Path("again"), {"long.wav": 90})
    refused(call("encode", "in", "again", "-o", "out", "--engine", "local"), "again/long.wav", "in/long.wav")
    assert not Path("out").exists()


@pytest.mark.parametrize("package", ["pyarrow", "ray"])
def test_a_package_that_is_missing_is_one_line(call, monkeypatch, package):
    def missing(name, *_):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])

    real = importlib.import_module
    monkeypatch.setattr(
        "codec.errors.importlib.import_module",
        lambda name, *rest: missing(name) if name.split(".")[0] == package else real(name, *rest),
    )
    for name in [name for name in sys.modules if name.startswith("codec.corpus.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(codec.corpus, name.rpartition(".")[2])  # or it would stay the module of this test
    refused(call("encode", "in", "-o", "out", "--engine", "ray"), f"pip install {package}")
