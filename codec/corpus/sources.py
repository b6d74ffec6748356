"""The recordings of a corpus: where each is, and how a worker gets its audio.

A recording is a file, a member of a tar archive (WebDataset), or a cell of a Parquet file (Hugging Face's `audio`). It
lies on a local disk or wherever fsspec reads: s3://, gs://, hf://, memory:// and others.
"""

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from codec.errors import AudioError, one_line, require


class Source(NamedTuple):
    """Place of a recording."""

    name: str
    """Unique in its corpus."""
    url: str
    """Local path, or URL for fsspec, of the file that holds it."""
    seconds: float
    """Expected duration: a guess from its bytes, unless a manifest says it."""
    num_bytes: int = 0
    """Bytes of the recording in a tar archive."""
    start: int = -1
    """First byte in a tar archive; -1 elsewhere."""
    row: int = -1
    """Row of a Parquet file; -1 elsewhere."""

    @property
    def place(self) -> str:
        """What an error says about where it is."""
        return self.url if self.start < 0 and self.row < 0 else f"{self.name} in {self.url}"


class OutageError(Exception):
    """A source fails for all recordings: the network, a lost mount or a full disk, not a recording, is at fault."""


@contextlib.contextmanager
def audio_file(source: Source) -> Iterator[Path]:
    """Yield a local file with the audio of a recording; what is not local is copied for as long as the context lasts.

    Raises:
        AudioError: The recording is missing, or not as long as its archive says.
        OutageError: It can't be read for a reason that is not its own.
    """
    if source.start < 0 and source.row < 0 and "://" not in source.url:
        yield Path(source.url)
        return
    data = _read(source)
    # The folder, not the file, is temporary: other libraries open the file by its name.
    with tempfile.TemporaryDirectory(prefix="codec-") as folder:
        path = Path(folder, f"audio{Path(source.name).suffix}")
        try:
            path.write_bytes(data)
        except OSError as error:
            raise OutageError(f"can't write {path}: {error.strerror}") from error
        yield path


def _read(source: Source) -> bytes:
    try:
        if source.row >= 0:
            return _read_cell(source)
        with fsspec.open(source.url, "rb") as file:
            if source.start < 0:
                return bytes(file.read())
            file.seek(source.start)
            data = bytes(file.read(source.num_bytes))
    except (FileNotFoundError, PermissionError) as error:
        raise AudioError(f"can't read {source.place}: {error.strerror or one_line(error)}") from error
    except AudioError:
        raise
    except Exception as error:  # every file system of fsspec has errors of its own
        raise OutageError(f"can't read {source.place}: {one_line(error)}") from error
    if len(data) < source.num_bytes:
        raise AudioError(f"{source.place} is truncated ({len(data)} of {source.num_bytes} bytes); get it again")
    return data


def _read_cell(source: Source) -> bytes:
    """The bytes of a cell; damage that pyarrow finds has no number of the operating system, other failures have one."""
    try:
        cell = _find_cell(source)
    except (ValueError, OSError) as error:
        if getattr(error, "errno", None) is not None or ("://" in source.url and not isinstance(error, ValueError)):
            raise
        raise AudioError(f"{source.place} is damaged ({one_line(error)}); get it again") from error
    data = cell["bytes"] if isinstance(cell, dict) else cell
    if not data:
        raise AudioError(f"{source.place} is empty; leave it out, or get it again")
    return bytes(data)


def _find_cell(source: Source) -> Any:
    file = open_parquet(source.url)
    group, row = 0, source.row
    while row >= (num_rows := file.metadata.row_group(group).num_rows):
        group, row = group + 1, row - num_rows
    return _read_group(source.url, group)[row].as_py()


@functools.lru_cache(maxsize=2)  # the recordings of a batch mostly come from one file
def open_parquet(url: str) -> Any:
    """Open a Parquet file, local or not."""
    file = fsspec.open(url, "rb").open() if "://" in url else url
    return require("pyarrow.parquet", "cluster").ParquetFile(file)


@functools.lru_cache(maxsize=1)  # and from one group of its rows
def _read_group(url: str, group: int) -> Any:
    return open_parquet(url).read_row_group(group, ["audio"])["audio"]
