"""The form `audiofolder` of Hugging Face: a folder of audio with a file of metadata."""

import contextlib
from pathlib import Path

from codec.audio.manifests.rows import read_lines
from codec.errors import ConfigError

NAMES = ("metadata.csv", "metadata.jsonl")
KEY = "file_name"


def find_metadata(folder: Path) -> Path | None:
    """The file of metadata of an audio folder; None if the folder has none that names files by `file_name`.

    Other data sets have a `metadata.csv` of another form (LJSpeech): their folder is one of audio files.

    Raises:
        ConfigError: It has two.
    """
    found = [path for path in (folder / name for name in NAMES) if path.is_file() and KEY in _first_line(path)]
    if len(found) > 1:
        raise ConfigError(f"{folder} has both {' and '.join(NAMES)}: name the one to use")
    return found[0] if found else None


def _first_line(path: Path) -> str:
    with contextlib.suppress(ConfigError):  # no text: no metadata
        return next(read_lines(path), (1, ""))[1]
    return ""
