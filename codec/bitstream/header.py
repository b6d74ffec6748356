"""The header of a `.codec` file, and the sizes and times that follow from it."""

import math
import reprlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from codec.errors import BitstreamError

Frames = tuple[int, int]  # first frame, one past the last

MAGIC = b"CODC"
VERSION = 1
PACKED, ENTROPY_CODED = 0, 1  # payload kinds
CHUNK_S = 4.0  # default length of a chunk (s): one damaged byte loses so much
CHUNK_OVERHEAD = 12  # bytes
MAX_PAYLOAD_BYTES = 2**20  # a chunk is unpacked at once: this bounds the memory that a hostile file can ask for
MAX_CHANNELS = 2**16 - 1
MAX_CHUNKS = 2**24  # the number of a chunk is stored in 3 bytes
_LAYOUT = struct.Struct("<4sBB32sIIHHIIIIQ")
_CRC = struct.Struct("<I")
HEADER_BYTES = _LAYOUT.size + _CRC.size
_RANGES = {  # in the order of the file
    "model_sample_rate": (1, 2**24),
    "sample_rate": (1, 2**24),
    "num_channels": (1, MAX_CHANNELS),
    "num_quantizers": (1, 2**16 - 1),
    "codebook_size": (1, 2**31),
    "hop_length": (1, 2**24),
    "delay": (0, 2**32 - 1),
    "frames_per_chunk": (1, 2**24),
    "num_samples": (0, 2**62),
}


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide integers and round up, exactly."""
    return -(-numerator // denominator)


def tail_bytes(num_chunks: int) -> int:
    """Return the size of index and trailer (bytes)."""
    return 12 + 4 * num_chunks + 16


@dataclass(frozen=True, kw_only=True)
class Header:
    """Describes the codes of a file.

    Attributes:
        model_id: Identity of the model, 32 bytes (SHA-256).
        model_sample_rate: Rate the model works at (Hz).
        sample_rate: Rate of the original audio (Hz).
        num_channels: C; each channel is coded on its own.
        num_quantizers: K.
        codebook_size: N; codes are in 0..N-1.
        hop_length: Samples of a frame, at the model's rate.
        delay: Samples by which the model's raw output lags behind its input, at the model's rate.
        frames_per_chunk: Frames of a chunk; 0 is replaced by about four seconds.
        num_samples: Exact samples of a channel at the original rate; 0 if not yet known.
        payload_kind: 0: codes are packed; 1: codes are entropy-coded with the tables of the model.

    Raises:
        BitstreamError: A value is out of range or the payload kind is of a later version.
    """

    model_id: bytes
    model_sample_rate: int
    sample_rate: int
    num_channels: int
    num_quantizers: int
    codebook_size: int
    hop_length: int
    delay: int
    frames_per_chunk: int = 0
    num_samples: int = 0
    payload_kind: int = PACKED

    def __post_init__(self) -> None:
        if self.payload_kind not in (PACKED, ENTROPY_CODED):
            raise BitstreamError(f"payload kind {self.payload_kind} is of a later version: update codec")
        if not isinstance(self.model_id, bytes) or len(self.model_id) != 32:
            raise BitstreamError(f"model_id is {self.model_id!r}, but must be 32 bytes (SHA-256)")
        if self.frames_per_chunk == 0:
            object.__setattr__(self, "frames_per_chunk", self._default_frames_per_chunk())
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise BitstreamError(f"{name} is {reprlib.repr(value)}, but must be an integer in {low}..{high}")
        if (size := self.payload_bytes(self.frames_per_chunk)) > MAX_PAYLOAD_BYTES:
            raise BitstreamError(
                f"a chunk of {self.frames_per_chunk} frames takes {size} bytes, "
                f"more than {MAX_PAYLOAD_BYTES}: take fewer frames_per_chunk"
            )
        if self.num_chunks > MAX_CHUNKS:
            raise BitstreamError(f"{self.num_chunks} chunks are more than {MAX_CHUNKS}: take more frames_per_chunk")

    def _default_frames_per_chunk(self) -> int:
        frames = round(CHUNK_S * self.model_sample_rate / max(1, self.hop_length))
        bits_per_frame = max(1, self.num_channels * self.num_quantizers * self.bits_per_code)
        return max(1, min(frames, 8 * MAX_PAYLOAD_BYTES // bits_per_frame))

    @property
    def model_samples(self) -> int:
        """Samples of a channel at the model's rate."""
        return ceil_div(self.num_samples * self.model_sample_rate, self.sample_rate)

    @property
    def num_frames(self) -> int:
        """F = ceil((model_samples + delay) / hop_length); 0 if num_samples is not yet known."""
        return ceil_div(self.model_samples + self.delay, self.hop_length) if self.num_samples else 0

    @property
    def num_chunks(self) -> int:
        """Number of chunks of the file."""
        return ceil_div(self.num_frames, self.frames_per_chunk)

    @property
    def bits_per_code(self) -> int:
        """Bits that a packed code takes: ceil(log2 N), at least 1."""
        return max(1, (self.codebook_size - 1).bit_length())

    @property
    def duration_s(self) -> float:
        """Duration of the audio (s)."""
        return self.num_samples / self.sample_rate

    @property
    def bitrate(self) -> float:
        """Nominal bitrate of the codes of all channels (bit/s): frame rate x C x K x log2 N."""
        bits_per_frame = self.num_channels * self.num_quantizers * math.log2(self.codebook_size)
        return self.model_sample_rate / self.hop_length * bits_per_frame

    @property
    def num_bytes(self) -> int:
        """Size of the file (bytes): exact if packed, else an upper bound."""
        whole, remaining = divmod(self.num_frames, self.frames_per_chunk)
        payload = whole * self.payload_bytes(self.frames_per_chunk) + self.payload_bytes(remaining)
        return HEADER_BYTES + payload + self.num_chunks * CHUNK_OVERHEAD + tail_bytes(self.num_chunks)

    def samples_in(self, num_frames: int) -> int:
        """Return how many samples at the original rate `num_frames` frames hold, at least 1."""
        return max(1, (num_frames * self.hop_length - self.delay) * self.sample_rate // self.model_sample_rate)

    def time_s(self, frame: int) -> float:
        """Return the time at which a frame starts (s), in 0..duration_s."""
        start_s = (frame * self.hop_length - self.delay) / self.model_sample_rate
        return self.duration_s if frame >= self.num_frames else min(max(0.0, start_s), self.duration_s)

    def chunks_before(self, frame: int) -> int:
        """Return how many chunks hold frames before `frame`."""
        return ceil_div(frame, self.frames_per_chunk)

    def chunk_frames(self, number: int) -> int:
        """Return the number of frames of a chunk; only the last chunk may have fewer than frames_per_chunk."""
        return min(self.frames_per_chunk, self.num_frames - number * self.frames_per_chunk)

    def chunk_payload_bytes(self, number: int) -> int:
        """Return the payload length of a chunk (bytes): exact if packed, else an upper bound."""
        return self.payload_bytes(self.chunk_frames(number))

    def payload_bytes(self, num_frames: int) -> int:
        """Return the payload length of a chunk of `num_frames` frames (bytes); as `chunk_payload_bytes`."""
        return ceil_div(num_frames * self.num_channels * self.num_quantizers * self.bits_per_code, 8)

    def keep_quantizers(self, num_quantizers: int) -> "Header":
        """Return the header of the same recording with its first `num_quantizers` levels only.

        Raises:
            BitstreamError: There are not that many levels.
        """
        if not 1 <= num_quantizers <= self.num_quantizers:
            raise BitstreamError(f"num_quantizers is {num_quantizers}, but the file has 1..{self.num_quantizers}")
        return replace(self, num_quantizers=num_quantizers)

    def difference(self, other: "Header") -> str:
        """Say in what another recording differs so that the codes of both can't stand in one file; "" if in nothing."""
        if other.model_id != self.model_id:
            return f"it is of model {other.model_id.hex()[:12]}, not of {self.model_id.hex()[:12]}"
        model = ("model_sample_rate", "hop_length", "delay", "codebook_size")
        for name in (*model, "sample_rate", "num_channels", "num_quantizers"):
            if (own := getattr(self, name)) != (others := getattr(other, name)):
                return f"its {name} is {others}, not {own}"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return what the codes are of as JSON has it: rates (Hz), lengths (samples, frames, s) and bitrate (bit/s)."""
        return {
            "model": {"identity": self.model_id.hex()},
            "sample_rate": self.sample_rate,
            "model_sample_rate": self.model_sample_rate,
            "num_channels": self.num_channels,
            "num_samples": self.num_samples,
            "seconds": self.duration_s,
            "hop_length": self.hop_length,
            "delay": self.delay,
            "num_frames": self.num_frames,
            "num_quantizers": self.num_quantizers,
            "codebook_size": self.codebook_size,
            "nominal_bitrate": self.bitrate,
        }

    def to_bytes(self) -> bytes:
        """Return the 78 bytes of the header in a file."""
        values = [getattr(self, name) for name in _RANGES]
        data = _LAYOUT.pack(MAGIC, VERSION, self.payload_kind, self.model_id, *values)
        return data + _CRC.pack(zlib.crc32(data))

    @classmethod
    def from_file(cls, file: BinaryIO) -> "Header":
        """Read the header at the start of a file; errors as of `from_bytes`."""
        file.seek(0)
        return cls.from_bytes(file.read(HEADER_BYTES))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Header":
        """Read the header at the start of `data`.

        Raises:
            BitstreamError: Not a .codec file, a later version, or a header that is cut off, damaged or impossible.
        """
        if data[:4] != MAGIC:
            raise BitstreamError(f"not a .codec file: it starts with {data[:4]!r}, not {MAGIC!r}")
        if len(data) > 4 and data[4] > VERSION:
            raise BitstreamError(
                f"made by version {data[4]} of the format; this program reads up to {VERSION}: update codec"
            )
        if len(data) < HEADER_BYTES:
            raise BitstreamError(f"the header is cut off after {len(data)} of {HEADER_BYTES} bytes")
        _, version, kind, model_id, *values = _LAYOUT.unpack_from(data)
        if version == 0 or data[_LAYOUT.size : HEADER_BYTES] != _CRC.pack(zlib.crc32(data[: _LAYOUT.size])):
            raise BitstreamError("the header is damaged (its checksum does not match): nothing can be decoded")
        stored = dict(zip(_RANGES, values, strict=True))
        if not stored["frames_per_chunk"]:  # 0 stands for the default in calls, not in files
            raise BitstreamError("frames_per_chunk is 0, but must be at least 1 in a file")
        return cls(model_id=model_id, payload_kind=kind, **stored)


def describe_lost(header: Header, lost: Sequence[Frames]) -> str:
    """Describe which part of the audio is lost.

    Example: "2 of 9 chunks are damaged: 4.00-8.00 s and 12.00-16.00 s are lost".
    """
    num_lost = sum(ceil_div(stop - start, header.frames_per_chunk) for start, stop in lost)
    spans = [f"{header.time_s(start):.2f}-{header.time_s(stop):.2f} s" for start, stop in lost]
    if len(spans) > 4:
        spans[4:] = [f"{len(spans) - 4} more ranges"]
    text = " and ".join([", ".join(spans[:-1]), spans[-1]] if len(spans) > 1 else spans)
    chunks = f"{num_lost} of {header.num_chunks} chunk{'s' if header.num_chunks > 1 else ''}"
    return f"{chunks} {'are' if num_lost > 1 else 'is'} damaged: {text} {'are' if len(lost) > 1 else 'is'} lost"
