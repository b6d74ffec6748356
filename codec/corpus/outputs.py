"""Where the codes of a corpus go: shards, or a file for each recording. Each file appears complete or not at all."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from codec.bitstream import Bitstream, Header, read_codes, write_codes
from codec.corpus import shards, webdataset
from codec.corpus.shards import Row, Table, pa, table_rows
from codec.errors import BitstreamError, CodecError, ConfigError
from codec.files import new_file
from codec.inference.compression import entropy_coder, read_bitstream
from codec.model.audio_codec import AudioCodec

COMMIT_S = 300.0
"""A shard is written at the latest so long after the one before it (s): a process that dies loses as much."""


class ShardFormat(NamedTuple):
    """How a shard is written and read."""

    suffix: str
    write: Callable[[Path, Table, Header], None]
    read: Callable[[Path, Collection[str] | None], Iterator[Row]]
    read_paths: Callable[[Path], list[str]]
    read_model: Callable[[Path], Header]


SHARD_FORMATS = {
    "parquet": ShardFormat(".parquet", shards.write_shard, shards.read_shard, shards.read_paths, shards.read_model),
    "wds": ShardFormat(
        ".tar", webdataset.write_tar, webdataset.read_tar, webdataset.read_tar_paths, webdataset.read_tar_model
    ),
}


def shard_format(path: Path) -> ShardFormat:
    """The format of a shard, by its suffix.

    Raises:
        ConfigError: It has another.
    """
    for form in SHARD_FORMATS.values():
        if form.suffix == path.suffix:
            return form
    raise ConfigError(f"{path} is no shard: its suffix must be .parquet or .tar")


class Output(Protocol):
    """Takes the codes of recordings, in any order."""

    def names(self) -> set[str]:
        """Names of the recordings that are there already."""

    def rows(self) -> Iterator[Row | CodecError]:
        """All that is there; an error for each file that is damaged."""

    def add(self, table: Table) -> None:
        """Take the rows of a table with the columns of a shard; they may be written later."""

    def close(self) -> None:
        """Write what has been taken."""


class Shards:
    """Numbered shards in a folder.

    Args:
        folder: It exists, and no other process writes to it.
        form: Parquet or tar.
        model: Describes the codes of all rows.
        seconds: Audio of a shard (s), at least, unless it is written earlier because of `COMMIT_S`.
    """

    def __init__(self, folder: Path, form: ShardFormat, model: Header, seconds: float) -> None:
        self._folder, self._form, self._model, self._limit = folder, form, model, seconds
        self._tables: list[Table] = []
        self._seconds = 0.0
        self._written_at = time.monotonic()
        paths = shards.shard_paths(folder, form.suffix)
        self._number = 1 + int(paths[-1].stem.rpartition("-")[2]) if paths else 0

    def names(self) -> set[str]:
        """Names of the recordings of all complete shards."""
        paths = shards.shard_paths(self._folder, self._form.suffix)
        return {name for path in paths for name in self._form.read_paths(path)}

    def rows(self) -> Iterator[Row | CodecError]:
        """All rows of the shards; one error for each shard that is damaged, or of another model."""
        for path in shards.shard_paths(self._folder, self._form.suffix):
            try:
                if shards.describe(self._form.read_model(path)) != shards.describe(self._model):
                    raise BitstreamError(f"{path} is of another model")
                yield from self._form.read(path, None)
            except CodecError as error:
                yield error

    def add(self, table: Table) -> None:
        """Take rows, and write a shard once there are enough."""
        if table.num_rows == 0:
            return
        self._tables.append(table)
        self._seconds += audio_seconds(table)
        if self._seconds >= self._limit or time.monotonic() - self._written_at >= COMMIT_S:
            self.close()

    def close(self) -> None:
        """Write the rows taken so far as a shard."""
        if self._tables:
            path = self._folder / f"tokens-{self._number:05d}{self._form.suffix}"
            self._form.write(path, pa.concat_tables(self._tables), self._model)
            self._tables, self._seconds, self._number = [], 0.0, self._number + 1
        self._written_at = time.monotonic()


class CodeFiles:
    """A file for each recording, below a folder: a/talk.wav -> a/talk.codec.

    Args:
        folder: It exists.
        suffix: Of the format: .codec, .npy, .npz or .jsonl.
        codec: The model, which has the tables for entropy coding.
        model: Describes its codes.
        names: Of all recordings of the corpus. Where two would become one file, both keep their suffix in its name.

    Raises:
        ConfigError: A name leads out of the folder.
    """

    def __init__(self, folder: Path, suffix: str, codec: AudioCodec, model: Header, names: Sequence[str]) -> None:
        self._codec, self._model = codec, model
        self.paths = file_paths(folder, names, suffix)

    def names(self) -> set[str]:
        """Names of the recordings whose file is there."""
        return {name for name, path in self.paths.items() if path.exists()}

    def rows(self) -> Iterator[Row | CodecError]:
        """The codes of all files; an error for each that is damaged, or of another model."""
        for name in self.names():
            try:
                yield Row(name, self._read(self.paths[name]))
            except CodecError as error:
                yield error

    def add(self, table: Table) -> None:
        """Write the file of each row."""
        for name, bitstream in table_rows(table, self._model):
            self._write(self.paths[name], bitstream)

    def close(self) -> None:
        """Nothing is left to write."""

    def _read(self, path: Path) -> Bitstream:
        bitstream = read_bitstream(path, self._codec) if path.suffix == ".codec" else read_codes(path, self._model)
        if bitstream.header.num_quantizers != self._model.num_quantizers:
            raise BitstreamError(f"{path} has {bitstream.header.num_quantizers} levels")
        return bitstream

    def _write(self, path: Path, bitstream: Bitstream) -> None:
        if path.suffix != ".codec":
            write_codes(path, bitstream)
            return
        header = replace(bitstream.header, payload_kind=self._model.payload_kind)
        data = Bitstream(header, bitstream.codes, coder=entropy_coder(self._codec)).to_bytes()
        with new_file(path, overwrite=False) as file:
            file.write(data)


def file_paths(folder: Path, names: Sequence[str], suffix: str) -> dict[str, Path]:
    """A file below a folder for each recording: its name with another suffix, or one more where two would be equal.

    Raises:
        ConfigError: A name leads out of the folder.
    """
    stems = {name: PurePosixPath(name).with_suffix("") for name in names}
    uses = Counter(stems.values())
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            raise ConfigError(f"the name {name!r} leads out of {folder}: write shards instead (parquet or wds)")
    return {
        name: folder / stem.with_name(f"{stem.name if uses[stem] == 1 else PurePosixPath(name).name}{suffix}")
        for name, stem in stems.items()
    }


def audio_seconds(table: Table) -> float:
    """Audio of the rows of a shard (s)."""
    samples, rates = table["samples"].to_pylist(), table["sample_rate"].to_pylist()
    return float(sum(count / rate for count, rate in zip(samples, rates, strict=True)))
