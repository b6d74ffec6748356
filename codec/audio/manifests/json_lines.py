"""Manifests of one JSON object a line: those of NeMo, and the `metadata.jsonl` of a Hugging Face audio folder."""

from pathlib import Path

from codec.audio.manifests.rows import Row, make_row, read_lines
from codec.errors import ConfigError
from codec.jsonfile import parse_json

PATH_KEYS = ("audio_filepath", "file_name")
"""Keys of the path, of NeMo and of Hugging Face."""


def read_json_lines(path: Path) -> list[Row]:
    """Rows of a file whose lines are objects with `audio_filepath` (and maybe `duration`, s) or with `file_name`.

    Raises:
        ConfigError: A line is no such object, has a wrong value, or an `offset` into its file: whole files are used.
    """
    found = []
    for number, line in read_lines(path):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            values = parse_json(line)
        except ValueError as error:
            raise ConfigError(f"{place} is no JSON ({error}): give one object a line") from error
        if not isinstance(values, dict) or not any(key in values for key in PATH_KEYS):
            raise ConfigError(f"{place} is no JSON object with the key {' or '.join(PATH_KEYS)}")
        if values.get("offset"):
            raise ConfigError(f"{place} has an offset, a part of its file: cut the parts into files of their own")
        name = next(values[key] for key in PATH_KEYS if key in values)
        found.append(make_row(place, name, values, seconds="duration"))
    return found
