"""A model at a number of levels, as `codec-encode` and `codec-decode` run it: ours, or one of another library."""

from dataclasses import dataclass

import torch
from torch import Tensor

from codec.bitstream import Bitstream
from codec.config import FILE_BEAM
from codec.eval.systems.system import Coded, in_levels, round_trip
from codec.inference.compression import compress, entropy_coder
from codec.inference.decompression import decompress
from codec.model.audio_codec import AudioCodec


@dataclass(frozen=True)
class OurCodec:
    """A model that encodes to a `.codec` file in memory and decodes that file.

    Every number of levels is encoded for itself: a search over all levels chooses other codes for the first ones than a
    search over these alone.

    Attributes:
        codec: Name of the model.
        model: In eval mode. `with_identity` spares it the digest of its tensors for every file.
        num_quantizers: Levels to use.
        beam: Paths kept in the search, see `Codec.encode`.
    """

    codec: str
    model: AudioCodec
    num_quantizers: int
    beam: int = FILE_BEAM

    @property
    def setting(self) -> str:
        """Number of levels, such as "9 levels"."""
        return in_levels(self.num_quantizers)

    @property
    def sample_rate(self) -> int:
        """Rate of the model (Hz)."""
        return self.model.sample_rate

    @torch.no_grad()
    def __call__(self, audio: Tensor) -> Coded:
        """Encode and decode a recording `[C, T]`; the channels are coded separately.

        Raises:
            CodecError: The audio holds NaN or Inf or has a peak above 4, or the model has fewer levels.
        """
        trip = round_trip(self.codec, audio, self._encode, self._decode)
        bitstream, data = trip.encoded
        return Coded(
            trip.audio,
            len(data),
            trip.encode_seconds,
            trip.decode_seconds,
            codes=torch.from_numpy(bitstream.codes),
            codebook_size=self.model.codebook_size,
            nominal_bitrate=bitstream.bitrate,
        )

    def _encode(self, audio: Tensor) -> tuple[Bitstream, bytes]:
        bitstream = compress(self.model, audio[None], num_quantizers=self.num_quantizers, beam=self.beam)
        return bitstream, bitstream.to_bytes()

    def _decode(self, encoded: tuple[Bitstream, bytes]) -> Tensor:
        """Decode the bytes, not the codes: what is judged is the file."""
        return decompress(self.model, Bitstream.from_bytes(encoded[1], coder=entropy_coder(self.model)))[0]
