"""Opus, Vorbis and MP3 through soundfile, in memory.

libsndfile takes a compression level from 0 (largest) to 1 (smallest) and no bitrate. For Opus and MP3 the level follows
from the bitrate; for Vorbis, which has levels of quality only, it is searched for each recording.
"""

import functools
import io
import math
from dataclasses import dataclass
from typing import NamedTuple

import soundfile as sf
import torch
from torch import Tensor

from codec.errors import ConfigError
from codec.eval.systems.system import Coded, codec_errors, in_kbits, round_trip

SEARCH_STEPS = 8
"""Halvings of the interval of levels in the search: the last step changes the size by about 1 %."""


class Format(NamedTuple):
    """How libsndfile names a format, and what the format takes."""

    container: str
    encoding: str
    sample_rates: tuple[int, ...] = ()
    """Rates that it takes (Hz), ascending; any if empty."""
    largest_level: float = 1.0
    """Libsndfile refuses 1 for MP3."""


FORMATS = {
    "opus": Format("OGG", "OPUS", (8000, 12000, 16000, 24000, 48000)),
    "vorbis": Format("OGG", "VORBIS"),
    "mp3": Format("MP3", "MPEG_LAYER_III", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000), 0.999),
}


@dataclass(frozen=True)
class SoundfileCodec:
    """One of `FORMATS` at a bitrate.

    Attributes:
        codec: Name in `FORMATS`.
        bitrate: Wanted for one channel (bit/s). Vorbis counts its whole file, header included. Opus and MP3 count their
            packets: the file is larger by its container.
        sample_rate: One that the format takes (Hz), see `allowed_rate`.
    """

    codec: str
    bitrate: float
    sample_rate: int

    @property
    def setting(self) -> str:
        """The wanted bitrate."""
        return in_kbits(self.bitrate)

    def __call__(self, audio: Tensor) -> Coded:
        """Encode and decode a recording `[C, T]`.

        Raises:
            CodecError: libsndfile can't code it.
        """
        with codec_errors(self.codec, "encode"):
            level = self._level(audio)
        trip = round_trip(self.codec, audio, functools.partial(self._encode, level=level), self._decode)
        return Coded(trip.audio, len(trip.encoded), trip.encode_seconds, trip.decode_seconds)

    def _encode(self, audio: Tensor, level: float) -> bytes:
        container, encoding, *_ = FORMATS[self.codec]
        mode = {"bitrate_mode": "CONSTANT"} if self.codec == "mp3" else {}
        file = io.BytesIO()
        samples = audio.T.numpy()
        sf.write(file, samples, self.sample_rate, encoding, format=container, compression_level=level, **mode)
        return file.getvalue()

    def _decode(self, data: bytes) -> Tensor:
        samples, _ = sf.read(io.BytesIO(data), dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T.copy())

    def _level(self, audio: Tensor) -> float:
        """Compression level for the bitrate; both formulas are those of libsndfile 1.2."""
        num_channels = len(audio)
        if self.codec == "vorbis":
            return self._search_level(audio)
        low, high = bitrate_range(self.codec, self.sample_rate)
        if self.codec == "opus":  # its range is that of one channel
            low, high = num_channels * low, num_channels * high
        level = (high - num_channels * self.bitrate) / (high - low)
        return min(max(level, 0.0), FORMATS[self.codec].largest_level)

    def _search_level(self, audio: Tensor) -> float:
        """The level whose file comes closest to the bitrate from below; the smallest file if all are larger."""
        most_bytes = self.bitrate * audio.numel() / self.sample_rate / 8
        low, high = 0.0, 1.0
        for _ in range(SEARCH_STEPS):
            middle = (low + high) / 2
            if len(self._encode(audio, middle)) > most_bytes:
                low = middle
            else:
                high = middle
        return high


def allowed_rate(codec: str, sample_rate: int) -> int:
    """The lowest sample rate (Hz) that a format takes and that is not below `sample_rate`; else its highest."""
    rates = FORMATS[codec].sample_rates or (sample_rate,)
    return next((rate for rate in rates if rate >= sample_rate), rates[-1])


def bitrate_range(codec: str, sample_rate: int) -> tuple[float, float]:
    """Lowest and highest bitrate of a format at a sample rate (bit/s).

    Those of Opus are for one channel, those of MP3 for the file; Vorbis has no limits of its own.
    """
    if codec == "vorbis":
        return 0.0, math.inf
    if codec == "opus":
        return 6_000, 256_000
    if sample_rate >= 32_000:  # MPEG-1, then MPEG-2 and MPEG-2.5
        return 32_000, 320_000
    return 8_000, 160_000 if sample_rate >= 16_000 else 64_000


def check_bitrate(codec: str, bitrate: float, sample_rate: int) -> None:
    """Raise ConfigError if a format has no such bitrate (bit/s)."""
    low, high = bitrate_range(codec, sample_rate)
    if not low <= bitrate <= high:
        raise ConfigError(
            f"{codec} has no {in_kbits(bitrate)} at {sample_rate} Hz: ask for {low / 1000:g} to {high / 1000:g} kbit/s"
        )
