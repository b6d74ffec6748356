"""One recording in memory: its codes and their header."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import BinaryIO

import numpy as np

from codec.bitstream.chunks import BitstreamWriter, as_codes, check_length
from codec.bitstream.header import PACKED, Frames, Header, ceil_div, describe_lost
from codec.bitstream.interval import cut_header
from codec.bitstream.payload import Codes
from codec.bitstream.rans import EntropyCoder
from codec.bitstream.reader import BitstreamReader
from codec.errors import BitstreamError

# Lost frames take memory in `Bitstream.codes` and no bytes in the file: a file that exceeds both limits is refused.
# A code takes at least one bit in a file and 64 here.
_MAX_CODE_BYTES, _MAX_EXPANSION = 2**26, 64


@dataclass(frozen=True, eq=False)
class Bitstream:
    """The codes of one recording with their header.

    Attributes:
        header: Describes the codes.
        codes: int64 [C, K, F], 0 <= code < codebook_size.
        lost: Frame ranges (first, one past the last) that are lost in a damaged file; their codes are 0.
        coder: Entropy coder of the model, if the header's payload kind is entropy-coded; only `to_bytes` needs it.

    Raises:
        BitstreamError: The codes do not fit the header.
    """

    header: Header
    codes: Codes
    lost: tuple[Frames, ...] = ()
    coder: EntropyCoder | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", as_codes(self.codes, self.header))
        check_length(self.header, self.codes.shape[2])

    @property
    def duration_s(self) -> float:
        """Duration of the audio (s)."""
        return self.header.duration_s

    @property
    def bitrate(self) -> float:
        """Nominal bitrate of the codes (bit/s)."""
        return self.header.bitrate

    @cached_property
    def num_bytes(self) -> int:
        """Size of the file (bytes): computed from the header if packed, else by encoding it."""
        return self.header.num_bytes if self.header.payload_kind == PACKED else len(self.to_bytes())

    @property
    def file_bitrate(self) -> float:
        """Bitrate of the whole file (bit/s), header and index included."""
        return 8 * self.num_bytes / self.duration_s

    def keep_quantizers(self, num_quantizers: int) -> "Bitstream":
        """Return the same recording with its first `num_quantizers` levels only. No model is needed.

        Raises:
            BitstreamError: There are not that many levels.
        """
        header = self.header.keep_quantizers(num_quantizers)
        return Bitstream(header, self.codes[:, :num_quantizers], self.lost, self.coder)

    def cut(self, start: float, duration: float | None = None) -> "Bitstream":
        """Return the whole frames that hold a part of the recording. No model is needed.

        The cut begins with a frame, at most one frame before `start`, and ends with the last sample of the part. It
        decodes like that part of the whole, except that the decoder starts anew: docs/format.md tells what differs.

        Args:
            start: Time of the first sample (s).
            duration: In seconds; to the end if None or longer than what is left.

        Raises:
            ConfigError: `start` is negative, NaN or not before the end, or the part holds no sample.
        """
        header, (first, stop) = cut_header(self.header, start, duration)
        return Bitstream(header, self.codes[:, :, first:stop], _within(self.lost, first, stop), self.coder)

    @classmethod
    def join(cls, parts: "Sequence[Bitstream]") -> "Bitstream":
        """Return recordings one after the other. No model is needed.

        All parts but the last give the frames that their samples lie in, without the further ones that only the delay
        of the decoder needs. So the next part begins less than a frame after the end of the one before, and cuts that
        meet where a frame begins become the codes that they were cut from.

        Args:
            parts: At least one; of the same model, sample rate, number of channels and of levels.

        Raises:
            BitstreamError: There are none, they differ in one of these, or frames are lost.
        """
        if not parts:
            raise BitstreamError("there are no recordings to join")
        header = parts[0].header
        for number, part in enumerate(parts, start=1):
            part.require_intact()
            if differs := header.difference(part.header):
                raise BitstreamError(f"recording {number} can't follow the first: {differs}")
        kept = [part.codes[:, :, : ceil_div(part.header.model_samples, header.hop_length)] for part in parts[:-1]]
        codes = np.concatenate([*kept, parts[-1].codes], axis=2)
        num_before = sum(block.shape[2] for block in kept)
        begins_at = ceil_div(num_before * header.hop_length * header.sample_rate, header.model_sample_rate)
        num_samples = min(begins_at + parts[-1].header.num_samples, header.samples_in(codes.shape[2]))
        return cls(replace(header, num_samples=num_samples), codes, coder=parts[0].coder)

    def require_intact(self) -> None:
        """Raise BitstreamError if frames are lost, so that their zeros are never written as codes."""
        if self.lost:
            raise BitstreamError(f"{describe_lost(self.header, self.lost)}: they can be decoded, not written again")

    def to_bytes(self) -> bytes:
        """Return the `.codec` file.

        Raises:
            BitstreamError: Frames are lost, or the header needs a coder that is not given.
        """
        self.require_intact()
        file = io.BytesIO()
        writer = BitstreamWriter(file, self.header, self.coder)
        writer.write(self.codes)
        writer.close(self.header.num_samples)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, *, salvage: bool = False, coder: EntropyCoder | None = None) -> "Bitstream":
        """Read a `.codec` file from all of its bytes; arguments and errors as of `from_file`."""
        return cls.from_file(io.BytesIO(data), salvage=salvage, coder=coder)

    @classmethod
    def from_file(
        cls,
        file: BinaryIO,
        *,
        salvage: bool = False,
        coder: EntropyCoder | None = None,
        start: float = 0.0,
        duration: float | None = None,
    ) -> "Bitstream":
        """Read a `.codec` file, or a part of it: the same as `cut` of the whole, but only its chunks are read.

        Args:
            file: Seekable, opened for reading in binary.
            salvage: Read the intact chunks of a damaged file; `lost` names the others. By default any damage of what is
                read is an error, even of the index.
            coder: Entropy coder of the model that made the file; packed files need none.
            start: As for `cut`.
            duration: As for `cut`.

        Raises:
            BitstreamError: The header is unusable, or needs a coder that is not given; anything is damaged or, with
                `salvage`, no chunk is intact.
            ConfigError: As of `cut`.
        """
        reader = BitstreamReader(file, coder)
        is_whole = start == 0 and duration is None
        header, (first, stop) = cut_header(reader.header, start, duration)
        shape = (header.num_channels, header.num_quantizers, stop - first)
        if 8 * shape[0] * shape[1] * shape[2] > max(_MAX_CODE_BYTES, _MAX_EXPANSION * reader.num_bytes):
            raise BitstreamError(
                f"the header claims {shape[2]} frames, far more than {reader.num_bytes} bytes can hold"
            )
        codes = np.zeros(shape, np.int64)
        for at, block in reader.chunks(None if is_whole else (first, stop), salvage=salvage):
            skipped = max(first - at, 0)
            place = at + skipped - first
            block = block[:, :, skipped : stop - at]
            codes[:, :, place : place + block.shape[2]] = block
        return cls(header, codes, _within(reader.lost, first, stop), coder)


def _within(lost: Sequence[Frames], first: int, stop: int) -> tuple[Frames, ...]:
    """The lost ranges among the frames first .. stop - 1, counted from `first`."""
    inside = [(max(start, first) - first, min(end, stop) - first) for start, end in lost]
    return tuple((start, end) for start, end in inside if start < end)
