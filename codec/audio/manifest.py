"""List the files of a data set: those of a folder, or the rows of a manifest (tab-separated, with a column `path`)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from codec.audio.file import find_audio_files
from codec.errors import ConfigError


class Item(NamedTuple):
    """One file of a data set."""

    path: Path
    speaker: str
    """Empty if unknown."""
    seconds: float | None
    """None if unknown."""


def list_items(root: Path, source: Path, *, split: str | None, kinds: Sequence[str] = ()) -> list[Item]:
    """List the files of a folder or a manifest.

    Args:
        root: Folder that `source` is relative to.
        source: A folder, or a manifest: UTF-8 text, one row a line, columns separated by tabs and named by the first
            line. Paths in it are relative to it. The columns `speaker`, `seconds`, `split` and `kind` are optional.
        split: Keep the rows of this split, if the manifest has the column; None keeps those of all.
        kinds: Keep the rows of these kinds; all if empty.

    Raises:
        AudioError: The folder holds no audio file.
        ConfigError: The source is missing or no manifest, a row has too few or too many columns, or no row is left.
    """
    location = root / source
    if location.is_dir():
        return [Item(path, "", None) for path in find_audio_files(location)]
    if not location.is_file():
        raise ConfigError(f"no data at {location}", **{"data.root": ..., f"data.{split}": ...})
    rows = [
        row
        for row in _read_manifest(location)
        if (split is None or row.get("split") in (None, split)) and (not kinds or row.get("kind") in kinds)
    ]
    if not rows:
        raise ConfigError(
            f"{location} has no row with split {split}" + (f" and kind {' or '.join(kinds)}" if kinds else "")
        )
    return [_item(location, row) for row in rows]


def list_paths(sources: Sequence[Path], *, split: str, kinds: Sequence[str] = ()) -> list[Path]:
    """List audio files: those given, those of folders, and the chosen rows of manifests (.tsv), each once.

    Raises:
        AudioError: A folder holds no audio file.
        ConfigError: As for `list_items`.
    """
    paths: list[Path] = []
    for source in sources:
        is_list = source.is_dir() or source.suffix == ".tsv"
        paths += [item.path for item in list_items(Path(), source, split=split, kinds=kinds)] if is_list else [source]
    return list(dict.fromkeys(paths))


def _read_manifest(path: Path) -> list[dict[str, str]]:
    """One row a line, split at every tab: a quotation mark is a character like others. Empty lines are skipped."""
    try:
        with path.open(encoding="utf-8-sig") as file:  # editors on Windows begin a text with a byte order mark
            lines = [line.rstrip("\n").split("\t") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no manifest ({error}); save it as text in UTF-8") from error
    columns, *rows = lines or [[]]
    if "path" not in columns or len(set(columns)) < len(columns):
        raise ConfigError(f"{path} is no manifest: its first line must name tab-separated columns, one of them path")
    found = []
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        if len(row) != len(columns):
            raise ConfigError(f"{path}, line {number}: {len(row)} columns, but the first line names {len(columns)}")
        found.append(dict(zip(columns, row, strict=True)))
        if not found[-1]["path"] or "\0" in found[-1]["path"]:
            raise ConfigError(f"{path}, line {number}: the path is empty or holds a NUL character")
    return found


def _item(manifest: Path, row: dict[str, str]) -> Item:
    try:
        seconds = float(row["seconds"]) if row.get("seconds") else None
    except ValueError:
        seconds = math.nan
    if seconds is not None and not 0 < seconds < math.inf:
        raise ConfigError(f"{manifest}: seconds of {row['path']} must be a positive number, not {row['seconds']!r}")
    return Item(manifest.parent / row["path"], row.get("speaker") or "", seconds)
