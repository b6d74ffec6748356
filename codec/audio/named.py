"""Data sets known by name, which torchaudio downloads and lists; their files are read like all others.

`NAME` or `NAME:PART`, or several parts with commas between them, in the folders that torchaudio makes in the root:

    LIBRITTS:train-clean-100,train-clean-360    LIBRISPEECH:dev-clean    LJSPEECH    VCTK_092    VCTK_092:mic1
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from codec.errors import ConfigError, ModelError, one_line
from codec.files import write_errors

Found = tuple[Path, str]
"""A file and its speaker."""


def _libri(data: Any) -> Iterator[Found]:
    """Files of LibriSpeech and LibriTTS: SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac, or with `_` and .wav."""
    folder = Path(data._path)
    for name in data._walker:
        speaker, chapter, *_ = name.replace("-", "_").split("_")
        yield folder / speaker / chapter / f"{name}{data._ext_audio}", speaker


def _ljspeech(data: Any) -> Iterator[Found]:
    """Files of LJSpeech, all of one speaker."""
    for name, *_ in data._flist:
        yield data._path / f"{name}.wav", "LJ"


def _vctk(data: Any) -> Iterator[Found]:
    """Files of VCTK: SPEAKER/SPEAKER_UTTERANCE_MICROPHONE.flac."""
    for speaker, utterance in data._sample_ids:
        name = f"{speaker}_{utterance}_{data._mic_id}{data._audio_ext}"
        yield Path(data._audio_dir) / speaker / name, speaker


class _Named(NamedTuple):
    list_files: Callable[[Any], Iterator[Found]]
    """Files of an object of torchaudio. Its items would be decoded by torchcodec, so its lists are used: they are
    private, but torchaudio 2.11 is the last release."""
    folder: str
    """Where torchaudio lays out a part, below the root."""
    parts: tuple[str, ...]
    default: str
    """Part that is meant if none is named; empty: it must be named."""
    part_argument: str
    """Argument of torchaudio's class for the part; empty if it has none."""


_LIBRI_PARTS = (
    *("train-clean-100", "train-clean-360", "train-other-500"),
    *("dev-clean", "dev-other", "test-clean", "test-other"),
)
NAMED = {
    "LIBRISPEECH": _Named(_libri, "LibriSpeech/{part}", _LIBRI_PARTS, "", "url"),
    "LIBRITTS": _Named(_libri, "LibriTTS/{part}", _LIBRI_PARTS, "", "url"),
    "LJSPEECH": _Named(_ljspeech, "LJSpeech-1.1", ("all",), "all", ""),
    "VCTK_092": _Named(_vctk, "VCTK-Corpus-0.92", ("mic1", "mic2"), "mic2", "mic_id"),
}


def is_named(source: Path) -> bool:
    """Whether a source is the name of a data set, with or without parts."""
    return str(source).partition(":")[0] in NAMED


def list_named(root: Path, source: str, *, download: bool = False) -> list[Found]:
    """Files and speakers of a data set, part by part.

    Args:
        root: Folder that holds the folder of torchaudio, such as `LibriTTS`.
        source: Name and parts; see above.
        download: Download parts that are not there, one process after another.

    Raises:
        ConfigError: No such part, a part is not there, incomplete, or could not be downloaded.
        ModelError: torchaudio can't be imported.
        WriteError: The root can't be written.
    """
    name, _, parts = source.partition(":")
    known = NAMED[name]
    found: list[Found] = []
    for part in (parts or known.default).split(","):
        if part not in known.parts:
            raise ConfigError(f"{name} has no part {part[:100]!r}: name {name}:PART, one of {', '.join(known.parts)}")
        folder = root / known.folder.format(part=part)
        if not folder.is_dir():
            if not download:
                raise ConfigError(
                    f"{source} is not there: no folder {folder}", **{"data.root": ..., "data.download": True}
                )
            _download(root, name, part, folder)
        files = _load(root, name, part, download=False)
        if not files:
            raise ConfigError(f"{folder} holds no files of {name}: remove it, and download it again")
        found += files
    return found


def _load(root: Path, name: str, part: str, *, download: bool) -> list[Found]:
    """Files of a part, listed by torchaudio."""
    try:
        import torchaudio.datasets  # here: only these data sets need it, and it fails beside a wrong torch
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(f"torchaudio can't be imported beside this torch: {one_line(error)}") from error
    known = NAMED[name]
    options = {known.part_argument: part} if known.part_argument else {}
    try:
        return list(known.list_files(getattr(torchaudio.datasets, name)(root, download=download, **options)))
    except Exception as error:  # of the network, an archive, the disk or a list: they have no common class
        doing = "downloaded" if download else "listed"
        raise ConfigError(f"{name}:{part} in {root} can't be {doing}: {one_line(error)[:300]}") from error


def _download(root: Path, name: str, part: str, folder: Path) -> None:
    """Download a part into a hidden folder and move it to its place, so that a part that is there is complete.

    torchaudio takes any folder of the right name for a complete one, even if its unpacking was interrupted. An archive
    that is complete is kept for the next attempt.
    """
    hidden = root / f".{name}-{part}.partial"
    with write_errors(folder):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(hidden.with_suffix(".lock")):
            if folder.is_dir():  # another process was first
                return
            unpacked = hidden / folder.relative_to(root)
            shutil.rmtree(unpacked, ignore_errors=True)
            hidden.mkdir(exist_ok=True)
            _load(hidden, name, part, download=True)
            folder.parent.mkdir(exist_ok=True)
            unpacked.rename(folder)
            shutil.rmtree(hidden)
