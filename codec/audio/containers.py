"""Checks that audio files are complete and undamaged: libsndfile reads truncated ones and bad Ogg without an error."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from codec.errors import AudioError


class Chunks(NamedTuple):
    """How a container stores its chunks."""

    first: int
    """Offset of the first chunk."""
    header: str
    """Struct of a chunk's header: the first four bytes of its name, its size."""
    size_from: int = 0
    """Bytes of the header that the size includes."""
    alignment: int = 2
    """Chunks start at multiples of this (bytes)."""


CHUNKS = {
    b"RIFF": Chunks(12, "<4sI"),
    b"RIFX": Chunks(12, ">4sI"),
    b"RF64": Chunks(12, "<4sI"),
    b"FORM": Chunks(12, ">4sI"),
    b"riff": Chunks(40, "<4s12xQ", size_from=24, alignment=8),  # Wave64: names are GUIDs of 16 bytes
    b"caff": Chunks(8, ">4sQ", alignment=1),
}
"""Containers of chunks by their first four bytes: WAV, AIFF, Wave64, CAF."""
AU_ORDERS = {b".snd": ">", b"dns.": "<"}
"""Byte orders of AU by its first four bytes."""
SAMPLES = (b"data", b"SSND")
"""Names of the chunk of samples."""

_MAX_OGG_PAGE_BYTES = 27 + 255 + 255 * 255  # RFC 3533, section 6
_BEGINS, _ENDS = 2, 4  # flags of an Ogg page: first and last of its stream
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_sizes(path: Path, stream: BinaryIO, num_bytes: int) -> int | None:
    """Check that a WAV, AIFF, Wave64, CAF or AU file holds as many bytes of samples as its header says.

    Returns:
        The offset of the size of the samples if the writer left it at 0, as writers to a pipe do; else None.

    Raises:
        AudioError: The file is shorter.
    """
    stream.seek(0)
    magic, form = stream.read(4), stream.read(20).ljust(20, b"\0")
    if magic in AU_ORDERS:
        start, size = struct.unpack(AU_ORDERS[magic] + "II", form[:8])
        _check_size(path, start, size, num_bytes)
    if magic not in CHUNKS:
        return None
    chunks, long_size = CHUNKS[magic], 0
    header_bytes = struct.calcsize(chunks.header)
    stream.seek(chunks.first)
    while len(header := stream.read(header_bytes)) == header_bytes:
        name, size = struct.unpack(chunks.header, header)
        start = stream.tell()
        size = max(0, size - chunks.size_from)
        if name == b"ds64":  # RF64 (EBU Tech 3306): the size of the samples as 64 bits
            _, long_size = struct.unpack("<QQ", stream.read(16).ljust(16, b"\0"))
        if name in SAMPLES and size == 0 and header_bytes == 8:
            (form_size,) = struct.unpack(chunks.header[0] + "I", form[:4])
            return start - 4 if form_size + 8 != num_bytes else None
        if name in SAMPLES:
            _check_size(path, start, long_size if magic == b"RF64" and size == 0xFFFFFFFF else size, num_bytes)
            return None
        if start + size > num_bytes:
            return None  # no samples: libsndfile refuses the file
        stream.seek(start + size + -size % chunks.alignment)
    return None


def _check_size(path: Path, start: int, size: int, num_bytes: int) -> None:
    # A writer to a pipe does not know the size and states the largest: ffmpeg almost 4 GiB (CAF 2^64 - 1, Wave64
    # 2^63 - 1), sox and arecord 2 GiB.
    is_streamed = 0xFFFFFF00 <= size <= 0xFFFFFFFF or 0x7FFFF000 <= size <= 0x80000000 or size >= 2**63 - 25
    if start + size > num_bytes and not is_streamed:
        raise bad(path, "truncated", f"{size} bytes of samples promised, {max(0, num_bytes - start)} found")


def check_ogg_end(path: Path, stream: BinaryIO, num_bytes: int) -> None:
    """Check that the last Ogg page is complete, ends its stream, and that this stream begins at the start of the file.

    RFC 3533, section 6. This reads two or three pages; `check_ogg_pages` reads all.

    Raises:
        AudioError: The file is truncated, or holds several streams, one after the other.
    """
    stream.seek(max(0, num_bytes - _MAX_OGG_PAGE_BYTES))
    tail = stream.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    is_last = len(page) >= 27 and bool(page[5] & _ENDS)
    if not is_last or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        raise bad(path, "truncated", "its last page is not an end of stream")
    beginnings = itertools.takewhile(lambda page: page.begins, _ogg_pages(stream))
    if page[14:18] not in {beginning.serial for beginning in beginnings}:
        raise _chained(path)


def check_ogg_pages(path: Path, stream: BinaryIO) -> None:
    """Read all Ogg pages: check that none is damaged, and that no stream begins after another has ended.

    libsndfile skips damaged pages, and reads the first of several streams that follow each other (chained Ogg). Streams
    side by side, such as sound and cover, begin together and are accepted. Bytes after the last page are ignored.

    Raises:
        AudioError: A page is damaged, or several streams follow each other.
    """
    num_open, end, only_beginnings = 0, 0, True
    for page in _ogg_pages(stream):
        if not page.is_intact:
            raise bad(path, "damaged", f"wrong checksum of the Ogg page at byte {end}")
        if page.begins and not only_beginnings:
            raise _chained(path)
        only_beginnings = page.begins
        num_open += page.begins - page.ends
        end += page.num_bytes
    if num_open:
        raise bad(path, "damaged", f"no Ogg page at byte {end}")


class _OggPage(NamedTuple):
    begins: bool
    """Whether it is the first of its stream."""
    ends: bool
    """Whether it is the last of its stream."""
    serial: bytes
    """Number of its stream."""
    is_intact: bool
    """Whether its checksum is right."""
    num_bytes: int


def _ogg_pages(stream: BinaryIO) -> Iterator[_OggPage]:
    """Read pages from the start of the file, as long as one follows another."""
    stream.seek(0)
    while len(header := stream.read(27)) == 27 and header[:4] == b"OggS":
        sizes = stream.read(header[26])
        page = header + sizes + stream.read(sum(sizes))
        is_intact = ogg_checksum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")
        yield _OggPage(bool(page[5] & _BEGINS), bool(page[5] & _ENDS), page[14:18], is_intact, len(page))


def _chained(path: Path) -> AudioError:
    return AudioError(f"{path} holds several Ogg streams, one after the other; convert it to .wav with ffmpeg")


def ogg_checksum(page: bytes) -> int:
    """CRC-32 of an Ogg page whose checksum is set to 0 (RFC 3533, section 6).

    Its polynomial is that of zlib, but it takes the high bit of each byte first, starts at 0 and is not inverted.
    """
    crc = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(_REVERSED_BITS), "big")


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


def bad(path: Path, kind: str, reason: str) -> AudioError:
    """Make the error for a file that is "truncated" or "damaged"."""
    return AudioError(f"{path} is {kind} ({reason}); get it again, or save what is there with ffmpeg")
