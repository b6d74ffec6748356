"""Shards of codes as WebDataset tar archives: two members a recording.

000030017.npy    uint16 [C, K, F]: row 17 of shard 3
000030017.json   the other columns of a shard in Parquet, and `codec`, which describes the model
"""

import contextlib
import io
import json
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from codec.bitstream import Bitstream, Header
from codec.corpus.archive import members
from codec.corpus.shards import Row, Table, checked, describe, described, named_errors, table_rows
from codec.errors import BitstreamError
from codec.files import new_file

MAX_MEMBER_BYTES = 2**31
"""Of a member that is read: hours of many channels, and no more memory than that."""


def write_tar(path: Path, table: Table, model: Header) -> None:
    """Write a shard; arguments and errors as of `write_shard` of `codec.corpus.shards`."""
    facts = table.drop_columns(["codes"]).to_pylist()
    number = path.stem.rpartition("-")[2]
    with (
        new_file(path, overwrite=False) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for at, (fact, row) in enumerate(zip(facts, table_rows(table, model), strict=True)):
            array = io.BytesIO()
            np.save(array, row.bitstream.codes.astype(np.uint16), allow_pickle=False)
            _add(tar, f"{number}{at:05d}.npy", array.getvalue())
            _add(tar, f"{number}{at:05d}.json", json.dumps({**fact, "codec": describe(model)}).encode())


def read_tar_paths(path: Path) -> list[str]:
    """Names of the recordings of a shard, in order. Errors as of `read_tar`."""
    with _opened(path) as (tar, file):
        return [json.loads(_read(tar, member))["path"] for member in members(tar, file) if _is_json(member)]


def read_tar_model(path: Path) -> Header:
    """Header for the codes of a shard, as `read_model` of `codec.corpus.shards`. Errors as of `read_tar`."""
    with _opened(path) as (tar, _):
        for member in filter(_is_json, tar):
            return described(json.loads(_read(tar, member))["codec"])
    raise BitstreamError(f"{path} is no shard of codes: it holds no .json")


def read_tar(path: Path, only: Collection[str] | None = None) -> Iterator[Row]:
    """Read the recordings of a shard; every checksum is checked.

    Raises:
        BitstreamError: The file can't be read, is no shard or of a later version, or a recording is damaged.
    """
    with _opened(path) as (tar, file):
        array: tarfile.TarInfo | None = None
        for member in members(tar, file):
            if member.name.endswith(".npy"):
                array = member
            elif _is_json(member):
                fact = json.loads(_read(tar, member))
                if only is None or fact["path"] in only:
                    if array is None or Path(array.name).stem != Path(member.name).stem:
                        raise BitstreamError(f"the codes of {fact['path']} are missing")
                    yield Row(fact["path"], _bitstream(fact, _read(tar, array)))


def _bitstream(fact: dict[str, Any], data: bytes) -> Bitstream:
    return checked(fact, np.load(io.BytesIO(data), allow_pickle=False), described(fact["codec"]))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file: BinaryIO | None = tar.extractfile(member)  # type: ignore[assignment]
    data = b"" if file is None or member.size > MAX_MEMBER_BYTES else file.read()
    if len(data) < member.size:
        raise BitstreamError(f"{member.name} is truncated")
    return data


def _is_json(member: tarfile.TarInfo) -> bool:
    return member.name.endswith(".json")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[tarfile.TarFile, BinaryIO]]:
    """Open an archive; errors as of `named_errors`."""
    with named_errors(path), path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        yield tar, file
