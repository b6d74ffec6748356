"""Files and folders appear complete or not at all."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from messages import one_line

import codec.files
from codec.errors import DiskFullError, WriteError
from codec.files import new_file, new_folder, new_path, replace_text


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


def test_the_name_is_taken_at_the_end_and_never_from_another_file(tmp_path, monkeypatch):
    """Whether the file system has hard links or not, and whatever the name is by then."""

    def no_links(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    for without_links in (False, True):
        folder = tmp_path / str(without_links)
        folder.mkdir()
        if without_links:
            monkeypatch.setattr(os, "link", no_links)
        monkeypatch.setattr(codec.files, "_check_free", lambda *_: None)  # the moment after the last check
        with pytest.raises(WriteError, match="already there"), new_file(folder / "a", overwrite=False) as file:
            file.write(b"ours")
            (folder / "a").write_bytes(b"theirs")
        assert (folder / "a").read_bytes() == b"theirs"
        with new_file(folder / "b", overwrite=False) as file:
            file.write(b"ours")
        assert (folder / "b").read_bytes() == b"ours"
        assert files_in(folder) == ["a", "b"]


@pytest.mark.parametrize("target", ["gone", "other"])
def test_a_symbolic_link_is_never_followed(tmp_path, target):
    """A link, dangling too, is a file that exists; the file behind it stays as it is."""
    (tmp_path / "other").write_text("theirs")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(WriteError, match="already there"), new_file(tmp_path / "link", overwrite=False):
        pytest.fail("it must not be written")
    assert (tmp_path / "link").is_symlink()
    with pytest.raises(WriteError, match="already there"), new_file(tmp_path / "late", overwrite=False):
        (tmp_path / "late").symlink_to(target)
    assert files_in(tmp_path) == ["late", "link", "other"]
    replace_text(tmp_path / "link", "ours")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "other").read_text() == "theirs"


def test_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WriteError, match="pipe"):
        replace_text(tmp_path / "pipe", "new")
    assert (tmp_path / "pipe").is_fifo()


HELD = """
import sys
from pathlib import Path
from codec.files import new_path
with new_path(Path("a"), overwrite=False) as partial:
    print(partial, flush=True)
    sys.stdin.read()
"""


def test_hidden_files_of_dead_processes_are_swept(tmp_path):
    """Nothing else is: neither the file of a process that lives, nor what is not ours."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", HELD], cwd=tmp_path, env=environment, **pipes) for _ in "ab"]
    stale, held = (process.stdout.readline().strip() for process in processes)
    processes[0].kill()
    processes[0].communicate()
    for name in (".mine.partial", "0123456789abcdef.partial", ".0123456789abcdef.partial.bak"):
        (tmp_path / name).touch()
    (tmp_path / ".00000000000000aa.partial").mkdir()
    (tmp_path / ".00000000000000bb.partial").symlink_to(".mine.partial")
    os.mkfifo(tmp_path / ".00000000000000cc.partial")
    before = files_in(tmp_path)
    assert stale in before and held in before
    replace_text(tmp_path / "new", "new")
    assert files_in(tmp_path) == sorted({*before, "new"} - {stale})
    processes[1].communicate()
    assert files_in(tmp_path) == sorted({*before, "a", "new"} - {stale, held})


def test_a_hidden_file_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    lock, swept = fcntl.flock, []

    def sweep_first(descriptor, how):
        for path in [] if swept else tmp_path.glob(".*.partial"):
            path.unlink()
            swept.append(path)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    with new_path(tmp_path / "a", overwrite=False) as partial:
        assert len(swept) == 1 and partial.exists()
        with partial.open("rb") as again, pytest.raises(BlockingIOError):
            lock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert files_in(tmp_path) == ["a"]


def test_a_full_disk_is_an_error_of_its_own(tmp_path, monkeypatch):
    with pytest.raises(DiskFullError), new_file(tmp_path / "a", overwrite=False):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    usage = shutil.disk_usage(tmp_path)
    for free in (0, 2**30):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        with pytest.raises(WriteError) as error, new_path(tmp_path / "a", overwrite=False):
            raise WriteError("libsndfile failed")
        assert (error.type is DiskFullError) == (free == 0)
        with pytest.raises(WriteError) as error, new_path(tmp_path / "a", overwrite=False):
            raise WriteError("it is already there", overwrite=True)
        assert error.type is WriteError
    assert files_in(tmp_path) == []
