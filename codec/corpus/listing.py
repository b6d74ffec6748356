"""List the recordings of a corpus: folders, manifests, WebDataset tar archives and Parquet files with audio."""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from codec.audio.file import READ_SUFFIXES
from codec.audio.manifest import is_list, list_items
from codec.corpus.archive import members
from codec.corpus.sources import Source, open_parquet
from codec.errors import CodecError, ConfigError, one_line

CONTAINERS = (".tar", ".parquet")
_UNCOMPRESSED = (".wav", ".aiff", ".aif", ".aifc", ".au", ".snd", ".w64", ".rf64", ".caf")
_BYTES_PER_SECOND = dict.fromkeys(_UNCOMPRESSED, 32_000) | {".flac": 20_000}
_COMPRESSED_BYTES_PER_SECOND = 8_000
UNKNOWN_SECONDS = 10.0
"""Expected duration of a recording whose size is not known either."""


def list_corpus(inputs: Sequence[str]) -> list[Source]:
    """List all recordings of some inputs, in order.

    Args:
        inputs: Local paths, or URLs for fsspec with or without `*`, of
            folders: the audio files below, named by their path in the folder, and the containers;
            manifests and named data sets (see `codec.audio.manifest.list_items`), all splits; files are named as there;
            .tar: WebDataset archives; the members that are audio, by their path in the archive;
            .parquet: the column `audio` (bytes, or a struct with `bytes` and `path`), named by the column `path`, else
            the path in the struct, else the number of the row;
            audio files, named by the last part of their path.

    Raises:
        ConfigError: An input is missing or can't be read, nothing is found, or two recordings have the same name.
    """
    found: dict[str, Source] = {}
    for given in inputs:
        for source in _listed(given):
            other = found.setdefault(source.name, source)
            if other is not source:
                raise ConfigError(
                    f"{other.place} and {source.place} have the same name, {source.name!r}: rename one of them, "
                    "or give them in separate runs"
                )
    if not found:
        raise ConfigError(f"no recordings in {' '.join(inputs) or 'nothing'}: give folders, .tsv, .tar or .parquet")
    return list(found.values())


def _listed(given: str) -> Iterator[Source]:
    try:
        if is_list(Path(given)):
            yield from _of_manifest(Path(given))
            return
        fs, path = fsspec.core.url_to_fs(given)
        for match in sorted(fs.glob(path)) if "*" in path else [path]:
            yield from _below(fs, match)
    except CodecError:
        raise
    except Exception as error:  # every file system of fsspec has errors of its own
        raise ConfigError(f"can't list {given}: {getattr(error, 'strerror', None) or one_line(error)}") from error


def _below(fs: Any, path: str) -> Iterator[Source]:
    if not fs.exists(path):
        raise ConfigError(f"no file or folder {path}")
    is_folder = fs.isdir(path)
    facts = fs.find(path, detail=True) if is_folder else {path: fs.info(path)}
    for file, fact in sorted(facts.items()):
        name = file.removeprefix(path).lstrip("/") if is_folder else PurePosixPath(file).name
        suffix = PurePosixPath(file).suffix.lower()
        hidden = is_folder and any(part.startswith(".") for part in PurePosixPath(name).parts)
        if hidden or suffix not in (*CONTAINERS, *READ_SUFFIXES):
            continue
        url = file if "file" in _protocols(fs) else fs.unstrip_protocol(file)
        if suffix == ".tar":
            yield from _of_tar(url)
        elif suffix == ".parquet":
            yield from _of_parquet(url)
        else:
            yield Source(name, url, _guess_seconds(name, fact["size"]))


def _protocols(fs: Any) -> Sequence[str]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol


def _of_manifest(path: Path) -> Iterator[Source]:
    for item in list_items(Path(), path, split=None):
        name = item.path.relative_to(path.parent) if item.path.is_relative_to(path.parent) else item.path
        yield Source(name.as_posix(), str(item.path), item.seconds or UNKNOWN_SECONDS)


def _of_tar(url: str) -> Iterator[Source]:
    """The audio members of an archive: only their headers are read."""
    try:
        with fsspec.open(url, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in members(archive, file):
                if member.isfile() and PurePosixPath(member.name).suffix.lower() in READ_SUFFIXES:
                    seconds = _guess_seconds(member.name, member.size)
                    yield Source(member.name, url, seconds, num_bytes=member.size, start=member.offset_data)
    except tarfile.TarError as error:
        raise ConfigError(f"{url} is no intact tar archive without compression: {one_line(error)}") from error


def _of_parquet(url: str) -> Iterator[Source]:
    file = open_parquet(url)
    schema = file.schema_arrow
    if "audio" not in schema.names:
        raise ConfigError(f"{url} has no column audio, but {', '.join(schema.names)}")
    names = _row_names(file, Path(url).stem)
    row = 0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        chunks = [group.column(at) for at in range(group.num_columns)]
        num_bytes = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.startswith("audio"))
        for _ in range(group.num_rows):
            yield Source(names[row], url, _guess_seconds(names[row], num_bytes / group.num_rows), row=row)
            row += 1


def _row_names(file: Any, stem: str) -> list[str]:
    """Names of the rows of a Parquet file; the audio is not read."""
    schema = file.schema_arrow
    column = schema.field("audio").type
    if "path" in schema.names:
        names = file.read(["path"])["path"].to_pylist()
    elif hasattr(column, "get_field_index") and column.get_field_index("path") >= 0:
        names = [cell["path"] for cell in file.read(["audio.path"])["audio"].to_pylist()]
    else:
        names = [None] * file.metadata.num_rows
    return [name or f"{stem}-{row:06d}" for row, name in enumerate(names)]


def _guess_seconds(name: str, num_bytes: float) -> float:
    """Only compares recordings: the longest are encoded first, and those of similar length together."""
    return num_bytes / _BYTES_PER_SECOND.get(PurePosixPath(name).suffix.lower(), _COMPRESSED_BYTES_PER_SECOND)
