"""The rows of a manifest and the lines they are read from; a hostile file costs little time and memory."""

import itertools
import math
import os
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from codec.errors import ConfigError

MAX_LINE = 2**16
"""Characters of a line."""
MAX_PATH = 4096
"""Characters of a path."""


class Row(NamedTuple):
    """What a manifest says of one file."""

    path: str
    """As it is written: absolute, or relative to the folder of the manifest."""
    speaker: str = ""
    """Empty if unknown."""
    seconds: float | None = None
    """None if unknown."""
    split: str | None = None
    """None if the manifest has no splits: then its rows are of every split."""
    kind: str | None = None
    """None if unknown."""


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number (from 1) and the text of every line of a file in UTF-8.

    Raises:
        ConfigError: The file can't be read, is not UTF-8, or has a line of more than 65,536 characters.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:  # editors on Windows begin a text with a byte order mark
            for number in itertools.count(1):
                line = file.readline(MAX_LINE + 1)
                if not line:
                    return
                if len(line) > MAX_LINE:
                    raise ConfigError(f"{path} is no manifest: line {number} has more than {MAX_LINE} characters")
                yield number, line.rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no manifest ({error}); save it as text in UTF-8") from error


def make_row(place: str, path: object, values: Mapping[str, Any], seconds: str = "seconds") -> Row:
    """Check the values of a row.

    Args:
        place: Names the row in an error, such as "MANIFEST.tsv, line 3".
        path: Value of the path.
        values: Other values; `speaker` or `speaker_id`, `split`, `kind` and the seconds are used.
        seconds: Key of the seconds.

    Raises:
        ConfigError: The path is no name of a file, or the seconds are no positive number.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigError(f"{place}: the path is empty or holds a NUL character, or is no text")
    if len(path) > MAX_PATH or not _is_encodable(path):
        raise ConfigError(f"{place}: the path has more than {MAX_PATH} characters, or one that no file name can have")
    speaker = str(values.get("speaker", values.get("speaker_id")) or "")
    split, kind = (None if values.get(key) is None else str(values[key]) for key in ("split", "kind"))
    duration = values.get(seconds)
    if duration in (None, ""):
        return Row(path, speaker, None, split, kind)
    number = _number(duration)
    if not 0 < number < math.inf:
        raise ConfigError(f"{place}: {seconds} of {path[:200]} must be a positive number, not {reprlib.repr(duration)}")
    return Row(path, speaker, number, split, kind)


def _number(value: object) -> float:
    """A number, or the text of one; NaN for anything else."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return False
    return True
