"""Manifests and folders of audio: the files that they list, and errors of one line."""

import csv

import pytest
from tiny_runs import write_clips

from codec.audio.manifest import Item, list_items
from codec.errors import AudioError, ConfigError


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


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
    with pytest.raises(AudioError, match=str(tmp_path)):
        list_items(tmp_path, ".", split="train")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("file", "split"), ("a.wav", "train")], "is no manifest: .* one of them path"),
        ([("split", "path"), ("train",)], "every row must have a path"),
        ([("path", "seconds"), ("a.wav", "long")], "seconds of a.wav must be a positive number, not 'long'"),
        ([("path", "seconds"), ("a.wav", "0")], "seconds of a.wav must be a positive number, not '0'"),
        ([("path", "seconds"), ("a.wav", "-2")], "not '-2'"),
        ([("path", "seconds"), ("a.wav", "nan")], "not 'nan'"),
        ([("path", "seconds"), ("a.wav", "inf")], "not 'inf'"),
        ([("path", "split"), ("a.wav", "valid")], "no row with split train$"),
        ([("path", "split"), ("a.wav", "\x00")], "no row with split train$"),
        ([("path", "kind"), ("a.wav", "noise")], None),
        ([("path",)], "no row with split train"),
        ([], "no row with split train"),
    ],
)
def test_a_wrong_manifest_is_explained(tmp_path, rows, message):
    write_manifest(tmp_path, rows)
    if message is None:
        with pytest.raises(ConfigError, match="no row with split train and kind speech or music") as error:
            list_items(tmp_path, "MANIFEST.tsv", split="train", kinds=["speech", "music"])
    else:
        with pytest.raises(ConfigError, match=message) as error:
            list_items(tmp_path, "MANIFEST.tsv", split="train")
    assert one_line(error).startswith(str(tmp_path / "MANIFEST.tsv"))


def test_other_files_are_no_manifest(clips, tmp_path):
    with pytest.raises(ConfigError, match="is no manifest") as error:
        list_items(clips, "clip_0.wav", split="train")
    one_line(error)
    (tmp_path / "huge.tsv").write_text("path\n" + "x" * (csv.field_size_limit() + 1), encoding="utf-8")
    with pytest.raises(ConfigError, match="is no manifest") as error:
        list_items(tmp_path, "huge.tsv", split="train")
    one_line(error)


def test_missing_data_says_what_to_give(tmp_path):
    with pytest.raises(ConfigError, match=r"no data at .*nowhere.*data\.root.*data\.valid") as error:
        list_items(tmp_path, "nowhere", split="valid")
    one_line(error)
