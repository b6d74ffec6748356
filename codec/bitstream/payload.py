"""The payload of a chunk: its codes, packed or entropy-coded (layout: codec/bitstream/__init__.py)."""

import numpy as np
from numpy.typing import NDArray

from codec.bitstream.header import PACKED, Header, ceil_div
from codec.bitstream.rans import EntropyCoder
from codec.errors import BitstreamError

Codes = NDArray[np.int64]


def _word(bits: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest integer type that holds `bits`; big-endian, the order of the packed bits."""
    return np.dtype(">u1" if bits <= 8 else ">u2" if bits <= 16 else ">u4")


def pack_codes(codes: Codes, bits: int) -> bytes:
    """Pack codes [C, K, f] in 0..2^bits-1, ordered by frame, then by channel, then by quantizer."""
    word = _word(bits)
    words = np.ascontiguousarray(codes.transpose(2, 0, 1), dtype=word).reshape(-1, 1)
    return np.packbits(np.unpackbits(words.view(np.uint8), axis=1)[:, 8 * word.itemsize - bits :]).tobytes()


def unpack_codes(payload: bytes, shape: tuple[int, int, int], bits: int) -> Codes:
    """Invert `pack_codes`; shape is (C, K, f)."""
    num_channels, num_quantizers, num_frames = shape
    num_codes, word = num_channels * num_quantizers * num_frames, _word(bits)
    planes = np.zeros((num_codes, 8 * word.itemsize), np.uint8)
    stored = np.unpackbits(np.frombuffer(payload, np.uint8), count=num_codes * bits)
    planes[:, planes.shape[1] - bits :] = stored.reshape(num_codes, bits)
    words = np.packbits(planes, axis=1).view(word).reshape(num_frames, num_channels, num_quantizers)
    return np.ascontiguousarray(words.transpose(1, 2, 0), dtype=np.int64)


class PackedPayloads:
    """Payloads of kind 0; their size depends on the number of frames only."""

    def __init__(self, header: Header) -> None:
        self._header = header

    def sizes(self, num_frames: int) -> range:
        """Return the lengths (bytes) that a payload of `num_frames` frames may have."""
        size = self._header.payload_bytes(num_frames)
        return range(size, size + 1)

    def encode(self, codes: Codes) -> bytes:
        """Return the payload of codes [C, K, f]."""
        return pack_codes(codes, self._header.bits_per_code)

    def decode(self, payload: bytes, num_frames: int) -> Codes:
        """Return the codes [C, K, num_frames] of a payload that has the size for `num_frames` frames.

        Raises:
            BitstreamError: A code is outside the codebook.
        """
        header = self._header
        codes = unpack_codes(payload, (header.num_channels, header.num_quantizers, num_frames), header.bits_per_code)
        if (worst := int(codes.max())) >= header.codebook_size:
            raise BitstreamError(f"code {worst} is outside 0..{header.codebook_size - 1}")
        return codes


class EntropyCodedPayloads:
    """Payloads of kind 1: at least one bit a code, and never longer than those of kind 0.

    Zeros in front fill up a shorter payload: this limits how many codes a small hostile file can claim. Codes that are
    improbable by the tables are packed as in kind 0.

    Raises:
        BitstreamError: The coder is for another codebook size, or for too few levels.
    """

    def __init__(self, header: Header, coder: EntropyCoder) -> None:
        if coder.codebook_size != header.codebook_size or coder.num_quantizers < header.num_quantizers:
            raise BitstreamError(
                f"{header.num_quantizers} levels of {header.codebook_size} codewords can't be coded with tables "
                f"for {coder.num_quantizers} levels of {coder.codebook_size}",
                codec=...,
            )
        self._header, self._coder = header, coder
        self._packed = PackedPayloads(header)

    def sizes(self, num_frames: int) -> range:
        """Return the lengths (bytes) that a payload of `num_frames` frames may have."""
        num_codes = self._header.num_channels * self._header.num_quantizers * num_frames
        return range(ceil_div(num_codes, 8), self._header.payload_bytes(num_frames) + 1)

    def encode(self, codes: Codes) -> bytes:
        """Return the payload of codes [C, K, f]."""
        sizes = self.sizes(codes.shape[2])
        payload = self._coder.encode(codes).rjust(sizes[0], b"\0")
        return payload if len(payload) < sizes[-1] else self._packed.encode(codes)

    def decode(self, payload: bytes, num_frames: int) -> Codes:
        """Return the codes [C, K, num_frames] of a payload of one of the `sizes`.

        Raises:
            BitstreamError: The payload is not of so many codes.
        """
        if len(payload) == self.sizes(num_frames)[-1]:
            return self._packed.decode(payload, num_frames)
        header = self._header
        return self._coder.decode(payload, (header.num_channels, header.num_quantizers, num_frames))


def payloads_of(header: Header, coder: EntropyCoder | None) -> PackedPayloads | EntropyCodedPayloads:
    """Return the coder of a file's payloads.

    Raises:
        BitstreamError: The header needs an entropy coder that is not given or does not fit.
    """
    if header.payload_kind == PACKED:
        return PackedPayloads(header)
    if coder is None:
        made_by = header.model_id.hex()[:12]
        raise BitstreamError(f"the codes are entropy-coded with the tables of model {made_by}", codec=...)
    return EntropyCodedPayloads(header, coder)
