"""Checks that WAV, AIFF and Ogg files are complete: libsndfile reads a truncated one without an error."""

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

from codec.errors import AudioError

_MAX_OGG_PAGE_BYTES = 27 + 255 + 255 * 255  # RFC 3533, section 6


def check_sizes(path: Path, stream: BinaryIO, num_bytes: int) -> int | None:
    """Check that a WAV or AIFF file holds as many bytes of samples as its header says.

    Returns:
        The offset of the size of the data chunk if the writer left it at 0, else None.

    Raises:
        AudioError: The file is shorter.
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
        # A writer to a pipe does not know the size and states the largest: ffmpeg almost 4 GiB, sox and arecord 2 GiB.
        is_streamed = size >= 0xFFFFFF00 or 0x7FFFF000 <= size <= 0x80000000
        if start + size > num_bytes and not is_streamed:
            raise truncated(path, f"{size} bytes of samples promised, {num_bytes - start} found")
        return None
    return None


def check_ogg_end(path: Path, stream: BinaryIO, num_bytes: int) -> None:
    """Check that the last Ogg page is complete and has the end-of-stream flag (RFC 3533, section 6).

    Raises:
        AudioError: It is not.
    """
    stream.seek(max(0, num_bytes - _MAX_OGG_PAGE_BYTES))
    tail = stream.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    is_last = len(page) >= 27 and bool(page[5] & 4)
    if not is_last or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        raise truncated(path, "its last page is not an end of stream")


class OpenEndedWav(io.FileIO):
    """A WAV file whose writer left the size of the data chunk at 0: it reads as 0xFFFFFFFF, which means unknown."""

    def __init__(self, path: Path, size_at: int) -> None:
        super().__init__(path)
        self._size_at = size_at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, with the size of the data chunk replaced."""
        first = self._size_at - self.tell()
        num_bytes = super().readinto(buffer)
        for at in range(max(first, 0), min(first + 4, num_bytes)):
            buffer[at : at + 1] = b"\xff"
        return num_bytes


def truncated(path: Path, reason: str) -> AudioError:
    """Make the error for a file that ends too early."""
    return AudioError(f"{path} is truncated ({reason}); get it again, or save what is there with ffmpeg")
