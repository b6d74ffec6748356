"""Write a `.codec` file chunk by chunk (layout: codec/bitstream/__init__.py); `reader` reads it."""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from codec.bitstream.header import HEADER_BYTES, MAX_CHUNKS, Header
from codec.bitstream.payload import Codes, payloads_of
from codec.bitstream.rans import EntropyCoder
from codec.errors import BitstreamError

SYNC = b"\xc0\xde"
_INDEX_MARKER, _END_MARKER = b"INDX", b"CEND"


def as_codes(codes: ArrayLike, header: Header) -> Codes:
    """Check codes [C, K, f] against a header and return them as int64.

    Raises:
        BitstreamError: They are not integers, have another shape, or are outside 0..N-1.
    """
    array = np.asarray(codes)
    expected = (header.num_channels, header.num_quantizers)
    if array.dtype.kind not in "iu" or array.ndim != 3 or array.shape[:2] != expected:
        raise BitstreamError(
            f"codes must be integers [{expected[0]}, {expected[1]}, frames], got {array.dtype} {list(array.shape)}"
        )
    if array.size:
        worst = min(int(array.min()), 0) or int(array.max())
        if not 0 <= worst < header.codebook_size:
            raise BitstreamError(f"code {worst} is outside 0..{header.codebook_size - 1}, the entries of the codebook")
    return array.astype(np.int64, copy=False)


def check_length(header: Header, num_frames: int) -> None:
    """Raise BitstreamError unless the header's num_samples are coded in `num_frames` frames."""
    if header.num_samples < 1 or header.num_frames != num_frames:
        raise BitstreamError(
            f"{num_frames} frames do not fit num_samples {header.num_samples} at {header.sample_rate} Hz, "
            f"which makes {header.num_frames} frames of {header.hop_length} at {header.model_sample_rate} Hz "
            f"with a delay of {header.delay}"
        )


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def make_chunk(number: int, payload: bytes) -> bytes:
    """Return the chunk of this number with its sync and checksum."""
    about = number.to_bytes(3, "little") + len(payload).to_bytes(3, "little")
    return SYNC + about + _u32(zlib.crc32(payload, zlib.crc32(about))) + payload


def make_tail(sizes: Sequence[int]) -> bytes:
    """Return index and trailer of a file whose chunks have these sizes (bytes)."""
    index = struct.pack(f"<I{len(sizes)}I", len(sizes), *sizes)
    offset = (HEADER_BYTES + sum(sizes)).to_bytes(8, "little")
    return _INDEX_MARKER + index + _u32(zlib.crc32(index)) + offset + _u32(zlib.crc32(offset)) + _END_MARKER


class BitstreamWriter:
    """Writes codes to a file block by block, in constant memory.

    Args:
        file: Empty, seekable, opened for writing in binary. `close` writes the header again.
        header: Describes the codes; its num_samples is not used.
        coder: Entropy coder of the model, if the header's payload kind is entropy-coded.

    Raises:
        BitstreamError: The file can't seek, or the header needs a coder that is not given or does not fit.
    """

    def __init__(self, file: BinaryIO, header: Header, coder: EntropyCoder | None = None) -> None:
        if not file.seekable():
            raise BitstreamError("a .codec file can't be written to a pipe, its header is completed last: name a file")
        self.header = replace(header, num_samples=0)
        self._payloads = payloads_of(header, coder)
        self._file = file
        self._pending: list[Codes] = []
        self._num_pending = 0
        self._sizes: list[int] = []
        file.write(self.header.to_bytes())

    def write(self, codes: ArrayLike) -> None:
        """Append codes [C, K, f], f >= 0.

        Raises:
            BitstreamError: The codes do not fit the header, or the file has `MAX_CHUNKS` chunks already.
        """
        block = np.array(as_codes(codes, self.header))  # a copy: the caller may use its buffer again
        self._pending.append(block)
        self._num_pending += block.shape[2]
        chunk_frames = self.header.frames_per_chunk
        if self._num_pending < chunk_frames:
            return
        joined = np.concatenate(self._pending, axis=2)
        whole = self._num_pending - self._num_pending % chunk_frames
        for start in range(0, whole, chunk_frames):
            self._write_chunk(joined[:, :, start : start + chunk_frames])
        self._pending = [joined[:, :, whole:].copy()]
        self._num_pending -= whole

    def close(self, num_samples: int) -> None:
        """Write the last chunk, the index and the final header; the file itself stays open.

        Args:
            num_samples: Exact samples of a channel, at the original rate.

        Raises:
            BitstreamError: num_samples are not coded in as many frames as were written.
        """
        header = replace(self.header, num_samples=num_samples)
        check_length(header, len(self._sizes) * header.frames_per_chunk + self._num_pending)
        # The header first: without num_samples a reader takes a short last chunk, if entropy-coded, for a full one.
        self._file.seek(0)
        self._file.write(header.to_bytes())
        self._file.seek(0, io.SEEK_END)
        if self._num_pending:
            self._write_chunk(np.concatenate(self._pending, axis=2))
        self._file.write(make_tail(self._sizes))
        self.header = header

    def _write_chunk(self, codes: Codes) -> None:
        if len(self._sizes) == MAX_CHUNKS:
            raise BitstreamError(f"a file holds at most {MAX_CHUNKS} chunks: take more frames_per_chunk")
        chunk = make_chunk(len(self._sizes), self._payloads.encode(codes))
        self._file.write(chunk)
        self._sizes.append(len(chunk))
