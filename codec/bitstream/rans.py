"""An entropy coder with fixed integer tables: codes [C, K, f] <-> the payload of one chunk.

Range variant of asymmetric numeral systems, rANS (Duda, arXiv:1311.2540). All codes become one integer: a code of
frequency q out of 2^16 multiplies it by 2^16 / q, which are log2(2^16 / q) bits. Its low words are written as soon as
it exceeds 64 bits. All arithmetic is on integers, so a payload is the same on every machine. (The library constriction
takes only tables of floats from Python and rounds them itself.)
"""

from array import array
from bisect import bisect_right

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codec.errors import BitstreamError

TOTAL_BITS = 16
TOTAL = 2**TOTAL_BITS
"""Sum of the frequencies of a row."""

_SLOT_MASK = TOTAL - 1
_WORD_BITS, _WORD_BYTES = 32, 4
_WORD_MASK = 2**_WORD_BITS - 1
_LOW = 2**_WORD_BITS
"""While words are left, the state is in _LOW .. 2^64 - 1: large enough that rounding costs about 2^-16 of the size."""


class EntropyCoder:
    """Codes with the entropy tables of a model.

    The frequencies of a code at level k depend on its context, two other codes that are each mapped to a class: row
    `rows[k, previous[k, code of the frame before], below[k, code of the level below]]`. In the first frame of a chunk
    and at the first level there is no such code, and N stands for it. No context lies in a higher level, so a file can
    be cut to its first levels.

    Args:
        frequencies: [R, N], at least 1, every row sums to `TOTAL`.
        previous: [K, N + 1], class of a code of the frame before, at the same level.
        below: [K, N + 1], class of a code of the level below, in the same frame.
        rows: [K, classes of previous, classes of below], the row of `frequencies`.

    Attributes:
        num_quantizers: K, levels that the tables are for.
        codebook_size: N.
    """

    def __init__(self, frequencies: ArrayLike, previous: ArrayLike, below: ArrayLike, rows: ArrayLike) -> None:
        self._frequencies = np.asarray(frequencies, dtype=np.int64)
        self._previous, self._below = np.asarray(previous, dtype=np.intp), np.asarray(below, dtype=np.intp)
        self._rows = np.asarray(rows, dtype=np.intp)
        ends = np.cumsum(self._frequencies, axis=1)
        self._starts = ends - self._frequencies
        # Arrays of C integers: the search in lists of Python integers took a third longer.
        bounds = [array("I", row.tobytes()) for row in np.pad(ends, ((0, 0), (1, 0))).astype(np.uintc)]
        by_class = [[[bounds[row] for row in classes] for classes in level] for level in self._rows.tolist()]
        self._levels = [
            ([classes[number] for number in previous], below)
            for classes, previous, below in zip(by_class, self._previous.tolist(), self._below.tolist(), strict=True)
        ]
        self.num_quantizers, self.codebook_size = len(self._levels), self._frequencies.shape[1]

    def encode(self, codes: NDArray[np.int64]) -> bytes:
        """Encode codes [C, K, f], 0 <= code < N and K <= `num_quantizers`; a code takes at most about two bytes."""
        rows = self._contexts(codes)
        # rANS is last in, first out: encode from the last code to the first, and the decoder begins with the first.
        frequencies, starts = (
            table[rows, codes].transpose(2, 0, 1).ravel()[::-1].tolist() for table in (self._frequencies, self._starts)
        )
        state = 0
        words = []
        for frequency, start in zip(frequencies, starts, strict=True):
            if state >= frequency << (2 * _WORD_BITS - TOTAL_BITS):
                words.append(state & _WORD_MASK)
                state >>= _WORD_BITS
            state = (state // frequency << TOTAL_BITS) + state % frequency + start
        words += [state & _WORD_MASK, state >> _WORD_BITS]
        return np.array(words[::-1], ">u4").tobytes().lstrip(b"\0")

    def decode(self, payload: bytes, shape: tuple[int, int, int]) -> NDArray[np.int64]:
        """Invert `encode`; shape is (C, K, f). Zeros in front of a payload are ignored.

        Raises:
            BitstreamError: The payload is not of codes of this shape.
        """
        num_channels, num_quantizers, num_frames = shape
        missing = -len(payload) % _WORD_BYTES
        words = iter(np.frombuffer(bytes(missing) + payload, ">u4").tolist())
        state = 0
        levels = self._levels[:num_quantizers]
        frames = [[self.codebook_size] * num_quantizers for _ in range(num_channels)]
        codes: list[int] = []
        for _ in range(num_frames):
            for channel in range(num_channels):
                code = self.codebook_size
                frame = []
                for last, (contexts, below) in zip(frames[channel], levels, strict=True):
                    while state < _LOW and (word := next(words, None)) is not None:
                        state = state << _WORD_BITS | word
                    bounds = contexts[last][below[code]]
                    slot = state & _SLOT_MASK
                    code = bisect_right(bounds, slot) - 1
                    start = bounds[code]
                    state = (bounds[code + 1] - start) * (state >> TOTAL_BITS) + slot - start
                    frame.append(code)
                frames[channel] = frame
                codes += frame
        if state or next(words, None) is not None:
            raise BitstreamError("the payload is not of these codes")
        return np.array(codes, np.int64).reshape(num_frames, num_channels, num_quantizers).transpose(1, 2, 0)

    def _contexts(self, codes: NDArray[np.int64]) -> NDArray[np.intp]:
        """Index of the row of frequencies for every code [C, K, f]."""
        levels = np.arange(codes.shape[1])[:, np.newaxis]
        before, lower = (np.full_like(codes, self.codebook_size) for _ in range(2))
        before[:, :, 1:] = codes[:, :, :-1]
        lower[:, 1:] = codes[:, :-1]
        rows: NDArray[np.intp] = self._rows[levels, self._previous[levels, before], self._below[levels, lower]]
        return rows
