"""Audio files to audio and back, the first and the last arrow of the data walk.

    in.wav --load_audio--> audio [1, C, T]   ...   audio [1, C, T] --save_audio--> in.decoded.wav

Files are read and written block by block. This is the only module that knows soundfile (libsndfile) and soxr.
C channels, T samples of a whole, n or m samples of a block; float32, nominally in [-1, 1].
"""

import contextlib
import io
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr
import torch

from codec.errors import AudioError

StrPath = str | os.PathLike[str]
Block = npt.NDArray[np.float32]  # [C, n]

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
_UNKNOWN_LENGTH = 2**63 - 1  # what libsndfile says of a FLAC stream whose header holds no length
_MAX_OGG_PAGE_BYTES = 27 + 255 + 255 * 255  # RFC 3533, section 6


class AudioInfo(NamedTuple):
    """What the header of an audio file says: rate (Hz), channels, samples of one channel."""

    sample_rate: int
    num_channels: int
    num_samples: int


def read_info(path: StrPath) -> AudioInfo:
    """Read rate, channels and length; decodes the file only if its header holds no length (piped FLAC).

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
        Audio `[1, C, T]`, float32. Integer formats are scaled to [-1, 1), float formats taken as they are.

    Raises:
        AudioError: As for `iterate_blocks`.
    """
    blocks = list(iterate_blocks(path, _BLOCK_SAMPLES, sample_rate))
    return torch.from_numpy(np.concatenate(blocks, axis=1))[None]


def iterate_blocks(path: StrPath, block_samples: int, sample_rate: int | None = None) -> Iterator[Block]:
    """Yield a file in blocks `[C, n]` that, concatenated, are `load_audio(path, sample_rate)[0]` bit for bit.

    Args:
        path: Any format that libsndfile reads.
        block_samples: Samples to read at a time, at the file's own rate; bounds the memory in use.
        sample_rate: Rate of the blocks (Hz); the file's own if None.

    Raises:
        AudioError: The file is missing, not audio, truncated, damaged, without samples, or holds NaN or Inf;
            what only decoding shows is raised when the iteration gets there. Truncation is found in WAV,
            AIFF, FLAC and Ogg, not in MP3.
    """
    path = Path(path)
    if block_samples < 1:
        raise AudioError(f"block_samples is {block_samples}; give at least 1")
    with _open(path) as file:
        resampler = Resampler(file.samplerate, sample_rate or file.samplerate, file.channels)
        num_samples = 0
        while (block := _read(path, file, block_samples, num_samples)).shape[1]:
            num_samples += block.shape[1]
            if (resampled := resampler.push(block)).shape[1]:
                yield resampled
        # The length of an MP3 without a Xing header is an estimate and proves nothing.
        length_is_exact = file.frames != _UNKNOWN_LENGTH and file.format != "MP3"
        if num_samples < (file.frames if length_is_exact else 1):
            raise _truncated(path, f"{file.frames} samples", num_samples)
        if (tail := resampler.flush()).shape[1]:
            yield tail


def read_segment(path: StrPath, start: int, num_samples: int) -> Block:
    """Read samples `start` to `start + num_samples` by seeking, at the file's own rate.

    The result equals that slice of the whole file: exactly for WAV, FLAC and AIFF; for Opus and MP3 to about
    1e-3, since a decoder that starts in the middle has another past; in the last page of an Ogg Vorbis file
    it can be some milliseconds off (libsndfile's seek).

    Returns:
        Segment `[C, num_samples]`.

    Raises:
        AudioError: The file can't be read or does not hold these samples.
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
        raise _truncated(path, f"{end} samples", start + segment.shape[1])
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


class Resampler:
    """Resample a stream of blocks; the result does not depend, to the bit, on where the blocks are cut.

    Output sample m lies at input sample m * from_rate / to_rate: soxr's filter is linear-phase and its delay
    is taken out, so early pushes return little or nothing and `flush` the rest. Equal rates pass blocks
    through untouched. Quality is soxr's VHQ: precise to 28 bits, more than float32 holds, in 1.1 to 1.4 times
    the time of HQ (20 bits), which is thousands of times real time either way.

    Raises:
        AudioError: A rate (Hz) or the number of channels is below 1.
    """

    def __init__(self, from_rate: int, to_rate: int, num_channels: int) -> None:
        if min(from_rate, to_rate, num_channels) < 1:
            what = f"{num_channels} channels from {from_rate} to {to_rate} Hz"
            raise AudioError(f"can't resample {what}; all three must be at least 1")
        self.from_rate, self.to_rate, self.num_channels = from_rate, to_rate, num_channels
        self._stream = soxr.ResampleStream(from_rate, to_rate, num_channels, dtype="float32", quality="VHQ")
        self._num_pushed = self._num_returned = 0

    def push(self, block: Block) -> Block:
        """Take the next block `[C, n]`, return the samples `[C, m]` that are ready; m may be 0."""
        if self.from_rate == self.to_rate:
            return block
        self._num_pushed += block.shape[1]
        resampled = self._process(block, last=False)
        self._num_returned += resampled.shape[1]
        return resampled

    def flush(self) -> Block:
        """End the stream, return its remaining samples `[C, m]`: ceil(n * to_rate / from_rate) in all."""
        if self.from_rate == self.to_rate:
            return np.zeros((self.num_channels, 0), np.float32)
        # soxr rounds the total to the nearest; one output sample's worth of zeros makes it reach the ceiling.
        num_zeros = self.from_rate // self.to_rate + 1
        tail = self._process(np.zeros((self.num_channels, num_zeros), np.float32), last=True)
        total = -(-self._num_pushed * self.to_rate // self.from_rate)
        return tail[:, : total - self._num_returned]

    def _process(self, block: Block, last: bool) -> Block:
        frames = np.ascontiguousarray(block.T, dtype=np.float32)
        return np.ascontiguousarray(self._stream.resample_chunk(frames, last=last).T)


def resample(audio: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """Resample audio `[..., T]` to `[..., ceil(T * to_rate / from_rate)]`, float32, on the same device."""
    if from_rate == to_rate or not audio.numel():
        return audio.float()
    block = audio.detach().float().cpu().reshape(-1, audio.shape[-1]).numpy()
    resampler = Resampler(from_rate, to_rate, len(block))
    resampled = np.concatenate([resampler.push(block), resampler.flush()], axis=1)
    return torch.from_numpy(resampled).reshape(*audio.shape[:-1], -1).to(audio.device)


def save_audio(path: StrPath, audio: torch.Tensor, sample_rate: int, *, overwrite: bool = False) -> None:
    """Save audio `[1, C, T]`, `[C, T]` or `[T]` with the guarantees of `AudioWriter`.

    Raises:
        AudioError: The audio has another shape; else as for `AudioWriter`.
    """
    if audio.ndim not in (1, 2, 3) or (audio.ndim == 3 and audio.shape[0] != 1):
        raise AudioError(f"can't save audio of shape {list(audio.shape)}; give [1, C, T], [C, T] or [T]")
    block = torch.atleast_2d(audio[0] if audio.ndim == 3 else audio).detach().float().cpu().numpy()
    with AudioWriter(path, sample_rate, len(block), overwrite=overwrite) as writer:
        writer.write(block)


class AudioWriter:
    """Write an audio file block by block; a context manager.

    The suffix decides the format (`WRITE_FORMATS`). WAV and FLAC hold 16-bit PCM: samples beyond [-1, 1] are
    clipped, the rest is rounded so that a 16-bit file loaded and saved again is the same to the bit. The file
    appears under its name complete or not at all: it is written under a hidden name in the same folder, then
    checked and renamed, or removed when anything fails. Parent folders are created.

        with AudioWriter("talk.wav", 16_000, num_channels=1) as writer:
            writer.write(block)

    Raises:
        AudioError: Unknown suffix, a file that is there and may not be overwritten, a rate (Hz) or number of
            channels that the format does not take, a folder that can't be written, a full disk.
    """

    def __init__(
        self, path: StrPath, sample_rate: int, num_channels: int, *, overwrite: bool = False
    ) -> None:
        self.path = Path(path)
        self.sample_rate, self.num_channels, self.overwrite = sample_rate, num_channels, overwrite
        if self.path.suffix.lower() not in WRITE_FORMATS:
            raise AudioError(f"can't write {self.path}: its suffix must be one of {' '.join(WRITE_FORMATS)}")
        self._container, self._encoding = WRITE_FORMATS[self.path.suffix.lower()]
        self._refuse_overwriting()
        self._temporary = self.path.with_name(f".{secrets.token_hex(8)}.partial")
        self._file: Any = None
        self._num_samples = 0

    def __enter__(self) -> Self:
        """Open the temporary file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch(exist_ok=False)  # tells a folder that can't be written from a wrong format
        except OSError as error:
            raise AudioError(f"can't write {self.path}: {error.strerror}; choose another folder") from error
        try:
            self._file = sf.SoundFile(
                self._temporary,
                "w",
                self.sample_rate,
                self.num_channels,
                self._encoding,
                format=self._container,
            )
        except sf.LibsndfileError as error:
            self._temporary.unlink()
            what = f"{self.num_channels} channels at {self.sample_rate} Hz as {self._encoding}"
            raise AudioError(f"can't write {self.path}: {what} ({error.error_string}); try .wav") from error
        return self

    def write(self, block: Block) -> None:
        """Append a block `[C, n]`.

        Raises:
            AudioError: The block has another number of channels, holds NaN or Inf, or the disk is full.
        """
        if block.ndim != 2 or block.shape[0] != self.num_channels:
            raise AudioError(f"can't write a block of shape {block.shape}; expected [{self.num_channels}, n]")
        _check_finite(block, self._num_samples, self.sample_rate, f"the audio for {self.path}")
        # libsndfile's Vorbis encoder keeps a whole write on its stack, so a long block goes in pieces.
        for start in range(0, block.shape[1], _BLOCK_SAMPLES):
            piece = block[:, start : start + _BLOCK_SAMPLES].clip(-1, 1)
            with self._disk_errors():
                self._file.write(self._to_pcm(piece).T)
        self._num_samples += block.shape[1]

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Check and rename the finished file, or remove it if the body of the `with` statement failed."""
        try:
            if error_type is not None:
                with contextlib.suppress(sf.LibsndfileError):
                    self._file.close()
                return
            with self._disk_errors():
                self._file.close()
                self._publish()
        finally:
            self._temporary.unlink(missing_ok=True)

    def _publish(self) -> None:
        if self._num_samples == 0:
            raise AudioError(f"can't write {self.path}: there are no samples")
        # Encoders report a full disk late or never, and the sizes in a WAV wrap at 4 GiB.
        num_written = sf.info(self._temporary).frames
        if num_written != self._num_samples:
            raise AudioError(
                f"{self.path} came out {num_written} samples long, not {self._num_samples}; try .flac"
            )
        self._refuse_overwriting()
        self._temporary.replace(self.path)

    def _refuse_overwriting(self) -> None:
        if self.path.is_dir():
            raise AudioError(f"{self.path} is a folder; give the name of a file")
        if self.path.exists() and not self.overwrite:
            raise AudioError(
                f"{self.path} is already there; remove it, choose another name or allow overwriting"
            )

    def _to_pcm(self, piece: Block) -> npt.NDArray[Any]:
        """Round to 16 bits ourselves: libsndfile reads k as k / 32768, but writes x as 32767 * x."""
        if self._encoding != "PCM_16":
            return piece
        return np.rint(piece * 32768).clip(-32768, 32767).astype(np.int16)

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except (sf.LibsndfileError, OSError) as error:
            raise AudioError(f"can't write {self.path} ({error}); is the disk full?") from error


class _ForwardFile(sf.SoundFile):  # type: ignore[misc]
    """A file that is read forward; `seek` still works.

    SoundFile.read follows every read by a seek to where it already is, which fails at the end of a FLAC
    stream of unknown length.
    """

    def seekable(self) -> bool:
        return False


class _OpenEndedWav(io.FileIO):
    """A WAV whose writer never filled in the size of the data chunk: libsndfile is shown "unknown", not 0."""

    def __init__(self, path: Path, size_at: int) -> None:
        super().__init__(path)
        self._size_at = size_at

    def readinto(self, buffer: Any) -> int:
        first = self._size_at - self.tell()
        num_bytes = super().readinto(buffer)
        for at in range(max(first, 0), min(first + 4, num_bytes)):
            buffer[at : at + 1] = b"\xff"
        return num_bytes


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_ForwardFile]:
    """Open for reading, after the checks that need no decoding."""
    try:
        with path.open("rb") as stream:
            num_bytes = os.fstat(stream.fileno()).st_size
            magic = stream.read(4)
            if magic == b"OggS":
                _check_ogg_end(path, stream, num_bytes)
            open_size_at = _check_sizes(path, stream, num_bytes) if magic in (b"RIFF", b"FORM") else None
    except OSError as error:
        raise AudioError(f"can't read {path}: {error.strerror}; give a readable audio file") from error
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(_OpenEndedWav(path, open_size_at)) if open_size_at else path
            file = stack.enter_context(_ForwardFile(source))
        except (
            sf.LibsndfileError,
            TypeError,
        ) as error:  # TypeError: soundfile takes .raw for samples without header
            problem = (
                "it is empty (0 bytes)" if num_bytes == 0 else "not audio, damaged, or an unsupported format"
            )
            raise AudioError(
                f"can't read {path}: {problem}; convert it to .wav or .flac with ffmpeg"
            ) from error
        if file.frames == 0:
            raise AudioError(f"{path} holds no samples; give a file of at least one")
        yield file


def _check_sizes(path: Path, stream: BinaryIO, num_bytes: int) -> int | None:
    """Check that the samples promised by a WAV or AIFF header are there (libsndfile does not mind).

    Returns:
        The offset of the data chunk's size if that is an unfilled 0, else None.
    """
    stream.seek(0)
    order = "<" if stream.read(4) == b"RIFF" else ">"
    (form_size,) = struct.unpack(order + "I", stream.read(4).ljust(4, b"\0"))
    stream.seek(12)
    while len(header := stream.read(8)) == 8:
        name, size = struct.unpack(order + "4sI", header)
        start = stream.tell()
        if name not in (b"data", b"SSND"):
            stream.seek(start + size + size % 2)
            continue
        if size == 0:
            return start - 4 if form_size + 8 != num_bytes else None
        # Writers to a pipe promise all there can be: ffmpeg just under 4 GiB, sox and arecord about 2 GiB.
        is_streamed = size >= 0xFFFFFF00 or 0x7FFFF000 <= size <= 0x80000000
        if start + size > num_bytes and not is_streamed:
            raise _truncated(path, f"{size} bytes of samples", num_bytes - start)
        return None
    return None


def _check_ogg_end(path: Path, stream: BinaryIO, num_bytes: int) -> None:
    """Check that the last Ogg page is whole and has the end-of-stream flag (RFC 3533, section 6)."""
    stream.seek(max(0, num_bytes - _MAX_OGG_PAGE_BYTES))
    tail = stream.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    num_segments = page[26] if len(page) > 26 else 255
    if not page[5:6] > b"\3" or len(page) < 27 + num_segments + sum(page[27 : 27 + num_segments]):
        raise _truncated(path, "an end-of-stream page", 0)


def _read(path: Path, file: _ForwardFile, num_samples: int, position: int) -> Block:
    """Read the next block `[C, n]`, n <= num_samples and 0 at the end; `position` is where it starts."""
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
        problem = f"damaged or truncated after {second:.1f} s ({error.error_string})"
        raise AudioError(f"{path} is {problem}; copy or download it again") from error


def _truncated(path: StrPath, promised: str, found: int) -> AudioError:
    return AudioError(
        f"{path} is truncated: it promises {promised} and holds {found}; copy or download it again"
    )
