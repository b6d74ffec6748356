"""Read a `.codec` file chunk by chunk: all of it, or by its index only the chunks of a part."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec.bitstream.chunks import SYNC, make_chunk, make_tail
from codec.bitstream.header import CHUNK_OVERHEAD, HEADER_BYTES, MAX_CHUNKS, Frames, Header, describe_lost, tail_bytes
from codec.bitstream.payload import Codes, payloads_of
from codec.bitstream.rans import EntropyCoder
from codec.errors import BitstreamError

_SCAN_BYTES = 2**16
# A pass over a file of n bytes computes checksums of at most this many times n bytes. A hostile file of overlapping
# chunks would need n^2; an ordinary damaged file needs n or 2 n.
_CHECKSUM_PASSES = 8
# What is salvaged may be this many times as long as what the file could hold, packed; the remainder is silence.
_MAX_EXPANSION = 64


def _read_index(file: BinaryIO, header: Header) -> NDArray[np.int64] | None:
    """Sizes of the chunks of a file (bytes) from its index; None if that is damaged or missing."""
    start = file.seek(0, io.SEEK_END) - tail_bytes(header.num_chunks)
    if start < HEADER_BYTES:
        return None
    file.seek(start)
    tail = file.read()
    sizes = np.frombuffer(tail, "<u4", header.num_chunks, offset=8).astype(np.int64)
    return sizes if HEADER_BYTES + int(sizes.sum()) == start and tail == make_tail(sizes.tolist()) else None


def read_complete_header(file: BinaryIO) -> Header:
    """Read the header of a file that was written to its end; its chunks are not read.

    Raises:
        BitstreamError: The header is unusable, or the index or the end mark is damaged, missing or of another length.
    """
    header = Header.from_file(file)
    if not header.num_samples or _read_index(file, header) is None:
        raise BitstreamError("the file is not complete: its index is damaged or missing")
    return header


class _Chunk(NamedTuple):
    """An intact chunk."""

    number: int
    codes: Codes
    size: int
    """Bytes of the whole chunk."""


class BitstreamReader:
    """Reads a file chunk by chunk, in constant memory; only damaged chunks are lost.

    Iterating yields (first frame, codes [C, K, f]) of each intact chunk from the current position on.

    Attributes:
        header: The file's header. If the file was never closed, num_samples is computed from its chunks.
        is_closed: Whether the file was closed by its writer.
        num_bytes: Bytes of the file.
        chunk_bytes: Bytes of the chunk that was yielded last, as it stands in the file.

    Args:
        file: Seekable, opened for reading in binary; the .codec file starts at its first byte.
        coder: Entropy coder of the model that made the file; packed files need none.

    Raises:
        BitstreamError: The header is unusable, or needs a coder that is not given or does not fit.
    """

    def __init__(self, file: BinaryIO, coder: EntropyCoder | None = None) -> None:
        self._file = file
        self.num_bytes = file.seek(0, io.SEEK_END)
        self.header = Header.from_file(file)
        self._payloads = payloads_of(self.header, coder)
        self.is_closed = self.header.num_samples > 0
        if not self.is_closed:
            self._recover_length()
        self.seek(0)

    def __iter__(self) -> Iterator[tuple[int, Codes]]:
        return self._chunks_before(self.header.num_chunks)

    @property
    def lost(self) -> tuple[Frames, ...]:
        """Frame ranges (first, one past the last) found lost since the last `seek`, or since the start."""
        return tuple(self._lost)

    @property
    def has_index(self) -> bool:
        """Whether the index at the end of the file is intact."""
        return self._offsets is not None

    def seek(self, frame: int) -> None:
        """Go to the chunk that holds `frame`: by the index or, if that is damaged, by scanning the file.

        Raises:
            BitstreamError: The frame is not in the file.
        """
        if not 0 <= frame < self.header.num_frames:
            raise BitstreamError(f"frame {frame} is outside 0..{self.header.num_frames - 1}")
        self._lost: list[Frames] = []
        self._checksummed = 0
        self._number = frame // self.header.frames_per_chunk
        self._offset = HEADER_BYTES
        if self._number and self._offsets is not None:
            offset = int(self._offsets[self._number])
            self._offset = offset if self._chunk_at(offset) else HEADER_BYTES

    def intact(self) -> Iterator[tuple[int, Codes]]:
        """Yield the chunks of the whole file, and raise at the end if any byte is not as it was written.

        Chunks after a damaged one are read, to report everything that is lost, but not yielded.

        Raises:
            BitstreamError: A chunk, the index or the trailer is damaged or missing, or there are additional bytes.
        """
        self.seek(0)
        sizes = []
        for chunk in self._undamaged(self):
            sizes.append(self.chunk_bytes)
            yield chunk
        self._check_closed()
        tail = make_tail(sizes)
        tail_at = HEADER_BYTES + sum(sizes)
        if (surplus := self.num_bytes - tail_at - len(tail)) > 0:
            raise BitstreamError(f"{surplus} bytes too many, no codes are lost", salvage=True)
        if self._read(tail_at, len(tail)) != tail:
            raise BitstreamError("the index is damaged, no codes are lost", salvage=True)

    def salvaged(self) -> Iterator[tuple[int, Codes]]:
        """Yield the intact chunks of the whole file; `lost` names the others at the end.

        Raises:
            BitstreamError: No chunk is intact, or the header claims far more than a file of this size can hold.
        """
        yield from self._salvaged(0, self.header.num_frames)

    def part(self, first: int, stop: int, *, salvage: bool = False) -> Iterator[tuple[int, Codes]]:
        """Yield the chunks that hold the frames first .. stop - 1, found by the index; the others are not read.

        Args:
            first: First frame.
            stop: One past the last frame, at most num_frames.
            salvage: Leave out damaged chunks, which `lost` names at the end, and scan a file without index. By default
                both are errors. Damage of other chunks is not noticed.

        Raises:
            BitstreamError: The frame is not in the file, or damage as above; with `salvage`, as of `salvaged`.
        """
        if salvage:
            yield from self._salvaged(first, stop)
            return
        self._check_closed()
        if not self.has_index:
            raise BitstreamError("the index, which finds the part, is damaged or missing", salvage=True)
        self.seek(first)
        yield from self._undamaged(self._chunks_before(self.header.chunks_before(stop)))

    def _undamaged(self, chunks: Iterable[tuple[int, Codes]]) -> Iterator[tuple[int, Codes]]:
        """Yield chunks up to the first damage; the others are read, and the error at the end names all that is lost."""
        for chunk in chunks:
            if not self._lost:
                yield chunk
        if self._lost:
            raise BitstreamError(describe_lost(self.header, self._lost), salvage=True)

    def chunks(self, part: Frames | None, *, salvage: bool = False) -> Iterator[tuple[int, Codes]]:
        """Yield the chunks of a part, see `part`, or of the whole file if it is None, see `intact` and `salvaged`."""
        if part is not None:
            return self.part(*part, salvage=salvage)
        return self.salvaged() if salvage else self.intact()

    def _check_closed(self) -> None:
        if not self.is_closed:
            raise BitstreamError(
                f"the file was never closed; it holds {self.header.duration_s:.2f} s of audio", salvage=True
            )

    def _salvaged(self, first: int, stop: int) -> Iterator[tuple[int, Codes]]:
        header = self.header
        if header.payload_bytes(header.num_frames) > _MAX_EXPANSION * self.num_bytes:
            claim = f"{header.num_samples} samples ({header.duration_s:.0f} s)"
            raise BitstreamError(f"the header claims {claim}, far more than {self.num_bytes} bytes can hold")
        self.seek(first)
        chunk = None
        for chunk in self._chunks_before(header.chunks_before(stop)):
            yield chunk
        if chunk is None:
            raise BitstreamError("no chunk is intact: nothing can be decoded")

    def _chunks_before(self, end: int) -> Iterator[tuple[int, Codes]]:
        """Yield the intact chunks from the current position up to the chunk number `end`, which is not read."""
        chunk_frames = self.header.frames_per_chunk
        while self._number < end:
            expected = self._number
            codes = self._next_chunk()
            if self._number > expected:
                stop = min(min(self._number, end) * chunk_frames, self.header.num_frames)
                self._lost.append((expected * chunk_frames, stop))
            if codes is not None and self._number < end:
                self._number += 1
                yield (self._number - 1) * chunk_frames, codes

    @cached_property
    def _offsets(self) -> NDArray[np.int64] | None:
        """Offset of every chunk; None if the index is damaged or missing."""
        sizes = _read_index(self._file, self.header)
        return None if sizes is None else HEADER_BYTES + np.cumsum(sizes) - sizes

    def _read(self, offset: int, num_bytes: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(max(0, min(num_bytes, self.num_bytes - offset)))

    def _recover_length(self) -> None:
        """Compute num_samples of a file that was never closed from its last chunk."""
        header = self.header
        self.header = replace(header, num_samples=header.samples_in(MAX_CHUNKS * header.frames_per_chunk))
        self.seek(0)
        num_frames = 0
        for first, codes in self:
            num_frames = first + codes.shape[2]
        self.header = replace(header, num_samples=header.samples_in(num_frames))

    def _next_chunk(self) -> Codes | None:
        """Move to the next intact chunk and return its codes; None at the end of the file."""
        for offset in self._syncs():
            if (found := self._chunk_at(offset)) is not None:
                self._number, codes, self.chunk_bytes = found
                self._offset = offset + self.chunk_bytes
                return codes
            if self._checksummed > _CHECKSUM_PASSES * self.num_bytes:
                break
        self._number = self.header.num_chunks
        return None

    def _syncs(self) -> Iterator[int]:
        """Yield the offset where the next chunk should be, then the offset of every sync after it."""
        yield self._offset
        offset = self._offset + 1
        while len(window := self._read(offset, _SCAN_BYTES)) >= len(SYNC):
            at = window.find(SYNC)
            while at >= 0:
                yield offset + at
                at = window.find(SYNC, at + 1)
            offset += len(window) - 1

    def _chunk_at(self, offset: int) -> _Chunk | None:
        """Return the intact chunk at an offset, or None."""
        start = self._read(offset, CHUNK_OVERHEAD)
        number, size = int.from_bytes(start[2:5], "little"), int.from_bytes(start[5:8], "little")
        if start[:2] != SYNC or not self._number <= number < self.header.num_chunks:
            return None
        num_frames = self.header.chunk_frames(number)
        if size not in self._payloads.sizes(num_frames):
            return None
        self._checksummed += CHUNK_OVERHEAD + size
        payload = self._read(offset + CHUNK_OVERHEAD, size)
        if len(payload) < size or make_chunk(number, payload)[:CHUNK_OVERHEAD] != start:
            return None
        try:
            codes = self._payloads.decode(payload, num_frames)
        except BitstreamError:  # forged, or coded with other tables
            self._checksummed += 8 * size  # decoding takes longer than a checksum
            return None
        return _Chunk(number, codes, CHUNK_OVERHEAD + size)
