"""Manifests of Kaldi: `wav.scp`, with `utt2spk` and `utt2dur` where they lie beside it.

Kaldi runs the commands that a `wav.scp` may hold. Here a file that is read never names a command to run.
"""

import re
from pathlib import Path

from codec.audio.manifests.rows import Row, make_row, read_lines
from codec.errors import ConfigError


def read_scp(path: Path) -> list[Row]:
    """Rows of a file whose lines are a key, a space and a path. Relative paths are relative to the file.

    Raises:
        ConfigError: A line has no path, or a command, standard input or a place within an archive instead of one, or a
            file `segments` beside it cuts the recordings into parts.
    """
    segments = path.with_name("segments")
    if segments.exists():
        raise ConfigError(
            f"{segments} cuts the recordings of {path.name} into parts, but whole files are used: cut them into files "
            "of their own, or move it away to use the whole recordings"
        )
    speakers, seconds = _beside(path, "utt2spk"), _beside(path, "utt2dur")
    found = []
    for number, line in read_lines(path):
        if not line.strip():
            continue
        key, name = _pair(line)
        place = f"{path}, line {number}"
        if name.startswith("|") or name.endswith("|"):
            raise ConfigError(
                f"{place} holds a command, which is not run: run it yourself, and list the files it makes"
            )
        if name == "-" or re.search(r":\d+(\[.*\])?$", name):
            raise ConfigError(f"{place} names standard input or a place within an archive: list audio files")
        found.append(make_row(place, name, {"speaker": speakers.get(key), "seconds": seconds.get(key)}))
    return found


def _beside(path: Path, name: str) -> dict[str, str]:
    """Values by key of a file in the folder of `path`; empty if there is none."""
    other = path.with_name(name)
    if not other.exists():
        return {}
    return dict(_pair(line) for _, line in read_lines(other))


def _pair(line: str) -> tuple[str, str]:
    """The key of a line and what follows it."""
    key, value, *_ = *line.split(maxsplit=1), "", ""
    return key, value.strip()
