"""Read and write audio files, whole or block by block.

    in.wav --load_audio--> audio [1, C, T]   ...   audio [1, C, T] --save_audio--> in.decoded.wav

C channels, T samples of a file, n samples of a block; float32, nominally in [-1, 1]. This is the only module that
imports soundfile (libsndfile).
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch

from codec.audio.containers import OpenEndedWav, bad, check_ogg_end, check_ogg_pages, check_sizes
from codec.audio.resampling import Block, Resampler
from codec.errors import AudioError, WriteError
from codec.files import new_path

StrPath = str | os.PathLike[str]

READ_SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff"),
    *(".aif", ".aifc", ".au", ".snd", ".w64", ".rf64", ".caf"),
)
WRITE_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}

_BLOCK_SAMPLES = 1 << 16
_UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's length of a FLAC stream whose header holds none


class AudioInfo(NamedTuple):
    """Facts in the header of an audio file: rate (Hz), channels, samples of a channel."""

    sample_rate: int
    num_channels: int
    num_samples: int


def read_info(path: StrPath) -> AudioInfo:
    """Read rate, channels and length from the header. A file without a length (piped FLAC) is decoded to count.

    Raises:
        AudioError: The file is missing, not audio, visibly truncated, or holds no samples.
    """
    with _open(Path(path)) as file:
        rate, num_channels, num_samples = file.samplerate, file.channels, file.frames
    if num_samples == _UNKNOWN_LENGTH:
        num_samples = sum(block.shape[1] for block in iterate_blocks(path, _BLOCK_SAMPLES))
    return AudioInfo(rate, num_channels, num_samples)


def load_audio(path: StrPath, sample_rate: int | None = None) -> torch.Tensor:
    """Load a whole file, resampled to `sample_rate` (Hz) if it is given.

    Returns:
        Audio `[1, C, T]`, float32. Integer formats are scaled to [-1, 1), float formats are not scaled.

    Raises:
        AudioError: As for `iterate_blocks`.
    """
    blocks = list(iterate_blocks(path, _BLOCK_SAMPLES, sample_rate))
    return torch.from_numpy(np.concatenate(blocks, axis=1))[None]


def iterate_blocks(path: StrPath, block_samples: int, sample_rate: int | None = None) -> Iterator[Block]:
    """Yield a file in blocks `[C, n]`; concatenated they equal `load_audio(path, sample_rate)[0]` bit for bit.

    Args:
        path: Any format that libsndfile reads.
        block_samples: Samples to read at a time, at the file's own rate. It bounds the memory in use.
        sample_rate: Rate of the blocks (Hz); the file's own if None.

    Raises:
        AudioError: The file is missing, not audio, truncated, damaged, several Ogg streams in a row, without samples,
            or holds NaN or Inf. Damage that only decoding shows is raised when the iteration reaches it. Truncation is
            found in WAV, AIFF, AU, Wave64, CAF, FLAC and Ogg, damage in FLAC and Ogg; neither is in MP3.
    """
    path = Path(path)
    if block_samples < 1:
        raise AudioError(f"block_samples is {block_samples}; give at least 1")
    with _open(path, every_page=True) as file:
        resampler = Resampler(file.samplerate, sample_rate or file.samplerate, file.channels)
        # The length of an MP3 without a Xing header is an estimate.
        length_is_exact = file.frames != _UNKNOWN_LENGTH and file.format != "MP3"
        num_samples, promised = 0, file.frames if length_is_exact else _UNKNOWN_LENGTH
        # Not beyond the promised samples: in FLAC, bytes that follow them (a tag, say) would be a decoding error.
        while (block := _read(path, file, min(block_samples, promised - num_samples), num_samples)).shape[1]:
            num_samples += block.shape[1]
            if (resampled := resampler.push(block)).shape[1]:
                yield resampled
        if num_samples < (promised if length_is_exact else 1):
            raise bad(path, "truncated", f"{num_samples} samples found")
        if (tail := resampler.flush()).shape[1]:
            yield tail


def read_segment(path: StrPath, start: int, num_samples: int) -> Block:
    """Seek to sample `start` and read `num_samples` samples, at the file's own rate.

    The result equals that slice of the whole file: exactly for WAV, FLAC and AIFF; to about 1e-3 for Opus and MP3,
    because the decoder's state at `start` is not that of a decoder that began at 0. In the last page of an Ogg Vorbis
    file the position can be some milliseconds off (libsndfile's seek).

    Returns:
        Segment `[C, num_samples]`.

    Raises:
        AudioError: The file can't be read, or does not hold these samples.
    """
    path = Path(path)
    with _open(path) as file:
        end = start + num_samples
        if not 0 <= start < end <= file.frames:
            raise AudioError(f"{path} has no samples {start} to {end}: it holds {file.frames}")
        with _decoding_errors(path, start / file.samplerate):
            file.seek(start)
        segment = _read(path, file, num_samples, start)
    if segment.shape[1] < num_samples:
        raise bad(path, "truncated", f"{start + segment.shape[1]} samples found")
    return segment


def find_audio_files(folder: StrPath) -> list[Path]:
    """List the audio files below a folder, sorted; hidden files and folders are skipped.

    Raises:
        AudioError: The folder is missing or holds no file with one of `READ_SUFFIXES`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AudioError(f"{folder} is not a folder; give a folder of audio files")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in READ_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not files:
        raise AudioError(f"no audio files below {folder}; looked for {' '.join(READ_SUFFIXES)}")
    return files


def save_audio(path: StrPath, audio: torch.Tensor, sample_rate: int, *, overwrite: bool = False) -> None:
    """Save audio `[1, C, T]`, `[C, T]` or `[T]`; format and rounding as of `new_audio_file`.

    Raises:
        AudioError: Another shape, no samples, NaN or Inf.
        WriteError: As for `new_audio_file`.
    """
    if audio.ndim == 1:
        audio = audio[None]
    if audio.ndim == 3 and audio.shape[0] == 1:
        audio = audio[0]
    if audio.ndim != 2:
        raise AudioError(f"can't save audio of shape {list(audio.shape)}; give [1, C, T], [C, T] or [T]")
    block = audio.detach().float().cpu().numpy()
    with new_audio_file(path, sample_rate, len(block), overwrite=overwrite) as writer:
        writer.write(block)


@contextlib.contextmanager
def new_audio_file(
    path: StrPath, sample_rate: int, num_channels: int, *, overwrite: bool = False
) -> Iterator["AudioWriter"]:
    """Write an audio file block by block; it appears under its name complete or not at all.

    The suffix decides the format (`WRITE_FORMATS`). WAV and FLAC hold 16-bit PCM: samples beyond [-1, 1] are clipped,
    the others are rounded so that a 16-bit file that is loaded and saved again is the same to the bit.

        with new_audio_file("talk.wav", 16_000, num_channels=1) as writer:
            writer.write(block)

    Raises:
        AudioError: Nothing was written.
        WriteError: Unknown suffix, a file that exists while `overwrite` is False, a rate (Hz) or number of channels
            that the format does not take, a folder that can't be written, a full disk.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITE_FORMATS:
        raise WriteError(f"can't write {path}: its suffix must be one of {' '.join(WRITE_FORMATS)}")
    with new_path(path, overwrite=overwrite) as partial:
        writer = AudioWriter(path, partial, sample_rate, num_channels)
        try:
            yield writer
        except BaseException:
            with contextlib.suppress(sf.LibsndfileError):  # the first error counts
                writer.file.close()
            raise
        writer.finish()


class AudioWriter:
    """An audio file that is being written, see `new_audio_file`.

    Args:
        path: The name that it is going to have; its suffix decides the format.
        partial: The name that it has until then.
        sample_rate: In Hz.
        num_channels: C.
    """

    def __init__(self, path: Path, partial: Path, sample_rate: int, num_channels: int) -> None:
        self.path, self.partial = path, partial
        self.num_samples = 0
        container, self.encoding = WRITE_FORMATS[path.suffix.lower()]
        try:
            self.file: Any = sf.SoundFile(
                _native(partial), "w", sample_rate, num_channels, self.encoding, format=container
            )
        except sf.LibsndfileError as error:
            what = f"{num_channels} channels at {sample_rate} Hz as {self.encoding}"
            remedy = "try .wav, and see that the disk is not full"
            raise WriteError(f"can't write {path}: {what} ({error.error_string}); {remedy}") from error

    def write(self, block: Block) -> None:
        """Append a block `[C, n]`.

        Raises:
            AudioError: The block has another number of channels, or holds NaN or Inf.
            WriteError: The disk is full.
        """
        if block.ndim != 2 or block.shape[0] != self.file.channels:
            raise AudioError(f"can't write a block of shape {block.shape}; expected [{self.file.channels}, n]")
        _check_finite(block, self.num_samples, self.file.samplerate, f"the audio for {self.path}")
        # libsndfile's Vorbis encoder keeps a whole write on its stack: a long block would overflow it.
        for start in range(0, block.shape[1], _BLOCK_SAMPLES):
            piece = block[:, start : start + _BLOCK_SAMPLES].clip(-1, 1)
            with self._disk_errors():
                self.file.write((to_pcm16(piece) if self.encoding == "PCM_16" else piece).T)
        self.num_samples += block.shape[1]

    def finish(self) -> None:
        """Close the file and check that it holds what was written.

        Encoders report a full disk late or never, and the sizes in a WAV wrap at 4 GiB.

        Raises:
            AudioError: Nothing was written.
            WriteError: The file has another length, or the disk is full.
        """
        with self._disk_errors():
            self.file.close()
            if self.num_samples == 0:
                raise AudioError(f"can't write {self.path}: there are no samples")
            num_written = sf.info(_native(self.partial)).frames
        if num_written != self.num_samples:
            lengths = f"{num_written} samples long, not {self.num_samples}"
            raise WriteError(f"{self.path} came out {lengths}; is the disk full? a long file: try .flac")

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except sf.LibsndfileError as error:
            raise WriteError(f"can't write {self.path} ({error.error_string}); is the disk full?") from error


def to_pcm16(block: Block) -> npt.NDArray[np.int16]:
    """Round to 16 bits and clip to [-1, 1]: libsndfile reads k as k / 32768, but writes x as 32767 * x."""
    return np.rint(block * 32768).clip(-32768, 32767).astype(np.int16)


def _native(path: Path) -> str | bytes:
    """A file name as soundfile takes every name: it can't encode a `str` that is not of the locale."""
    return str(path) if os.name == "nt" else os.fsencode(path)


class _ForwardFile(sf.SoundFile):  # type: ignore[misc]
    """A file that is read without seeking after every read; `seek` still works.

    `SoundFile.read` of a seekable file seeks to its own position after every read. That makes the samples of an Opus
    file depend on the block size, and fails at the end of a FLAC stream of unknown length.
    """

    def seekable(self) -> bool:
        return False


@contextlib.contextmanager
def _open(path: Path, *, every_page: bool = False) -> Iterator[_ForwardFile]:
    """Open for reading, after all checks that need no decoding; `every_page` reads all of an Ogg file for them."""
    try:
        with path.open("rb") as stream:
            num_bytes = os.fstat(stream.fileno()).st_size
            if num_bytes == 0:
                raise AudioError(f"{path} is empty (0 bytes); leave it out, or get it again")
            if stream.read(4) == b"OggS":
                check_ogg_end(path, stream, num_bytes)
                if every_page:
                    check_ogg_pages(path, stream)
            open_size_at = check_sizes(path, stream, num_bytes)
    except OSError as error:
        raise AudioError(f"can't read {path}: {error.strerror}; give a readable audio file") from error
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(OpenEndedWav(path, open_size_at)) if open_size_at else _native(path)
            file = stack.enter_context(_ForwardFile(source))
        # TypeError: soundfile takes .raw for samples without a header and asks for their layout.
        except (sf.LibsndfileError, TypeError) as error:
            remedy = "if it is audio, convert it to .wav or .flac with ffmpeg"
            raise AudioError(f"{path} is not audio, damaged, or in an unknown format; {remedy}") from error
        if file.frames == 0:
            raise AudioError(f"{path} holds no samples; leave it out")
        yield file


def _read(path: Path, file: _ForwardFile, num_samples: int, position: int) -> Block:
    """Read the next block `[C, n]`, n <= num_samples and 0 at the end; `position` is its first sample."""
    with _decoding_errors(path, position / file.samplerate):
        block: Block = file.read(num_samples, dtype="float32", always_2d=True).T
    _check_finite(block, position, file.samplerate, str(path))
    return np.ascontiguousarray(block)


def _check_finite(block: Block, position: int, sample_rate: int, name: str) -> None:
    is_finite = np.isfinite(block).all(axis=0)
    if not is_finite.all():
        second = (position + int(is_finite.argmin())) / sample_rate
        raise AudioError(f"{name} has NaN or Inf at {second:.3f} s; repair what made it")


@contextlib.contextmanager
def _decoding_errors(path: Path, second: float) -> Iterator[None]:
    try:
        yield
    except sf.LibsndfileError as error:
        raise bad(path, "truncated or damaged", f"after {second:.1f} s: {error.error_string}") from error
