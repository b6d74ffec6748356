"""Manifests and folders of audio: the files that they list, and errors of one line."""

import pytest
from messages import one_line

from codec.audio.manifest import Item, list_items, list_paths, spread
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
        ([("path", "path"), ("a.wav", "b.wav")], ("manifest", "path")),
        ([("split", "path"), ("train", "")], ("line 2", "path")),
        ([("path", "split"), ("a.wav", "train"), (), ("b.wav",)], ("line 4", "1 columns", "names 2")),
        ([("path", "split"), ("a.wav", "train", "x")], ("line 2", "3 columns", "names 2")),
        ([("path",), ("a\0.wav",)], ("line 2", "NUL")),
        ([("path", "seconds"), ("a.wav", "long")], ("seconds of a.wav", "positive", "'long'")),
        ([("path", "seconds"), ("a.wav", "0")], ("seconds of a.wav", "positive", "'0'")),
        ([("path", "seconds"), ("a.wav", "-2")], ("'-2'",)),
        ([("path", "seconds"), ("a.wav", "nan")], ("'nan'",)),
        ([("path", "seconds"), ("a.wav", "inf")], ("'inf'",)),
        ([("path", "split"), ("a.wav", "valid")], ("split train",)),
        ([("path", "split"), ("a.wav", "\x00")], ("split train",)),
        ([("path",)], ("split train",)),
        ([], ("manifest", "path")),
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
    (tmp_path / "sheet.tsv").write_text("path\na.wav\n", encoding="utf-16")  # "Unicode text" of Excel
    with pytest.raises(ConfigError, match=one_line(tmp_path / "sheet.tsv", "manifest", "UTF-8")):
        list_items(tmp_path, "sheet.tsv", split="train")


def test_a_row_is_a_line_whatever_it_quotes(tmp_path):
    names = ['say "cheese.wav', "b.wav", '"', '"c.wav"', "d\u2028\x0b.wav"]
    write_manifest(tmp_path, [("text", "path"), *(('"Hello, he said', name) for name in names)])
    assert [item.path.name for item in list_items(tmp_path, "MANIFEST.tsv", split="train")] == names


@pytest.mark.parametrize(("start", "end"), [("\ufeff", "\n"), ("", "\r\n"), ("\ufeff", "\r\n")])
def test_manifests_of_windows_are_read(tmp_path, start, end):
    rows = ["path\tspeaker", "a.wav\tanna", "b.wav\t", "", ""]
    (tmp_path / "MANIFEST.tsv").write_bytes((start + end.join(rows)).encode())
    items = [Item(tmp_path / "a.wav", "anna", None), Item(tmp_path / "b.wav", "", None)]
    assert list_items(tmp_path, "MANIFEST.tsv", split="train") == items


def test_missing_data_says_what_to_give(tmp_path):
    with pytest.raises(ConfigError, match=one_line(tmp_path / "nowhere", "data.root", "data.valid")):
        list_items(tmp_path, "nowhere", split="valid")


def test_files_folders_and_manifests_are_listed_once_each(tmp_path):
    rows = [("path", "split", "kind"), ("x.wav", "valid", "speech"), ("y.wav", "valid", "music")]
    write_manifest(tmp_path / "data", [*rows, ("z.wav", "train", "speech")])
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.wav").touch()
    given = [tmp_path / "one.wav", folder, tmp_path / "data" / "MANIFEST.tsv", folder / "a.wav"]
    chosen = [tmp_path / "one.wav", folder / "a.wav", tmp_path / "data" / "x.wav"]
    assert list_paths(given, split="valid", kinds=["speech"]) == chosen
    assert list_paths(given, split="valid") == [*chosen, tmp_path / "data" / "y.wav"]


@pytest.mark.parametrize(
    ("number", "chosen"), [(0, ""), (1, "a"), (2, "ac"), (3, "abd"), (4, "abcd"), (5, "abcde"), (9, "abcde")]
)
def test_items_are_spread_evenly(number, chosen):
    assert "".join(spread("abcde", number)) == chosen
    assert spread("", number) == []
