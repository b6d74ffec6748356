"""List the files of a data set: those of a folder, the rows of a manifest, or those of a data set known by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from codec.audio.file import find_audio_files
from codec.audio.manifests.audio_folder import find_metadata
from codec.audio.manifests.json_lines import read_json_lines
from codec.audio.manifests.kaldi import read_scp
from codec.audio.manifests.rows import Row
from codec.audio.manifests.tables import read_csv, read_tsv
from codec.audio.named import is_named, list_named
from codec.errors import ConfigError

T = TypeVar("T")
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
    root: Path, source: Path, *, split: str | None, kinds: Sequence[str] = (), download: bool = False
) -> list[Item]:
    """List the files of a folder, a manifest or a named data set.

    Args:
        root: Folder that `source` is relative to.
        source: A folder of audio files, a manifest, or a name with its parts such as "LIBRITTS:dev-clean,test-clean":
            `codec.audio.named`. Manifests are UTF-8 text. Paths in them are relative to them.
            `.tsv`: columns named by the first line, one of them `path`; `speaker`, `seconds`, `split` and `kind` are
            optional. `.scp`: of Kaldi. `.json`, `.jsonl`: of NeMo, an object a line with `audio_filepath` and maybe
            `duration`. `metadata.csv` or `.jsonl` with `file_name`, or a folder that holds one: of Hugging Face.
        split: Keep the rows of this split, if the manifest has splits; None keeps those of all.
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
        remedy = {} if split is None else {"data.root": ..., f"data.{split}": ...}
        raise ConfigError(f"no data at {location}", **remedy)
    read = READERS.get(manifest.suffix.lower(), read_tsv)
    rows = [
        row
        for row in read(manifest)
        if (split is None or row.split in (None, split)) and (not kinds or row.kind in kinds)
    ]
    if not rows:
        wanted = [] if split is None else [f"split {split}"]
        wanted += [f"kind {' or '.join(kinds)}"] if kinds else []
        raise ConfigError(f"{manifest} has no row" + (f" with {' and '.join(wanted)}" if wanted else ""))
    return [Item(manifest.parent / row.path, row.speaker, row.seconds) for row in rows]


def is_list(source: Path) -> bool:
    """Whether a name is that of a manifest or of a named data set, by its form alone."""
    return source.suffix.lower() in READERS or is_named(source)


def spread(items: Sequence[T], number: int) -> list[T]:
    """So many of the items as there are, at most `number`, spread evenly over all of them."""
    number = min(number, len(items))
    return [items[index * len(items) // number] for index in range(number)]


def list_paths(sources: Sequence[Path], *, split: str, kinds: Sequence[str] = ()) -> list[Path]:
    """List audio files: those given, those of folders, and the chosen rows of manifests, each once.

    Raises:
        AudioError: A folder holds no audio file.
        ConfigError: As for `list_items`.
    """
    paths: list[Path] = []
    for source in sources:
        several = source.is_dir() or is_list(source)
        paths += [item.path for item in list_items(Path(), source, split=split, kinds=kinds)] if several else [source]
    return list(dict.fromkeys(paths))
