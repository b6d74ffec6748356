"""Files and folders that appear complete or not at all, whatever interrupts their writing.

Each is written under a hidden name in the same place, brought to the disk and then renamed.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from codec.errors import WriteError


@contextlib.contextmanager
def new_path(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield the name of an empty hidden file, which becomes `path` at the end and is removed after an error.

    The name is random, because two processes may write the same file. Parent folders are created.

    Raises:
        WriteError: `path` is a folder, it exists and `overwrite` is False, or it can't be written (a full disk, say).
    """
    _check_free(path, overwrite)
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    with _write_errors(path):
        try:
            if not path.parent.exists():  # mkdir would say "File exists" of a file, touch says "Not a directory"
                path.parent.mkdir(parents=True, exist_ok=True)
            partial.touch(exist_ok=False)
            yield partial
            _sync(partial)
            _check_free(path, overwrite)
            partial.replace(path)
        finally:
            with contextlib.suppress(OSError):  # nothing to remove, or no such folder
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
    with _write_errors(folder):
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


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(f"can't write {path}: {error.strerror or error}") from error


def _check_free(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise WriteError(f"{path} is a folder, but a file of that name is to be written")
    if path.exists() and not overwrite:
        raise WriteError(f"{path} is already there", overwrite=True)


def _sync(path: Path) -> None:
    """Wait until the disk holds a file, so that no crash leaves its name without its contents."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
