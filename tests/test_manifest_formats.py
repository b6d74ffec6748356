"""Manifests of Kaldi, NeMo and Hugging Face: what they list, and what is refused."""

import json

import pytest
from messages import one_line

from codec.audio.manifest import Item, list_items, list_paths
from codec.audio.manifests.rows import MAX_LINE, MAX_PATH
from codec.errors import ConfigError


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def listed(path, **options):
    return list_items(path.parent, path.name, split="train", **options)


def test_kaldi(tmp_path):
    path = write(tmp_path / "wav.scp", "anna-1  /data/a 1.wav ", "", "ben-1\tsub/b.flac", "x 12:30.wav")
    assert listed(path) == [
        Item(tmp_path / "/data/a 1.wav", "", None),
        Item(tmp_path / "sub/b.flac", "", None),
        Item(tmp_path / "12:30.wav", "", None),
    ]
    write(tmp_path / "utt2spk", "anna-1 anna", "ben-1 ben")
    write(tmp_path / "utt2dur", "ben-1 2.5")
    assert [item[1:] for item in listed(path)] == [("anna", None), ("ben", 2.5), ("", None)]


@pytest.mark.parametrize("name", ["flac -c -d a.flac |", "|touch owned", "| cat", "a.wav|"])
def test_a_command_in_a_file_is_not_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "wav.scp", "a a.wav", f"b {name}")
    with pytest.raises(ConfigError, match=one_line(path, "line 2", "command", "not run")):
        listed(path)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["wav.scp"]


@pytest.mark.parametrize("name", ["-", "raw_mfcc.ark:1234", "feats.ark:7[0:100]"])
def test_what_is_no_file_is_refused(tmp_path, name):
    path = write(tmp_path / "wav.scp", f"b {name}")
    with pytest.raises(ConfigError, match=one_line(path, "line 1", "archive")):
        listed(path)


def test_a_key_without_a_path_is_refused(tmp_path):
    path = write(tmp_path / "wav.scp", "a a.wav", "b")
    with pytest.raises(ConfigError, match=one_line(path, "line 2", "path is empty")):
        listed(path)


def test_segments_of_kaldi_are_refused(tmp_path):
    path = write(tmp_path / "wav.scp", "a a.wav")
    write(tmp_path / "segments", "a-1 a 0.5 2.25")
    with pytest.raises(ConfigError, match=one_line(tmp_path / "segments", "wav.scp", "whole files")):
        listed(path)


def test_nemo(tmp_path):
    rows = [
        {"audio_filepath": "a.wav", "duration": 1.5, "text": "ä\u2028b", "speaker": 17},
        {"audio_filepath": "/data/b.wav", "duration": None, "offset": 0.0, "lang": ["en"]},
        {"audio_filepath": "c.wav", "speaker": "carl", "split": "valid"},
    ]
    for name in ("train_manifest.json", "m.JSONL"):
        path = write(tmp_path / name, *(json.dumps(row, ensure_ascii=False) for row in rows), "")
        assert listed(path) == [Item(tmp_path / "a.wav", "17", 1.5), Item(tmp_path / "/data/b.wav", "", None)]
        assert list_items(tmp_path, name, split="valid")[-1] == Item(tmp_path / "c.wav", "carl", None)


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ('{"audio_filepath": "a.wav", "offset": 1.5}', ("line 2", "offset", "cut")),
        ('{"audio_filepath": "a.wav", "duration": -1}', ("line 2", "duration of a.wav", "-1")),
        ('{"audio_filepath": "a.wav", "duration": NaN}', ("duration of a.wav", "nan")),
        ('{"audio_filepath": "a.wav", "duration": true}', ("duration of a.wav", "True")),
        ('{"audio_filepath": "a.wav", "duration": [1]}', ("duration of a.wav", "[1]")),
        ('{"audio_filepath": "a.wav", "duration": 1e999}', ("duration of a.wav", "inf")),
        ('{"audio_filepath": "a.wav", "duration": ' + "9" * 30 + "}", ("line 2", "JSON", "64 bits")),
        ('{"audio_filepath": ["a.wav", "b.wav"]}', ("line 2", "path", "no text")),
        ('{"audio_filepath": ""}', ("line 2", "path is empty")),
        ('{"audio_filepath": "a\\u0000.wav"}', ("line 2", "NUL")),
        ('{"audio_filepath": "\\ud800.wav"}', ("line 2", "path", "no file name")),
        (json.dumps({"audio_filepath": "a" * (MAX_PATH + 1)}), ("line 2", MAX_PATH)),
        ('{"text": "a.wav"}', ("line 2", "audio_filepath", "file_name")),
        ('"file_name"', ("line 2", "JSON object")),
        (json.dumps({"audio_filepath": "a" * 4000, "duration": "0"}), ("line 2", "duration of aaa")),
        (json.dumps({"audio_filepath": "a.wav", "duration": "b" * 50_000}), ("duration of a.wav", "bbb")),
        ("a.wav", ("line 2", "JSON")),
        ("[" * 60_000, ("line 2", "JSON", "nested")),
        ("x" * (MAX_LINE + 1), ("line 2", MAX_LINE)),
    ],
)
def test_wrong_lines_of_json_are_named(tmp_path, line, facts):
    path = write(tmp_path / "m.json", '{"audio_filepath": "good.wav"}', line)
    with pytest.raises(ConfigError, match=one_line(path)) as caught:
        listed(path)
    assert all(str(fact) in str(caught.value) for fact in facts)
    assert len(str(caught.value)) < 1000


CSV = ("file_name,transcription,speaker_id", '"a ""1"".wav","Hello, he said","7\n8"', "sub/b.wav,,")


def test_an_audio_folder_with_csv(tmp_path):
    write(tmp_path / "train/metadata.csv", *CSV)
    expected = [Item(tmp_path / 'train/a "1".wav', "7\n8", None), Item(tmp_path / "train/sub/b.wav", "", None)]
    assert list_items(tmp_path, "train", split="train") == expected
    assert list_items(tmp_path, "train/metadata.csv", split="train") == expected


def test_an_audio_folder_with_json_lines(tmp_path):
    rows = [{"file_name": "a.wav", "speaker": "anna", "split": "train"}, {"file_name": "b.wav", "split": "valid"}]
    write(tmp_path / "metadata.jsonl", *map(json.dumps, rows))
    assert list_items(tmp_path, ".", split="train") == [Item(tmp_path / "a.wav", "anna", None)]
    assert list_items(tmp_path, ".", split="valid") == [Item(tmp_path / "b.wav", "", None)]
    write(tmp_path / "metadata.csv", *CSV)
    with pytest.raises(ConfigError, match=one_line(tmp_path, "metadata.csv", "metadata.jsonl")):
        list_items(tmp_path, ".", split="train")


@pytest.mark.parametrize("content", [b"LJ001-0001|Printing|Printing\n", b"\xff\x00", b"", b"a" * (MAX_LINE + 1)])
def test_other_metadata_leaves_a_folder_of_audio(clips, content):
    before = list_items(clips, ".", split="train")
    (clips / "metadata.csv").write_bytes(content)
    try:
        assert list_items(clips, ".", split="train") == before
    finally:
        (clips / "metadata.csv").unlink()


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        (("path,text", "a.wav,b"), ("comma-separated", "file_name")),
        (("file_name,text", "a.wav"), ("line 2", "1 columns", "names 2")),
        (("file_name", '"a\0.wav"'), ("line 2", "NUL")),
        (("file_name", '"' + ("a" * 60_000 + "\n") * 4), ("field larger",)),
    ],
)
def test_wrong_csv_is_named(tmp_path, lines, facts):
    path = write(tmp_path / "metadata.csv", *lines)
    with pytest.raises(ConfigError, match=one_line(path, *facts)):
        listed(path)


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".json", ".jsonl", ".scp"])
@pytest.mark.parametrize(
    ("content", "fact"),
    [(b"path\n" + b"a" * 2**20, MAX_LINE), (bytes(2**20), MAX_LINE), (bytes(range(256)) * 9, "UTF-8"), (b"", "")],
)
def test_hostile_bytes_are_refused(tmp_path, suffix, content, fact):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=one_line(path)) as caught:
        listed(path)
    assert len(str(caught.value)) < 1000
    if suffix == ".tsv":
        assert str(fact) in str(caught.value)


def test_list_paths_knows_every_manifest(tmp_path):
    tsv = write(tmp_path / "a.tsv", "path", "a.wav")
    scp = write(tmp_path / "wav.scp", "b b.wav")
    nemo = write(tmp_path / "m.json", '{"audio_filepath": "c.wav"}')
    csv = write(tmp_path / "f/metadata.csv", "file_name", "d.wav")
    paths = list_paths([tsv, scp, nemo, csv, csv.parent, tmp_path / "e.wav"], split="train")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["a.wav", "b.wav", "c.wav", "f/d.wav", "e.wav"]


def test_all_splits_of_a_manifest(tmp_path):
    path = write(tmp_path / "a.tsv", "path\tsplit", "a.wav\ttrain", "b.wav\tvalid")
    assert [item.path.name for item in list_items(tmp_path, "a.tsv", split=None)] == ["a.wav", "b.wav"]
    write(path, "path\tsplit")
    with pytest.raises(ConfigError, match=rf"{path} has no row$"):
        list_items(tmp_path, "a.tsv", split=None)
    with pytest.raises(ConfigError, match=rf"no data at {tmp_path}/none.tsv$"):
        list_items(tmp_path, "none.tsv", split=None)


def test_manifests_are_corpora(tmp_path):
    pytest.importorskip("fsspec", reason="run  pip install fsspec")
    from codec.corpus.listing import list_corpus

    scp = write(tmp_path / "wav.scp", "b sub/b.wav")
    nemo = write(tmp_path / "m.json", '{"audio_filepath": "c.wav", "duration": 2}')
    found = list_corpus([str(scp), str(nemo)])
    assert [(source.name, source.url) for source in found] == [
        ("sub/b.wav", str(tmp_path / "sub/b.wav")),
        ("c.wav", str(tmp_path / "c.wav")),
    ]
    assert found[1].seconds == 2.0
