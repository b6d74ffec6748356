"""What `codec-eval` needs of a codec: its name and setting, its sample rate, and one call that codes a recording."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor
from torch.nn import functional

from codec.errors import CodecError, one_line

Encoded = TypeVar("Encoded")


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
        """Its setting, such as "6 kbit/s" or "9 levels"; codec and setting together are unique.

        A bitrate in it is that of one channel as it was asked for. The real one follows from `Coded.num_bytes`.
        """

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


class RoundTrip(NamedTuple, Generic[Encoded]):
    """What an encoder made of a recording and the decoder of that, with the seconds that each took."""

    encoded: Encoded
    audio: Tensor
    encode_seconds: float
    decode_seconds: float


def round_trip(
    codec: str, audio: Tensor, encode: Callable[[Tensor], Encoded], decode: Callable[[Encoded], Tensor]
) -> RoundTrip[Encoded]:
    """Encode and decode `audio`, and take the times.

    Args:
        codec: Name for errors.
        audio: What `encode` takes.
        encode: Encoder.
        decode: Decoder; gives audio `[C, T]`.

    Raises:
        CodecError: Either failed, whatever it raised; one line.
    """
    start = time.perf_counter()
    with codec_errors(codec, "encode"):
        encoded = encode(audio)
    middle = time.perf_counter()
    with codec_errors(codec, "decode"):
        decoded = decode(encoded).float()
    return RoundTrip(encoded, decoded, middle - start, time.perf_counter() - middle)


@contextlib.contextmanager
def codec_errors(codec: str, action: str) -> Iterator[None]:
    """Turn every error of a library into a CodecError "CODEC can't ACTION: ..." of one line."""
    try:
        yield
    except CodecError:
        raise
    except Exception as error:  # a library may raise anything
        raise CodecError(f"{codec} can't {action}: {one_line(error)}") from error


def in_kbits(bitrate: float) -> str:
    """A bitrate (bit/s) as a setting: "1.5 kbit/s"."""
    return f"{bitrate / 1000:g} kbit/s"


def in_levels(number: int) -> str:
    """A number of levels as a setting: "9 levels"."""
    return f"{number} level{'s' * (number != 1)}"


def whole_frames(audio: Tensor, hop_length: int) -> Tensor:
    """Audio `[..., T]` with zeros at the end, up to a multiple of `hop_length`."""
    return functional.pad(audio, (0, -audio.shape[-1] % hop_length))
