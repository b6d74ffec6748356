"""Conditions under which a recording is coded: as it is, quieter, with a DC offset, with noise.

A good codec is robust: what it does to speech at -20 dBFS it also does 40 dB below that.
"""

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from codec.errors import ConfigError

OFFSET = 0.05
"""DC offset of the condition `dc` if none is given (full scale is 1): that of a poor sound card."""
NOISE_DB = 20.0
"""Signal-to-noise ratio (dB) of the condition `noise` if none is given: an office."""


@dataclass(frozen=True)
class Condition:
    """A change of the recording before it is coded.

    Attributes:
        gain_db: Gain (dB).
        offset: Constant added to every sample, in [-1, 1]. It can't be heard, so codecs need not keep it: decoded audio
            and reference are compared without their means.
        noise_db: Signal-to-noise ratio of white Gaussian noise that is added (dB); None: no noise. It is part of what
            the codec has to reproduce: the reference holds it too.
    """

    gain_db: float = 0.0
    offset: float = 0.0
    noise_db: float | None = None

    @property
    def name(self) -> str:
        """Name in tables: "as it is", "-20 dB", "DC +0.05", "noise 20 dB"."""
        parts = [f"{self.gain_db:+g} dB"] if self.gain_db else []
        parts += [f"DC {self.offset:+g}"] if self.offset else []
        parts += [f"noise {self.noise_db:g} dB"] if self.noise_db is not None else []
        return ", ".join(parts) or "as it is"

    def apply(self, audio: Tensor, name: str) -> Tensor:
        """Change a recording `[C, T]`; the noise is a function of its name. The result is clipped to [-1, 1]."""
        changed = audio * 10 ** (self.gain_db / 20)
        if self.noise_db is not None:
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            rms = changed.double().square().mean().sqrt() * 10 ** (-self.noise_db / 20)
            changed = changed + rms.float() * torch.randn(audio.shape, generator=generator)
        changed = changed + self.offset
        return changed if self == AS_IT_IS else changed.clamp(-1, 1)

    def heard(self, audio: Tensor) -> Tensor:
        """What is compared of the changed or the decoded recording `[C, T]`: all of it but an offset."""
        return audio - audio.mean(dim=-1, keepdim=True) if self.offset else audio


AS_IT_IS = Condition()


def parse_condition(text: str) -> Condition:
    """Read `dc`, `dc=0.1`, `noise` or `noise=10`.

    Raises:
        ConfigError: It is none of these, or the number is out of range.
    """
    kind, _, value = text.partition("=")
    try:
        number = float(value) if value else {"dc": OFFSET, "noise": NOISE_DB}[kind]
        if kind == "dc" and 0 < abs(number) <= 0.5:
            return Condition(offset=number)
        if kind == "noise" and -40 <= number <= 100:
            return Condition(noise_db=number)
    except (KeyError, ValueError):
        pass
    raise ConfigError(f"{text!r} is no condition: write dc=0.05 (at most 0.5) or noise=20 (dB, -40 to 100)")
