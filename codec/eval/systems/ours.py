"""A codec of this project at a number of levels, through the files that `codec-encode` writes."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from codec.bitstream import Bitstream
from codec.config import FILE_BEAM
from codec.eval.systems.system import Coded
from codec.inference.compression import compress, decompress, entropy_coder
from codec.model.codec import Codec


@dataclass(frozen=True, eq=False)
class OurCodec:
    """A model at a number of levels; see `codec.eval.systems.system.System`.

    Each number of levels is encoded by itself: a search over all levels chooses other codes for the first levels than
    a search over these alone.

    Attributes:
        codec: Name of the model.
        model: In eval mode, with its identity, on any device.
        num_quantizers: Number of levels.
        beam: Candidates of the search in the quantizer; None: as for files.
    """

    codec: str
    model: Codec
    num_quantizers: int
    beam: int | None = None

    @property
    def setting(self) -> str:
        """Such as "9 levels"."""
        return f"{self.num_quantizers} level{'s' if self.num_quantizers > 1 else ''}"

    @property
    def sample_rate(self) -> int:
        """That of the model (Hz)."""
        return self.model.sample_rate

    def __call__(self, audio: Tensor) -> Coded:
        """Encode audio `[C, T]` to a `.codec` file in memory and decode that."""
        began = time.perf_counter()
        beam = FILE_BEAM if self.beam is None else self.beam
        bitstream = compress(self.model, audio[None], num_quantizers=self.num_quantizers, beam=beam)
        data = bitstream.to_bytes()
        encoded = time.perf_counter()
        decoded = decompress(self.model, Bitstream.from_bytes(data, coder=entropy_coder(self.model)))[0]
        return Coded(
            decoded,
            num_bytes=len(data),
            encode_seconds=encoded - began,
            decode_seconds=time.perf_counter() - encoded,
            codes=torch.from_numpy(bitstream.codes),
            codebook_size=self.model.quantizer.codebook_size,
            nominal_bitrate=bitstream.bitrate,
        )
