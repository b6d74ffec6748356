"""Files and folders that appear complete or not at all, whatever interrupts their writing."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from codec.errors import BitstreamError, ModelError


@contextlib.contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a file that appears under its name complete or not at all.

    Raises:
        BitstreamError: It exists and `overwrite` is False, or can't be written (a full disk, say).
    """
    if path.exists() and not overwrite:
        raise BitstreamError(f"{path} is already there; choose another name or give --overwrite")
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise BitstreamError(f"can't write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # nothing to remove, or no such folder
            partial.unlink()


@contextlib.contextmanager
def new_folder(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` at the end; one that is there stays, and gets its files `names`.

    Raises:
        ModelError: It can't be written; nothing has changed then.
    """
    folder = folder.resolve()
    is_new = not folder.exists()
    partial = (folder.parent if is_new else folder) / f".{secrets.token_hex(8)}.partial"
    try:
        partial.mkdir(parents=True)
        yield partial
        if is_new:
            partial.rename(folder)
        else:
            for name in names:
                (partial / name).replace(folder / name)
    except OSError as error:
        raise ModelError(f"can't write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Have the disk hold every file of a folder before anything names it."""
    for path in folder.iterdir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())


def replace_text(path: Path, text: str) -> None:
    """Write a text in place of the one that is there, which stays until the disk holds the new one."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
