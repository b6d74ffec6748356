"""Codecs that are programs: Opus by opus-tools, Codec2 by its two programs.

Their times include the start of a process, some milliseconds.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from codec.audio.file import load_audio, save_audio
from codec.errors import CodecError, ConfigError
from codec.eval.systems.system import Coded, in_kbits, round_trip, whole_frames

TIMEOUT_S = 300.0
PACKAGES = {"opusenc": "opus-tools", "opusdec": "opus-tools", "c2enc": "codec2", "c2dec": "codec2"}
"""Debian package of each program."""
CODEC2_MODES = {700: "700C", 1200: "1200", 1300: "1300", 1400: "1400", 1600: "1600", 2400: "2400", 3200: "3200"}
"""Modes of Codec2 by their bitrate (bit/s)."""
CODEC2_RATE = 8000  # Hz
CODEC2_FRAME = 320  # samples: 40 ms, one or two frames of every mode


@dataclass(frozen=True)
class OpusTools:
    """Opus by `opusenc` and `opusdec`, in frames of 20 ms at a variable bitrate.

    The file is an Ogg file as opusenc writes it, with its comments and the 512 bytes that it reserves for more of them.
    opusdec writes floats, because to 16 bits it would add dither, and that changes PESQ by up to 0.06.

    Attributes:
        bitrate: Wanted for one channel (bit/s), 6,000 to 256,000.
        sample_rate: Hz; opusenc takes any.
    """

    bitrate: float
    sample_rate: int
    codec: str = "opusenc"

    @property
    def setting(self) -> str:
        """The wanted bitrate."""
        return in_kbits(self.bitrate)

    def __call__(self, audio: Tensor) -> Coded:
        """Encode and decode a recording `[C, T]`.

        Raises:
            CodecError: A program is not installed or failed.
        """
        with tempfile.TemporaryDirectory() as folder:
            return _code_file(self.codec, audio, Path(folder) / "a.opus", self._encode, self._decode)

    def _encode(self, audio: Tensor, target: Path) -> None:
        source = target.with_suffix(".wav")
        save_audio(source, audio, self.sample_rate)
        kbits = len(audio) * self.bitrate / 1000
        run_program("opusenc", "--quiet", "--framesize", "20", "--bitrate", f"{kbits:g}", source, target)

    def _decode(self, source: Path) -> Tensor:
        target = source.with_name("decoded.wav")
        run_program("opusdec", "--quiet", "--float", "--rate", str(self.sample_rate), source, target)
        return load_audio(target)[0]


@dataclass(frozen=True)
class Codec2:
    """Codec2 by `c2enc` and `c2dec`: 8 kHz, one channel; more channels are coded one by one.

    Attributes:
        bitrate: One of `CODEC2_MODES` (bit/s).
    """

    bitrate: int
    codec: str = "codec2"
    sample_rate: int = CODEC2_RATE

    @property
    def setting(self) -> str:
        """The bitrate."""
        return in_kbits(self.bitrate)

    def __call__(self, audio: Tensor) -> Coded:
        """Encode and decode a recording `[C, T]`.

        Raises:
            CodecError: A program is not installed or failed.
        """
        with tempfile.TemporaryDirectory() as folder:
            channels = [
                _code_file(self.codec, channel[None], Path(folder) / f"{number}.c2", self._encode, self._decode)
                for number, channel in enumerate(audio)
            ]
        audios, num_bytes, encode_seconds, decode_seconds, *_ = zip(*channels, strict=True)
        nominal_bitrate = len(audio) * float(self.bitrate)
        return Coded(
            torch.cat(audios), sum(num_bytes), sum(encode_seconds), sum(decode_seconds), nominal_bitrate=nominal_bitrate
        )

    def _encode(self, audio: Tensor, target: Path) -> None:
        source = target.with_suffix(".raw")
        samples = (whole_frames(audio[0], CODEC2_FRAME) * 32768).round().clamp(-32768, 32767)
        source.write_bytes(samples.to(torch.int16).numpy().tobytes())
        run_program("c2enc", CODEC2_MODES[self.bitrate], source, target)

    def _decode(self, source: Path) -> Tensor:
        target = source.with_suffix(".decoded")
        run_program("c2dec", CODEC2_MODES[self.bitrate], source, target)
        samples = torch.frombuffer(bytearray(target.read_bytes()), dtype=torch.int16)
        return samples.float()[None] / 32768


def check_programs(*names: str) -> None:
    """Raise ConfigError unless the programs are installed; it names the Debian package."""
    for name in names:
        if shutil.which(name) is None:
            raise ConfigError(f"{name} is not installed: run  apt-get install {PACKAGES[name]}")


def run_program(name: str, *arguments: str | Path) -> None:
    """Run a program to its end.

    Raises:
        ConfigError: It is not installed.
        CodecError: It failed, with its last line of text, or took longer than `TIMEOUT_S`.
    """
    check_programs(name)
    try:
        subprocess.run([name, *map(str, arguments)], capture_output=True, check=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise CodecError(f"{name} took more than {TIMEOUT_S:g} s and was ended: give shorter files") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise CodecError(f"{name} failed (exit code {error.returncode}): {lines[-1].strip()}") from error


def _code_file(
    codec: str,
    audio: Tensor,
    path: Path,
    encode: Callable[[Tensor, Path], None],
    decode: Callable[[Path], Tensor],
) -> Coded:
    """Encode `audio` to the file `path`, and decode that."""

    def encode_file(audio: Tensor) -> Path:
        encode(audio, path)
        return path

    trip = round_trip(codec, audio, encode_file, decode)
    return Coded(trip.audio, path.stat().st_size, trip.encode_seconds, trip.decode_seconds)
