"""A codec without a network: what any neural codec must beat at the same bitrate.

The signal model of the toolkit's own codec (`codec.model.signal_model`), with k-means instead of a network: one
residual quantizer codes the log powers of all bands of a frame, another one the waveform below 1 kHz. Above it the
decoder shapes two carriers that cost no bits, the rectified low band up to 3 kHz and noise from there.

`fit` learns the codebooks from speech in about two minutes; they are 2.7 MB, kept in a `.safetensors` file.
"""

import functools
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from codec.audio.file import load_audio
from codec.errors import ModelError
from codec.eval.systems.system import Coded, in_kbits, round_trip
from codec.inference.pretrained import load_tensors, save_tensors
from codec.model.analysis import LOG_POWER_MEAN, LOG_POWER_SCALE, SignalAnalysis
from codec.model.quantizer.codebooks import EMACodebooks
from codec.model.quantizer.initialization import Initialization
from codec.model.quantizer.residual import ResidualQuantizer
from codec.model.signal_model import SignalModel, low_amplitudes
from codec.model.synthesis import HarmonicNoiseSynthesis
from codec.progress import progress_bar

SIGNAL = SignalModel(sample_rate=16_000, hop_length=320, cutoff=1000, num_bands=13, num_low_bands=5)
ENVELOPE_LEVELS = 2
MAX_LEVELS = ENVELOPE_LEVELS + 14
CODEBOOK_SIZE = 1024
BITRATE_PER_LEVEL = math.log2(CODEBOOK_SIZE) * SIGNAL.sample_rate / SIGNAL.hop_length
"""Bits per second of a level: 500."""
HARMONIC_BELOW = 3000.0
"""Bands below this frequency (Hz) are shaped from the rectified low band, those above from noise."""
LOW_WEIGHT = 2.0
"""Weight of an error in the log power of a band below 1 kHz, where one above has four subframes of weight 1."""
BEAM = 8
FIT_FRAMES, FIT_FILES = 60_000, 1200
"""Frames that k-means sees, drawn from so many files."""


class Codes(NamedTuple):
    """Codes of a recording, int64 `[C, k, F]` each."""

    envelope: Tensor
    low: Tensor


class Parametric:
    """Encoder and decoder.

    Args:
        envelope: Codebooks of the log powers, `[ENVELOPE_LEVELS, N, 57]`.
        low: Codebooks of the coefficients below the cutoff, `[K, N, 40]`.
    """

    def __init__(self, envelope: Tensor, low: Tensor) -> None:
        self.analysis, self.synthesis = SignalAnalysis(SIGNAL), HarmonicNoiseSynthesis(SIGNAL)
        self.envelope, self.low = _quantizer(envelope), _quantizer(low)
        self.weights = torch.ones(SIGNAL.num_log_powers, 1)
        self.weights[: SIGNAL.num_low_bands] = LOW_WEIGHT

    def encode(self, audio: Tensor, num_quantizers: int) -> Codes:
        """Encode audio `[C, T]` at 16 kHz with `num_quantizers` levels in all, ENVELOPE_LEVELS + 1 or more."""
        coefficients, log_powers = self.analyse(audio)
        envelope = self.envelope.encode(log_powers * self.weights, beam=BEAM)
        target = self.normalised(coefficients, log_powers, self.envelope.decode(envelope) / self.weights)
        return Codes(envelope, self.low.encode(target, num_quantizers - ENVELOPE_LEVELS, beam=BEAM))

    def decode(self, codes: Codes, num_samples: int) -> Tensor:
        """Decode to audio `[C, num_samples]`, aligned with what was encoded."""
        log_powers = self.envelope.decode(codes.envelope) / self.weights
        features = torch.cat([self.low.decode(codes.low), log_powers], dim=1)
        logits = self._carrier_logits().expand(len(features), -1, features.shape[-1])
        audio: Tensor = self.synthesis(torch.cat([features, logits], dim=1))
        return audio[:, 0, self.synthesis.delay :][:, :num_samples]

    def analyse(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients `[C, 40, F]`, divided by their envelope, and log powers `[C, 57, F]` of audio `[C, T]`."""
        num_samples = audio.shape[-1] + self.synthesis.delay
        padded = functional.pad(audio, (0, self.synthesis.delay + -num_samples % SIGNAL.hop_length))
        features: Tensor = self.analysis(padded[:, None])
        return features[:, : SIGNAL.num_low], features[:, SIGNAL.num_low :]

    def normalised(self, coefficients: Tensor, log_powers: Tensor, decoded: Tensor) -> Tensor:
        """Coefficients of `analyse`, divided by the envelope that the decoder knows instead of the exact one."""
        return coefficients * self._amplitudes(log_powers) / self._amplitudes(decoded)

    def _amplitudes(self, log_powers: Tensor) -> Tensor:
        low = log_powers[:, : SIGNAL.num_low_bands].transpose(1, 2) * LOG_POWER_SCALE + LOG_POWER_MEAN
        return low_amplitudes(low, self.analysis.low_interpolation).transpose(1, 2)

    def _carrier_logits(self) -> Tensor:
        """Shares of the harmonic carrier as the synthesis takes them, `[bands of all subframes, 1]`: all or nothing."""
        around = SIGNAL.high_interpolation(torch.tensor([HARMONIC_BELOW]))[:, 0]
        logits = torch.full_like(around, -20.0)
        logits[: int(around.nonzero()[0]) + 1] = 20.0
        return logits.repeat(SIGNAL.num_log_powers // SIGNAL.num_bands)[:, None]


@dataclass(frozen=True)
class ParametricCodec:
    """The parametric codec at a bitrate. It has no file format: its size is that of its codes, 10 bits each.

    Attributes:
        path: `.safetensors` file that `fit` wrote.
        num_quantizers: Levels, ENVELOPE_LEVELS + 1 .. MAX_LEVELS.
    """

    path: Path
    num_quantizers: int
    codec: str = "parametric"
    sample_rate: int = SIGNAL.sample_rate

    @property
    def setting(self) -> str:
        """Bitrate of one channel."""
        return in_kbits(self.num_quantizers * BITRATE_PER_LEVEL)

    @torch.no_grad()
    def __call__(self, audio: Tensor) -> Coded:
        """Encode and decode a recording `[C, T]`; the channels are coded separately.

        Raises:
            CodecError: The codebooks can't be read.
        """
        parametric, num_samples = load(self.path), audio.shape[-1]
        trip = round_trip(
            self.codec,
            audio,
            lambda audio: parametric.encode(audio, self.num_quantizers),
            lambda codes: parametric.decode(codes, num_samples),
        )
        # Their codebooks have one size, so the two can be shown as levels of one codec.
        codes = torch.cat(trip.encoded, dim=1)
        num_bytes = math.ceil(codes.numel() * math.log2(CODEBOOK_SIZE) / 8)
        bitrate = len(audio) * self.num_quantizers * BITRATE_PER_LEVEL
        return Coded(trip.audio, num_bytes, trip.encode_seconds, trip.decode_seconds, codes, CODEBOOK_SIZE, bitrate)


@torch.no_grad()
def fit(paths: Sequence[Path], target: Path, *, seed: int = 0, progress: bool = True) -> None:
    """Learn the codebooks by k-means from audio files and write them; two minutes on one core.

    Args:
        paths: Files of speech of any rate; `FIT_FILES` of them are drawn.
        target: `.safetensors` file.
        seed: Decides every draw.
        progress: Show a progress bar.

    Raises:
        AudioError: A file can't be read.
        WriteError: `target` can't be written.
    """
    generator = torch.Generator().manual_seed(seed)
    parametric = Parametric(
        torch.zeros(ENVELOPE_LEVELS, CODEBOOK_SIZE, SIGNAL.num_log_powers),
        torch.zeros(MAX_LEVELS - ENVELOPE_LEVELS, CODEBOOK_SIZE, SIGNAL.num_low),
    )
    chosen = random.Random(seed).sample(list(paths), min(len(paths), FIT_FILES))
    bar = progress_bar(
        chosen, desc="reading speech for the parametric codec", unit="file", hidden=not progress, leave=False
    )
    frames = torch.cat(list(_frames(parametric, bar)), dim=-1)
    frames = frames[..., torch.randperm(frames.shape[-1], generator=generator)[:FIT_FRAMES]]
    coefficients, log_powers = frames[:, : SIGNAL.num_low], frames[:, SIGNAL.num_low :]
    how = Initialization(method="kmeans", iterations=8)
    parametric.envelope.initialize(log_powers * parametric.weights, initialization=how, generator=generator)
    codes = parametric.envelope.encode(log_powers * parametric.weights)
    decoded = parametric.envelope.decode(codes) / parametric.weights
    scaled = parametric.normalised(coefficients, log_powers, decoded)
    parametric.low.initialize(scaled, initialization=how, generator=generator)
    save_tensors({name: getattr(parametric, name).codebooks.table for name in ("envelope", "low")}, target)


@functools.cache
def load(path: Path) -> Parametric:
    """Read what `fit` wrote, once a process.

    Raises:
        ModelError: It can't be read, or holds something else.
    """
    tensors = load_tensors(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wanted = {
        "envelope": (ENVELOPE_LEVELS, CODEBOOK_SIZE, SIGNAL.num_log_powers),
        "low": (MAX_LEVELS - ENVELOPE_LEVELS, CODEBOOK_SIZE, SIGNAL.num_low),
    }
    if shapes != wanted:
        raise ModelError(f"{path} holds no codebooks of the parametric codec: remove it, and fit them again")
    return Parametric(**tensors)


def _quantizer(codebooks: Tensor) -> ResidualQuantizer:
    num_quantizers, codebook_size, dim = codebooks.shape
    tables = EMACodebooks(num_quantizers, codebook_size, dim, decay=0.0, dead_threshold=0.0, normalize=False)
    tables.table.copy_(codebooks)
    return ResidualQuantizer(tables, latent_dim=dim, codebook_dim=None).eval()


def _frames(parametric: Parametric, paths: Sequence[Path]) -> Iterator[Tensor]:
    """Features `[1, 97, F]` of every channel of every file."""
    channels = itertools.chain.from_iterable(load_audio(path, SIGNAL.sample_rate)[0] for path in paths)
    for channel in channels:
        yield torch.cat(parametric.analyse(channel[None]), dim=1)
