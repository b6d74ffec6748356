"""Shards of codes in Parquet, one row a recording: what a tokenised corpus is, and what language models are trained on.

    path         string              name of the recording within its corpus
    codes        list<list<uint16>>  [C * K, F]: the K levels of channel 0, then those of channel 1 ...
    channels     int32               C
    levels       int32               K
    frames       int64               F
    samples      int64               exact samples of a channel, at the original rate
    sample_rate  int32               original rate (Hz)
    crc          uint32              CRC-32 of the codes as little-endian uint16 [C, K, F] in C order
    model        string              identity of the model, 64 hexadecimal digits

The key `codec` of the file's metadata holds a JSON object that describes the model, see `describe`.
"""

import contextlib
import json
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec.bitstream import Bitstream, Header
from codec.errors import BitstreamError, CodecError, ConfigError, one_line, require
from codec.files import new_file

pa = require("pyarrow", "cluster")
parquet = require("pyarrow.parquet", "cluster")

Table = Any
"""A `pyarrow.Table`; pyarrow has no types."""

VERSION = 1
MAX_CODEBOOK_SIZE = 2**16
CODES_PER_GROUP = 2**17
"""Codes (on average) that are decoded at once, in 5 ms: the cost of one recording at a random position. In groups eight
times as large, a code takes 10.1 bits instead of 10.4."""
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("codes", pa.list_(pa.list_(pa.uint16()))),
        ("channels", pa.int32()),
        ("levels", pa.int32()),
        ("frames", pa.int64()),
        ("samples", pa.int64()),
        ("sample_rate", pa.int32()),
        ("crc", pa.uint32()),
        ("model", pa.string()),
    ]
)


class Row(NamedTuple):
    """A recording of a shard."""

    path: str
    """Its name within the corpus."""
    bitstream: Bitstream
    """Its codes `[C, K, F]` and their header."""


def shard_paths(folder: Path, suffix: str = ".parquet") -> list[Path]:
    """The shards of a folder in order, `tokens-00000.parquet` first; empty if there is none."""
    return sorted(path for path in folder.glob(f"tokens-*{suffix}") if re.fullmatch(r"tokens-\d{5,}", path.stem))


def codes_crc(codes: NDArray[Any]) -> int:
    """CRC-32 of codes `[C, K, F]` below 2^16, as little-endian uint16."""
    return zlib.crc32(np.ascontiguousarray(codes, dtype="<u2").data)


def to_table(rows: Sequence[Row]) -> Table:
    """Put recordings into a table with the columns of a shard.

    Raises:
        BitstreamError: Frames are lost, or the codebook has more than 65,536 entries.
    """
    for _, bitstream in rows:
        bitstream.require_intact()
        if bitstream.header.codebook_size > MAX_CODEBOOK_SIZE:
            raise BitstreamError(
                f"a codebook of {bitstream.header.codebook_size} entries does not fit shards of uint16"
            )
    codes = [bitstream.codes.astype(np.uint16) for _, bitstream in rows]
    headers = [bitstream.header for _, bitstream in rows]
    num_lists = [len(array) * array.shape[1] for array in codes]
    lengths = np.repeat([array.shape[2] for array in codes], num_lists)
    values = np.concatenate([array.ravel() for array in codes]) if codes else np.zeros(0, np.uint16)
    lists = pa.ListArray.from_arrays(_offsets(lengths), pa.array(values))
    columns = [
        pa.array([path for path, _ in rows], pa.string()),
        pa.ListArray.from_arrays(_offsets(num_lists), lists),
        pa.array([header.num_channels for header in headers], pa.int32()),
        pa.array([header.num_quantizers for header in headers], pa.int32()),
        pa.array([header.num_frames for header in headers], pa.int64()),
        pa.array([header.num_samples for header in headers], pa.int64()),
        pa.array([header.sample_rate for header in headers], pa.int32()),
        pa.array(map(codes_crc, codes), pa.uint32()),
        pa.array([header.model_id.hex() for header in headers], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def write_shard(path: Path, table: Table, model: Header) -> None:
    """Write a shard, which appears complete or not at all.

    Args:
        path: It does not exist yet.
        table: See `to_table`.
        model: Describes the codes of all rows, as `describe_codes` of `codec.inference.compression` does.

    Raises:
        WriteError: The file exists, or can't be written.
        DiskFullError: The disk is full.
    """
    table = table.replace_schema_metadata({"codec": json.dumps(describe(model))})
    with new_file(path, overwrite=False) as file:
        parquet.write_table(
            table, file, row_group_size=_rows_per_group(table), compression="zstd", write_page_checksum=True
        )


def _rows_per_group(table: Table) -> int:
    num_codes = sum(len(chunk.flatten().flatten()) for chunk in table["codes"].chunks) or 1
    return max(1, int(table.num_rows * CODES_PER_GROUP // num_codes))


def describe(model: Header) -> dict[str, Any]:
    """What the metadata of a shard says of the codes of all its rows."""
    return {
        "version": VERSION,
        "model": model.model_id.hex(),
        "sample_rate": model.model_sample_rate,
        "hop_length": model.hop_length,
        "delay": model.delay,
        "codebook_size": model.codebook_size,
        "num_quantizers": model.num_quantizers,
        "frame_rate": model.model_sample_rate / model.hop_length,
    }


def described(facts: dict[str, Any]) -> Header:
    """The header that `describe` describes: of one channel and no samples, at the model's rate.

    Raises:
        BitstreamError: The facts are of a later version, or out of range.
    """
    if facts["version"] > VERSION:
        raise BitstreamError(f"made by version {facts['version']} of the format; this program reads {VERSION}: update")
    fields = {name: facts[name] for name in ("hop_length", "delay", "codebook_size", "num_quantizers")}
    rate = facts["sample_rate"]
    model_id = bytes.fromhex(facts["model"])
    return Header(model_id=model_id, model_sample_rate=rate, sample_rate=rate, num_channels=1, **fields)


def read_model(path: Path) -> Header:
    """Header for the codes of a shard, from its metadata: one channel of no samples at the model's rate.

    Raises:
        BitstreamError: The file can't be read, is no shard, or of a later version.
    """
    with _opened(path) as file:
        return _model(file)


def read_paths(path: Path) -> list[str]:
    """Names of the recordings of a shard, in order; its codes are not read. Errors as of `read_model`."""
    with _opened(path) as file:
        _model(file)
        names: list[str] = file.read(["path"])["path"].to_pylist()
        return names


def read_shard(path: Path, only: Collection[str] | None = None) -> Iterator[Row]:
    """Read the recordings of a shard, group by group; every checksum is checked.

    Args:
        path: The shard.
        only: Names of the recordings to read; all if None.

    Raises:
        BitstreamError: The file can't be read, is no shard or of a later version, or a row is damaged.
    """
    with _opened(path) as file:
        model = _model(file)
        for group in range(file.num_row_groups):
            if only is not None:
                names = file.read_row_group(group, ["path"])["path"].to_pylist()
                if not set(only).intersection(names):
                    continue
            for row in table_rows(file.read_row_group(group), model):
                if only is None or row.path in only:
                    yield row


def table_rows(table: Table, model: Header) -> Iterator[Row]:
    """Recordings of a table with the columns of a shard, checked against their checksums.

    Raises:
        BitstreamError: A row contradicts itself or the model.
    """
    for batch in table.to_batches():
        lists = batch["codes"]
        edges = lists.offsets.to_numpy()
        starts = lists.values.offsets.to_numpy()
        values = lists.values.values.to_numpy()
        facts = batch.drop_columns(["codes"]).to_pylist()
        for number, fact in enumerate(facts):
            inner = starts[edges[number] : edges[number + 1] + 1]
            yield Row(fact["path"], _bitstream(fact, inner, values, model))


def _bitstream(fact: dict[str, Any], edges: NDArray[Any], values: NDArray[Any], model: Header) -> Bitstream:
    """The codes of a row, `values` between `edges`."""
    shape = (fact["channels"], fact["levels"], fact["frames"])
    lengths = np.diff(edges)
    if len(lengths) != shape[0] * shape[1] or (lengths != shape[2]).any():
        raise BitstreamError(f"{fact['path']} has no {shape[0]} x {shape[1]} lists of {shape[2]} codes: it is damaged")
    return checked(fact, values[edges[0] : edges[-1]].reshape(shape), model)


def checked(fact: dict[str, Any], codes: NDArray[Any], model: Header) -> Bitstream:
    """Codes `[C, K, F]` with their header, after all checks.

    Args:
        fact: The other columns of their row.
        codes: uint16.
        model: What their shard says of all its rows.

    Raises:
        BitstreamError: The checksum does not match, or the row contradicts itself or the model.
    """
    name, shape = fact["path"], (fact["channels"], fact["levels"], fact["frames"])
    if codes.shape != shape or codes_crc(codes) != fact["crc"]:
        raise BitstreamError(f"the codes of {name} are damaged (their shape or checksum does not match)")
    if (fact["model"], shape[1]) != (model.model_id.hex(), model.num_quantizers):
        raise BitstreamError(f"{name} is of another model or of other levels than its shard says")
    facts = {"sample_rate": fact["sample_rate"], "num_samples": fact["samples"], "frames_per_chunk": 0}
    return Bitstream(replace(model, num_channels=shape[0], **facts), codes)


def _offsets(lengths: Sequence[int] | NDArray[Any]) -> Any:
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if offsets[-1] >= 2**31:
        raise ConfigError(f"{offsets[-1]} codes are too many for a shard: make smaller ones")
    return pa.array(offsets.astype(np.int32))


def _model(file: Any) -> Header:
    """The model that the metadata of an open Parquet file describes."""
    metadata = file.schema_arrow.metadata or {}
    if b"codec" not in metadata or not set(SCHEMA.names) <= set(file.schema_arrow.names):
        raise BitstreamError("it is no shard of codes: columns or metadata are missing")
    return described(json.loads(metadata[b"codec"]))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a Parquet file; errors as of `named_errors`."""
    with named_errors(path), parquet.ParquetFile(path, page_checksum_verification=True) as file:
        yield file


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Raise every error of a damaged file as a BitstreamError of one line that names the file."""
    try:
        yield
    except CodecError as error:
        raise BitstreamError(f"{path}: {error}") from error
    except Exception as error:  # those of pyarrow, tarfile, json and NumPy on damaged files have no common class
        reason = getattr(error, "strerror", None) or one_line(error)[:200]
        raise BitstreamError(f"{path}: can't be read as a shard of codes: {reason}") from error
