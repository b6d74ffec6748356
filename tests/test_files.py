"""Files and folders appear complete or not at all."""

import errno
import os
from pathlib import Path

import pytest
from messages import one_line

from codec.errors import WriteError
from codec.files import new_file, new_folder, replace_text


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_appears_complete_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.codec"
    with pytest.raises(KeyboardInterrupt), new_file(path, overwrite=False) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert files_in(path.parent) == []
    with new_file(path, overwrite=False) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert files_in(path.parent) == ["a.codec"]


def test_a_new_file_replaces_the_old_one_at_once(tmp_path):
    """Who has the old file open goes on reading it."""
    path = tmp_path / "a.codec"
    path.write_bytes(b"old")
    with path.open("rb") as old:
        with new_file(path, overwrite=True) as file:
            file.write(b"new")
        assert old.read() == b"old"
    assert path.read_bytes() == b"new"


def test_a_file_that_is_there_or_appears_while_writing_is_kept(tmp_path):
    path = tmp_path / "a.codec"
    with pytest.raises(WriteError, match="already there"), new_file(path, overwrite=False) as file:
        file.write(b"ours")
        path.write_bytes(b"theirs")
    with pytest.raises(WriteError) as error, new_file(path, overwrite=False):
        pytest.fail("it must not be written")
    assert error.value.remedy == {"overwrite": True}
    assert path.read_bytes() == b"theirs"
    assert files_in(tmp_path) == ["a.codec"]


def test_what_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("old")
    for path, reason in ((tmp_path / "folder", "folder"), (tmp_path / "text" / "a", "Not a directory")):
        with pytest.raises(WriteError, match=one_line(path, reason)):
            replace_text(path, "new")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        replace_text(tmp_path / "text", "new")
    assert (tmp_path / "text").read_text() == "old"
    assert files_in(tmp_path) == ["folder", "text"]


def test_a_new_folder_appears_complete_or_not_at_all(tmp_path):
    folder = tmp_path / "runs" / "a"
    (folder.parent / ".a.partial").mkdir(parents=True)
    (folder.parent / ".a.partial" / "old.txt").write_text("of a process that was killed")
    with pytest.raises(KeyboardInterrupt), new_folder(folder) as partial:
        (partial / "half.txt").write_text("half")
        raise KeyboardInterrupt
    assert files_in(folder.parent) == []
    with new_folder(folder) as partial:
        (partial / "a.txt").write_text("a")
        assert not folder.exists()
    assert files_in(folder.parent) == ["a"]
    assert files_in(folder) == ["a.txt"]


def test_a_folder_that_is_there_gets_the_files(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "mine.txt").write_text("mine")
    identity = tmp_path.stat().st_ino
    with new_folder(tmp_path) as partial:
        (partial / "a.txt").write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert files_in(tmp_path) == ["a.txt", "mine.txt"]
    assert tmp_path.stat().st_ino == identity


def test_files_reach_the_disk_before_their_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace, rename = os.fsync, Path.replace, Path.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(Path, "replace", lambda path, target: (calls.append("name"), replace(path, target)))
    monkeypatch.setattr(Path, "rename", lambda path, target: (calls.append("name"), rename(path, target)))
    replace_text(tmp_path / "a.txt", "a")
    assert calls == ["fsync", "name"]
    with new_folder(tmp_path / "folder") as partial:
        for name in "ab":
            (partial / name).write_text(name)
    assert calls[2:] == ["fsync", "fsync", "name"]
