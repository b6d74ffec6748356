"""Manifests and folders of audio: the files that they list, and errors of one line."""

import csv

import pytest
from messages import one_line

from codec.audio.manifest import Item, list_items
from codec.errors import AudioError, ConfigError


def write_manifest(folder, rows, name="MANIFEST.tsv"):
    """Write rows of cells, the first one the header."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_manifest_columns_select_rows(tmp_path):
    write_manifest(
        tmp_path / "data",
        [
            ("kind", "path", "split", "speaker", "seconds"),
            ("speech", "sub/a.wav", "train", "anna", "1.5"),
            ("music", "b.wav", "train", "", ""),
            ("speech", "c.wav", "valid", "carl", "2"),
        ],
    )
    root = tmp_path / "data"
    train = list_items(tmp_path, "data/MANIFEST.tsv", split="train")
    assert train == [Item(root / "sub/a.wav", "anna", 1.5), Item(root / "b.wav", "", None)]
    assert list_items(root, "MANIFEST.tsv", split="valid") == [Item(root / "c.wav", "carl", 2.0)]
    assert list_items(root, "MANIFEST.tsv", split="train", kinds=["music"]) == train[1:]
    assert list_items(root, "MANIFEST.tsv", split="train", kinds=["music", "speech"]) == train


def test_a_manifest_needs_only_paths(tmp_path):
    write_manifest(tmp_path, [("path",), ("a.wav",)])
    for split in ("train", "valid"):
        assert list_items(tmp_path, "MANIFEST.tsv", split=split) == [Item(tmp_path / "a.wav", "", None)]


def test_a_folder_gives_every_audio_file_below_it(clips, tmp_path):
    assert [item.path for item in list_items(clips, ".", split="train")] == sorted(clips.iterdir())
    with pytest.raises(AudioError, match=one_line(tmp_path)):
        list_items(tmp_path, ".", split="train")


@pytest.mark.parametrize(
    ("rows", "facts"),
    [
        ([("file", "split"), ("a.wav", "train")], ("manifest", "path")),
        ([("split", "path"), ("train",)], ("row", "path")),
        ([("path", "seconds"), ("a.wav", "long")], ("seconds of a.wav", "positive", "'long'")),
        ([("path", "seconds"), ("a.wav", "0")], ("seconds of a.wav", "positive", "'0'")),
        ([("path", "seconds"), ("a.wav", "-2")], ("'-2'",)),
        ([("path", "seconds"), ("a.wav", "nan")], ("'nan'",)),
        ([("path", "seconds"), ("a.wav", "inf")], ("'inf'",)),
        ([("path", "split"), ("a.wav", "valid")], ("split train",)),
        ([("path", "split"), ("a.wav", "\x00")], ("split train",)),
        ([("path",)], ("split train",)),
        ([], ("split train",)),
    ],
)
def test_a_wrong_manifest_is_explained(tmp_path, rows, facts):
    write_manifest(tmp_path, rows)
    with pytest.raises(ConfigError, match=one_line(tmp_path / "MANIFEST.tsv", *facts)):
        list_items(tmp_path, "MANIFEST.tsv", split="train")


def test_a_manifest_without_a_row_of_the_kinds_asked_for_is_refused(tmp_path):
    write_manifest(tmp_path, [("path", "kind"), ("a.wav", "noise")])
    with pytest.raises(ConfigError, match=one_line("MANIFEST.tsv", "split train", "kind speech or music")):
        list_items(tmp_path, "MANIFEST.tsv", split="train", kinds=["speech", "music"])


def test_other_files_are_no_manifest(clips, tmp_path):
    with pytest.raises(ConfigError, match=one_line(clips / "clip_0.wav", "manifest")):
        list_items(clips, "clip_0.wav", split="train")
    (tmp_path / "huge.tsv").write_text("path\n" + "x" * (csv.field_size_limit() + 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=one_line(tmp_path / "huge.tsv", "manifest")):
        list_items(tmp_path, "huge.tsv", split="train")


def test_missing_data_says_what_to_give(tmp_path):
    with pytest.raises(ConfigError, match=one_line(tmp_path / "nowhere", "data.root", "data.valid")):
        list_items(tmp_path, "nowhere", split="valid")
