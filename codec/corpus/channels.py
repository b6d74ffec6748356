"""The channels of all recordings of a corpus by number, read from shards at random positions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec.bitstream import Header
from codec.corpus.shards import SCHEMA, named_errors, parquet, read_model, table_rows
from codec.errors import ConfigError
from codec.progress import progress_bar


class Channel(NamedTuple):
    """The codes of one channel."""

    path: str
    """Name of the recording within its corpus."""
    channel: int
    """Number of the channel in the recording, from 0."""
    codes: NDArray[Any]
    """uint16 `[K, F]`."""


class Channels:
    """Channels by number: those of the first recording of the first shard, then those of the next recording.

    The memory holds the number of the first channel of each row group, and the row group that was read last: reading in
    order is fastest, and another position costs the decoding of its row group. Files are mapped into the memory, not
    read as a whole. A copy in another process (pickled or forked) opens the shards for itself.

    Args:
        paths: The shards, at least one.

    Raises:
        BitstreamError: A file can't be read, is no shard or of a later version.
        ConfigError: The shards are of several models, or have other numbers of levels.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.header = _one_model(self.paths)
        counts = []
        for path in progress_bar(self.paths, desc="counting recordings", unit="shard", delay=2, leave=False):
            counts.append(_group_sizes(path))
        self._first = np.cumsum([0, *(size for sizes in counts for size in sizes)])
        numbered = zip(self.paths, counts, strict=True)
        self._groups = [(path, group) for path, sizes in numbered for group in range(len(sizes))]
        self._file: tuple[Path, Any] | None = None
        self._table: tuple[int, Any, NDArray[Any]] | None = None

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, number: int) -> Channel:
        """Read a channel, and check its checksum.

        Raises:
            IndexError: There is no such number.
            BitstreamError: The shard is damaged or gone.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"no channel {number}: the shards hold {len(self)}")
        group = int(np.searchsorted(self._first, number, side="right")) - 1
        path, _ = self._groups[group]
        with named_errors(path):
            table, ends = self._read(group)
            within = number - int(self._first[group])
            row = int(np.searchsorted(ends, within, side="right"))
            name, bitstream = next(table_rows(table.slice(row, 1), self.header))
            channel = within - int(ends[row]) + bitstream.header.num_channels
            return Channel(name, channel, bitstream.codes[channel])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_table": None}

    def _read(self, group: int) -> tuple[Any, NDArray[Any]]:
        """A row group, and the number of channels up to the end of each of its rows."""
        if self._table is None or self._table[0] != group:
            path, number = self._groups[group]
            if self._file is None or self._file[0] != path:
                self._file = path, parquet.ParquetFile(path, memory_map=True)
            # One thread: the workers of a loader are the parallel readers, and forked processes should have no threads.
            table = self._file[1].read_row_group(number, columns=SCHEMA.names, use_threads=False)
            self._table = group, table, np.cumsum(table["channels"].to_numpy())
        return self._table[1], self._table[2]


def _group_sizes(path: Path) -> list[int]:
    """Number of channels in each row group of a shard; its codes are not read."""
    with named_errors(path), parquet.ParquetFile(path, memory_map=True) as file:
        groups = range(file.num_row_groups)
        tables = [file.read_row_group(group, columns=["channels"], use_threads=False) for group in groups]
        return [int(table["channels"].to_numpy().sum()) for table in tables]


def _one_model(paths: Sequence[Path]) -> Header:
    """The header that all shards share."""
    headers = {read_model(path): path for path in reversed(paths)}
    if len(headers) > 1:
        (_, first), (_, second), *_ = headers.items()
        raise ConfigError(f"{second} and {first} hold codes of different models or levels: read them one by one")
    return next(iter(headers))
