"""One recording in memory: its codes and their header."""

import io
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from codec.bitstream.chunks import BitstreamReader, BitstreamWriter, as_codes, check_length
from codec.bitstream.header import PACKED, Frames, Header, describe_lost
from codec.bitstream.payload import Codes
from codec.bitstream.rans import EntropyCoder
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
        available = self.header.num_quantizers
        if not 1 <= num_quantizers <= available:
            raise BitstreamError(f"num_quantizers is {num_quantizers}, but the file has 1..{available}")
        header = replace(self.header, num_quantizers=num_quantizers)
        return Bitstream(header, self.codes[:, :num_quantizers], self.lost, self.coder)

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
        """Read a `.codec` file.

        Args:
            data: The whole file.
            salvage: Read the intact chunks of a damaged file; `lost` names the others. By default any damage is an
                error, even of the index.
            coder: Entropy coder of the model that made the file; packed files need none.

        Raises:
            BitstreamError: The header is unusable, or needs a coder that is not given; anything is damaged or, with
                `salvage`, no chunk is intact.
        """
        reader = BitstreamReader(io.BytesIO(data), coder)
        header = reader.header
        shape = (header.num_channels, header.num_quantizers, header.num_frames)
        if 8 * shape[0] * shape[1] * shape[2] > max(_MAX_CODE_BYTES, _MAX_EXPANSION * len(data)):
            raise BitstreamError(f"the header claims {shape[2]} frames, far more than {len(data)} bytes can hold")
        codes = np.zeros(shape, np.int64)
        for first, block in reader.salvaged() if salvage else reader.intact():
            codes[:, :, first : first + block.shape[2]] = block
        return cls(header, codes, reader.lost, coder)
