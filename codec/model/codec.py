"""The codec: encoder, quantizer and decoder behind `encode`, `decode` and the training pass.

    audio [B, 1, T] --encoder--> latents [B, D, F] --quantizer--> codes [B, K, F]
      --quantizer--> quantized [B, D, F] --decoder--> audio [B, 1, T]

Lengths: T samples make F = ceil((T + delay) / hop_length) frames, and T samples come back, for every T >= 1. The
decoder's raw output lags `delay` samples behind the input; `decode` drops them.
"""

import itertools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.config import (
    CodecConfig,
)
from codec.dsp.precision import full_precision
from codec.errors import AudioError, BitstreamError, ConfigError
from codec.model.allocation import LevelAllocation
from codec.model.decoder import HarmonicNoiseDecoder, UpsampleDecoder
from codec.model.encoder import Encoder, EnvelopeEncoder
from codec.model.entropy_tables import EntropyTables
from codec.model.layers import Cache
from codec.model.passthrough import IdentityDecoder, IdentityEncoder
from codec.model.quantizer.quantizer import Quantizer, QuantizerOutput


class CodecOutput(NamedTuple):
    """Result of a training pass."""

    audio: Tensor
    """Reconstruction `[B, 1, T]`."""
    quantizer: QuantizerOutput


class Codec(nn.Module):
    """A neural audio codec: a module of modules that agree on hop length and latent channels.

    Args:
        encoder: Maps audio to latents.
        quantizer: Maps latents to codes and codes to quantized latents.
        decoder: Maps quantized latents to audio, `decoder.delay` samples late.
        allocation: How many levels each frame gets; without it all of them.
        config: What the parts were built from. Its sample rate and lookahead are used here, and all of it is saved
            beside the weights.
        entropy: Tables to entropy-code its codes with in files; without them codes are packed.
        identity: SHA-256 that files name the model by, if it is known, see `codec.model.digest.with_identity`. By
            default `model_identity` computes it from the tensors whenever it is needed.
    """

    def __init__(
        self,
        encoder: EnvelopeEncoder | Encoder | IdentityEncoder,
        quantizer: Quantizer,
        decoder: HarmonicNoiseDecoder | UpsampleDecoder | IdentityDecoder,
        config: CodecConfig,
        allocation: LevelAllocation | None = None,
        *,
        entropy: EntropyTables | None = None,
        identity: bytes | None = None,
    ) -> None:
        super().__init__()
        if encoder.hop_length != decoder.hop_length:
            raise ConfigError(f"encoder hop length {encoder.hop_length} is not the decoder's, {decoder.hop_length}")
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder
        self.allocation = allocation
        self.config = config
        self.entropy = entropy
        self.identity = identity
        self.sample_rate = config.sample_rate
        self.hop_length = encoder.hop_length
        self.delay = decoder.delay + config.lookahead

    @property
    def device(self) -> torch.device:
        """Where the model is; EMA codebooks are buffers, and a model may hold nothing else."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    @property
    def is_float32(self) -> bool:
        """Whether all weights are in the precision that they were trained in."""
        return all(weight.dtype == torch.float32 for weight in self.parameters())

    @property
    def latency(self) -> int:
        """Algorithmic delay in samples: a hop must be complete, and its frame overlaps later ones."""
        return self.hop_length + self.delay

    def num_frames(self, num_samples: int) -> int:
        """Frames F that `num_samples` samples are coded in."""
        return -(-(num_samples + self.delay) // self.hop_length)

    def encode(self, audio: Tensor, num_quantizers: int | None = None, *, beam: int = 1) -> Tensor:
        """Encode whole signals.

        Args:
            audio: float32 `[B, 1, T]` in [-1, 1] at `sample_rate`; code channels separately, as items of the batch.
            num_quantizers: Use the first so many levels; all by default.
            beam: Paths kept in the search of the quantizer, see `Quantizer.encode`: more take as many times as long,
                and give codes that decode better.

        Returns:
            Codes int64 `[B, K, F]`.

        Raises:
            AudioError: Wrong shape, no samples, NaN or Inf.
            ConfigError: `num_quantizers` is not in 1 .. K, or `beam` not in 1 .. 64.
        """
        self._check_audio(audio)
        self.check_num_quantizers(num_quantizers)
        return self.encode_frames(self.pad(audio), num_quantizers, beam=beam)

    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Decode whole signals.

        Args:
            codes: int64 `[B, k, F]` of the first k levels.
            num_samples: T, at most F * hop_length - delay, which is the default.

        Returns:
            Audio `[B, 1, T]`.

        Raises:
            BitstreamError: Wrong shape, codes out of range, or more samples asked for than the frames hold.
        """
        self.check_codes(codes)
        available = max(codes.shape[-1] * self.hop_length - self.delay, 0)
        num_samples = available if num_samples is None else num_samples
        if not 1 <= num_samples <= available:
            raise BitstreamError(f"{codes.shape[-1]} frames decode to 1 .. {available} samples, not {num_samples}")
        return self.decode_frames(codes)[..., self.delay : self.delay + num_samples]

    def encode_frames(
        self, audio: Tensor, num_quantizers: int | None = None, cache: Cache | None = None, *, beam: int = 1
    ) -> Tensor:
        """Encode whole frames `[B, 1, F * hop_length]` to codes `[B, K, F]`; a stream passes its cache."""
        with full_precision(audio.device):  # codes and audio must not depend on what the caller set for its own sake
            latents: Tensor = self.encoder(audio, cache)
            num_active = self.levels_of_frames(audio, num_quantizers, cache)
            return self.quantizer.encode(latents, num_quantizers, beam=beam, num_active=num_active)

    def levels_of_frames(
        self, audio: Tensor, num_quantizers: Tensor | int | None = None, cache: Cache | None = None
    ) -> Tensor | None:
        """How many of the first `num_quantizers` levels each frame gets, int `[B, F]`; None where all get all.

        Args:
            audio: Whole frames `[B, 1, F * hop_length]`.
            num_quantizers: Of all items, or of each, int `[B]`; all levels by default.
            cache: Of a stream.
        """
        if self.allocation is None:
            return None
        if not isinstance(num_quantizers, Tensor):
            levels = self.quantizer.num_quantizers if num_quantizers is None else num_quantizers
            num_quantizers = torch.full((1,), levels, device=audio.device)
        allocated: Tensor = self.allocation(audio, num_quantizers, cache)
        return allocated

    def decode_frames(self, codes: Tensor, cache: Cache | None = None) -> Tensor:
        """Decode codes `[B, k, F]` to `[B, 1, F * hop_length]`, `delay` samples late; a stream passes its cache."""
        with full_precision(codes.device):
            audio: Tensor = self.decoder(self.quantizer.decode(codes), cache)
        return audio.float()

    def forward(
        self,
        audio: Tensor,
        *,
        num_active: Tensor | None = None,
        lengths: Tensor | None = None,
        first_frame: Tensor | None = None,
        quantize: bool = True,
    ) -> CodecOutput:
        """Encode, quantize and decode for training, through the same modules as `encode` and `decode`.

        Args:
            audio: `[B, 1, T]`.
            num_active: Levels that each item uses, int `[B]`.
            lengths: True samples of each item, int `[B]`; frames beyond enter no loss or statistic of the quantizer.
            first_frame: Number of the first frame of each item, int `[B]`: what a decoder makes of its own, noise, is a
                function of the frame's number, and training should not see the same beginning for ever. 0 by default.
            quantize: False during the warm-up before the codebooks exist.
        """
        padded = self.pad(audio)
        latents = self.encoder(padded)
        mask = None if lengths is None else self.frame_mask(lengths, latents.shape[-1])
        if quantize:
            if self.allocation is not None:
                num_active = self.levels_of_frames(padded, num_active)
            quantized = self.quantizer(latents, num_active=num_active, mask=mask)
        else:
            quantized = self.quantizer.bypass(latents)
        cache = None if first_frame is None else self.decoder.cache_at(first_frame)
        decoded = self.decoder(quantized.quantized, cache)
        return CodecOutput(decoded[..., self.delay : self.delay + audio.shape[-1]], quantized)

    def num_quantizers_for(self, bitrate: float) -> int:
        """Most levels with which files of this model take at most `bitrate` (bit/s, one channel), as a rule.

        With entropy tables that is the mean rate of the codes of the files that the tables were learned from, without
        the header: a file may take more or less. Without them it is the nominal rate.

        Raises:
            ConfigError: Not even one level fits.
        """
        if self.entropy is None:
            return self.config.num_quantizers_for(bitrate)
        rates = self.entropy.bits_per_frame.double() * self.config.frame_rate
        levels = int((rates <= bitrate).sum())
        if levels < 1:
            raise ConfigError(
                f"bitrate {bitrate:g} bit/s is below the lowest of this model, {float(rates[0]):.0f} bit/s"
            )
        return levels

    def frame_mask(self, lengths: Tensor, num_frames: int) -> Tensor:
        """True for the frames that items of `lengths` samples `[B]` are coded in; bool `[B, num_frames]`."""
        frames = -(-(lengths + self.delay) // self.hop_length)
        return torch.arange(num_frames, device=lengths.device) < frames[:, None]

    def check_num_quantizers(self, num_quantizers: int | None) -> None:
        """Raise ConfigError unless `num_quantizers` is None or in 1 .. K."""
        if num_quantizers is not None and not 1 <= num_quantizers <= self.quantizer.num_quantizers:
            raise ConfigError(f"num_quantizers {num_quantizers} is not in 1 .. {self.quantizer.num_quantizers}")

    def check_codes(self, codes: Tensor) -> None:
        """Raise BitstreamError unless `codes` is int64 `[B, k, F]` with codes of this model."""
        levels, size = self.quantizer.num_quantizers, self.quantizer.codebook_size
        if codes.ndim != 3 or codes.dtype != torch.int64 or not 1 <= codes.shape[1] <= levels or 0 in codes.shape:
            raise BitstreamError(
                f"codes must be int64 [B, k, F] with k in 1 .. {levels}, not {codes.dtype} {list(codes.shape)}"
            )
        lowest, highest = (bound.item() for bound in torch.aminmax(codes))
        if lowest < 0 or highest >= size:
            raise BitstreamError(f"codes must be in 0 .. {size - 1}; found {lowest if lowest < 0 else highest}")

    def _check_audio(self, audio: Tensor) -> None:
        if audio.ndim != 3 or audio.shape[1] != 1 or audio.dtype != torch.float32:
            raise AudioError(
                f"audio must be float32 [B, 1, T], not {audio.dtype} {list(audio.shape)}; channels go into the batch"
            )
        if audio.numel() == 0:
            raise AudioError("audio has no samples")
        check_finite(audio)

    def pad(self, audio: Tensor) -> Tensor:
        """Zeros at the end of `[B, 1, T]`, up to whole frames and the decoder's delay."""
        missing = self.num_frames(audio.shape[-1]) * self.hop_length - audio.shape[-1]
        return F.pad(audio, (0, missing)) if missing else audio


def check_finite(audio: Tensor) -> None:
    """Raise AudioError if a sample is NaN or Inf; one pass, for a live stream asks often."""
    if audio.numel() and not all(math.isfinite(bound) for bound in torch.aminmax(audio)):
        raise AudioError("audio has NaN or Inf samples")
