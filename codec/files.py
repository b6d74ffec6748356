"""Files and folders that appear complete or not at all, whatever interrupts their writing.

Each is written under a hidden name in the same place, brought to the disk and then given its name. The hidden file is
locked while it is written: one whose lock can be taken was left by a process that died.
"""

import contextlib
import errno
import functools
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from codec.errors import DiskFullError, WriteError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing is swept
    fcntl = None  # type: ignore[assignment]

_PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_BYTES = 2**16
"""Free bytes (at most) of a disk that is taken for full after a write failed."""


@contextlib.contextmanager
def new_path(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield the name of an empty hidden file, which becomes `path` at the end and is removed after an error.

    The name is random, because two processes may write the same file. Parent folders are created. A file that appears
    as `path` meanwhile is kept unless `overwrite` is True. Symbolic links are never followed: a link counts as a file
    that exists, and `overwrite` replaces the link itself.

    Raises:
        WriteError: `path` is a folder or a device, it exists and `overwrite` is False, or it can't be written.
        DiskFullError: The disk is full.
    """
    _check_free(path, overwrite)
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    with write_errors(path):
        if not path.parent.exists():  # mkdir would say "File exists" of a file, opening says "Not a directory"
            path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent.resolve())
        with _locked(partial):
            try:
                yield partial
                _sync(partial)
                _check_free(path, overwrite)
                partial.replace(path) if overwrite else _claim(partial, path)
            except WriteError as error:
                # libsndfile does not say why it failed
                if not error.remedy and shutil.disk_usage(partial.parent).free <= _FULL_BYTES:
                    raise DiskFullError(f"can't write {path}: the disk is full") from error
                raise
            finally:
                with contextlib.suppress(OSError):  # it has its name
                    partial.unlink()


@contextlib.contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a file for writing in binary that appears under its name at the end, as `new_path`."""
    with new_path(path, overwrite=overwrite) as partial, partial.open("wb") as file:
        yield file


def replace_text(path: Path, text: str) -> None:
    """Write a text file in place of an older one, as `new_path`."""
    with new_path(path, overwrite=True) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty hidden folder, which becomes `folder` at the end and is removed after an error.

    A folder that exists stays, since it may be a mount point or somebody's working directory: the files move into it
    one by one. The hidden name is fixed: the next attempt removes what a killed process left.

    Raises:
        WriteError: It can't be written.
    """
    folder = folder.resolve()
    is_new = not folder.exists()
    partial = (folder.parent if is_new else folder) / f".{folder.name}.partial"
    with write_errors(folder):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            paths = sorted(partial.iterdir())
            for path in paths:
                _sync(path)
            if is_new:
                partial.rename(folder)
            else:
                for path in paths:
                    path.replace(folder / path.name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@functools.cache
def sweep(folder: Path) -> None:
    """Remove hidden files that dead processes left in a folder, once a process: `_PARTIAL` names that nobody locks."""
    if fcntl is None:
        return
    paths: list[Path] = []
    with contextlib.suppress(OSError):  # a folder that can be written, but not listed
        paths += [path for path in folder.iterdir() if _PARTIAL.fullmatch(path.name) and path.is_file()]
    for path in paths:
        with contextlib.suppress(OSError):  # locked, gone, or not ours to remove
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def _locked(partial: Path) -> Iterator[None]:
    """Create a file and lock it until the context ends or the process dies."""
    if fcntl is None:
        partial.touch(exist_ok=False)
        yield
        return
    while True:
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if partial.exists():  # else another process swept it before it was locked
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def _claim(partial: Path, path: Path) -> None:
    """Give a file its name unless that is taken, in one step.

    Raises:
        WriteError: The name is taken.
    """
    try:
        try:
            os.link(partial, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            partial.replace(path)
    except FileExistsError as error:
        raise WriteError(f"{path} is already there", overwrite=True) from error


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise errors of the file system as WriteError or DiskFullError, with the name of what was to be written."""
    try:
        yield
    except OSError as error:
        kind = DiskFullError if error.errno in _FULL else WriteError
        raise kind(f"can't write {path}: {error.strerror or error}") from error


def _check_free(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise WriteError(f"{path} is a folder, but a file of that name is to be written")
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise WriteError(f"{path} is already there", overwrite=True)
    if not path.is_symlink() and not path.is_file():
        raise WriteError(f"{path} is a device or a pipe, and is not replaced: name a file")


def _sync(path: Path) -> None:
    """Wait until the disk holds a file, so that no crash leaves its name without its contents."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
