"""List the files of a data set: those of a folder, the rows of a manifest, or those of a data set known by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from codec.audio.file import find_audio_files
from codec.audio.manifests.audio_folder import find_metadata
from codec.audio.manifests.json_lines import read_json_lines
from codec.audio.manifests.kaldi import read_scp
from codec.audio.manifests.rows import Row
from codec.audio.manifests.tables import read_csv, read_tsv
from codec.audio.named import is_named, list_named
from codec.errors import ConfigError

READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".tsv": read_tsv,
    ".csv": read_csv,
    ".json": read_json_lines,
    ".jsonl": read_json_lines,
    ".scp": read_scp,
}
"""Manifests by suffix; a file of another suffix is read as tab-separated."""


class Item(NamedTuple):
    """One file of a data set."""

    path: Path
    speaker: str
    """Empty if unknown."""
    seconds: float | None
    """None if unknown."""


def list_items(
    root: Path, source: Path, *, split: str, kinds: Sequence[str] = (), download: bool = False
) -> list[Item]:
    """List the files of a folder, a manifest or a named data set.

    Args:
        root: Folder that `source` is relative to.
        source: A folder of audio files, a manifest, or a name with its parts such as "LIBRITTS:dev-clean,test-clean":
            `codec.audio.named`. Manifests are UTF-8 text. Paths in them are relative to them.
            `.tsv`: columns named by the first line, one of them `path`; `speaker`, `seconds`, `split` and `kind` are
            optional. `.scp`: of Kaldi. `.json`, `.jsonl`: of NeMo, an object a line with `audio_filepath` and maybe
            `duration`. `metadata.csv` or `.jsonl` with `file_name`, or a folder that holds one: of Hugging Face.
        split: Keep the rows of this split, if the manifest has splits.
        kinds: Keep the rows of these kinds; all if empty.
        download: Download a named data set that is not there.

    Raises:
        AudioError: The folder holds no audio file.
        ConfigError: The source is missing or no manifest, a row is wrong, no row is left, or a download failed.
    """
    location = root / source
    if is_named(source) and not location.exists():
        return [Item(path, speaker, None) for path, speaker in list_named(root, str(source), download=download)]
    manifest = find_metadata(location) if location.is_dir() else location
    if manifest is None:
        return [Item(path, "", None) for path in find_audio_files(location)]
    if not manifest.is_file():
        raise ConfigError(f"no data at {location}", **{"data.root": ..., f"data.{split}": ...})
    read = READERS.get(manifest.suffix.lower(), read_tsv)
    rows = [row for row in read(manifest) if row.split in (None, split) and (not kinds or row.kind in kinds)]
    if not rows:
        raise ConfigError(
            f"{manifest} has no row with split {split}" + (f" and kind {' or '.join(kinds)}" if kinds else "")
        )
    return [Item(manifest.parent / row.path, row.speaker, row.seconds) for row in rows]


def list_paths(sources: Sequence[Path], *, split: str, kinds: Sequence[str] = ()) -> list[Path]:
    """List audio files: those given, those of folders, and the chosen rows of manifests, each once.

    Raises:
        AudioError: A folder holds no audio file.
        ConfigError: As for `list_items`.
    """
    paths: list[Path] = []
    for source in sources:
        is_list = source.is_dir() or source.suffix.lower() in READERS
        paths += [item.path for item in list_items(Path(), source, split=split, kinds=kinds)] if is_list else [source]
    return list(dict.fromkeys(paths))
