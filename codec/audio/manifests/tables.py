"""Manifests with columns: tab-separated ones (ours), and the `metadata.csv` of a Hugging Face audio folder."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from codec.audio.manifests.rows import Row, make_row, read_lines
from codec.errors import ConfigError


def read_tsv(path: Path) -> list[Row]:
    """Rows of a tab-separated file with a column `path`.

    One row a line, split at every tab: a quotation mark is a character like others. Empty lines are skipped.

    Raises:
        ConfigError: It is no manifest, or a row has too few or too many columns or a wrong value.
    """
    records = ((number, line.split("\t")) for number, line in read_lines(path))
    return _rows(path, records, "path", "tab-separated")


def read_csv(path: Path) -> list[Row]:
    """Rows of a comma-separated file with a column `file_name`; quotation marks as Excel and pandas write them.

    Raises:
        ConfigError: As for `read_tsv`.
    """
    return _rows(path, _csv_records(path), "file_name", "comma-separated")


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(line + "\n" for _, line in read_lines(path))
    try:
        for record in reader:
            yield reader.line_num, record
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}") from error


def _rows(path: Path, records: Iterable[tuple[int, list[str]]], path_column: str, form: str) -> list[Row]:
    records = iter(records)
    _, columns = next(records, (1, []))
    if path_column not in columns or len(set(columns)) < len(columns):
        raise ConfigError(f"{path} is no manifest: its first line must name {form} columns, one of them {path_column}")
    found = []
    for number, cells in records:
        if not any(cells):
            continue
        if len(cells) != len(columns):
            raise ConfigError(f"{path}, line {number}: {len(cells)} columns, but the first line names {len(columns)}")
        values = dict(zip(columns, cells, strict=True))
        found.append(make_row(f"{path}, line {number}", values[path_column], values))
    return found
