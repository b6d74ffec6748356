"""What `codec-eval` needs of a codec: its name and setting, its sample rate, and one call that codes a recording."""

from typing import NamedTuple, Protocol

from torch import Tensor


class Coded(NamedTuple):
    """A recording after a codec."""

    audio: Tensor
    """Decoded samples `[C, T]`, float32 at the rate of the system. T may differ from that of the original, and the
    decoded audio may lag behind it by up to 100 ms: whoever judges it aligns it."""
    num_bytes: int
    """Size of the file that holds it, header included. A codec without a file format counts the bits of its codes."""
    encode_seconds: float
    """Time that encoding took (s), for speed."""
    decode_seconds: float
    codes: Tensor | None = None
    """Codes `[C, K, F]` int64; None if the codec has none."""
    codebook_size: int | None = None
    """Codewords of a level; None if there are no codes."""
    nominal_bitrate: float | None = None
    """Bitrate of the codes before entropy coding, all channels (bit/s); None if the codec has none."""


class System(Protocol):
    """A codec at one setting, which can be sent to other processes."""

    @property
    def codec(self) -> str:
        """Name of the codec, such as "opus"."""

    @property
    def setting(self) -> str:
        """Such as "6 kbit/s" or "9 levels"; codec and setting together are unique."""

    @property
    def sample_rate(self) -> int:
        """Rate of the audio that it takes and returns (Hz)."""

    def __call__(self, audio: Tensor) -> Coded:
        """Encode and decode a recording.

        Args:
            audio: Samples `[C, T]` in [-1, 1], float32, T >= 1.

        Raises:
            CodecError: The codec can't code it; one line that says why.
        """
