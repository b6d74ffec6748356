"""Is an audio file whole? Checks on the bytes of WAV, AIFF and Ogg files that libsndfile does not make."""

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

from codec.errors import AudioError

_MAX_OGG_PAGE_BYTES = 27 + 255 + 255 * 255  # RFC 3533, section 6


def check_sizes(path: Path, stream: BinaryIO, num_bytes: int) -> int | None:
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
            raise truncated(path, f"{size} bytes of samples promised, {num_bytes - start} found")
        return None
    return None


def check_ogg_end(path: Path, stream: BinaryIO, num_bytes: int) -> None:
    """Check that the last Ogg page is whole and has the end-of-stream flag (RFC 3533, section 6)."""
    stream.seek(max(0, num_bytes - _MAX_OGG_PAGE_BYTES))
    tail = stream.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    is_last = len(page) >= 27 and bool(page[5] & 4)
    if not is_last or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        raise truncated(path, "its last page is not an end of stream")


class OpenEndedWav(io.FileIO):
    """A WAV whose writer never filled in the size of the data chunk: libsndfile is shown "unknown", not 0."""

    def __init__(self, path: Path, size_at: int) -> None:
        super().__init__(path)
        self._size_at = size_at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, with the size of the data chunk overwritten."""
        first = self._size_at - self.tell()
        num_bytes = super().readinto(buffer)
        for at in range(max(first, 0), min(first + 4, num_bytes)):
            buffer[at : at + 1] = b"\xff"
        return num_bytes


def truncated(path: Path, reason: str) -> AudioError:
    """Make the error for a file that ends too early."""
    return AudioError(f"{path} is truncated ({reason}); get it again, or save what is there with ffmpeg")
