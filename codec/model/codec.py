"""The codec: encoder, quantizer and decoder behind `encode`, `decode` and the training pass.

    audio [B, 1, T] --encoder--> latents [B, D, F] --quantizer--> codes [B, K, F]
      --quantizer--> quantized [B, D, F] --decoder--> audio [B, 1, T]

Lengths: T samples make F = ceil((T + delay) / hop_length) frames, and T samples come back, for every T >= 1. The raw
output of the decoder lags `delay` samples behind the input; `decode` drops them.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codec.config import CodecConfig, to_dict
from codec.dsp.precision import full_precision
from codec.errors import ConfigError, ModelError
from codec.model.allocation import LevelAllocation
from codec.model.audio_codec import AudioCodec
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


class Codec(AudioCodec):
    """A neural audio codec: encoder, quantizer and decoder, which agree on hop length and latent channels.

    Args:
        encoder: Maps audio to latents.
        quantizer: Maps latents to codes and codes to quantized latents.
        decoder: Maps quantized latents to audio, `decoder.delay` samples late.
        config: The configuration that the parts were built from; it is saved beside the weights.
        allocation: Chooses the number of levels of each frame; without it every frame has all of them.
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
        super().__init__(
            sample_rate=config.sample_rate,
            hop_length=encoder.hop_length,
            delay=decoder.delay + config.lookahead,
            num_quantizers=quantizer.num_quantizers,
            codebook_size=quantizer.codebook_size,
            max_peak=encoder.max_peak,
            entropy=entropy,
            identity=identity,
        )
        if encoder.hop_length != decoder.hop_length:
            raise ConfigError(f"encoder hop length {encoder.hop_length} is not the decoder's, {decoder.hop_length}")
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder
        self.allocation = allocation
        self.config = config

    @classmethod
    def from_pretrained(cls, name: str | Path, *, device: str | torch.device = "cpu") -> "Codec":
        """Load a model: `codec.load_codec` under the name that users of other libraries look for."""
        # By its name in the package: nothing in codec.model depends on files.
        load: Callable[..., Codec] = importlib.import_module("codec").load_codec
        return load(name, device=device)

    def describe(self) -> dict[str, Any]:
        """The configuration as JSON has it, every default written out."""
        return to_dict(self.config)

    @property
    def is_float32(self) -> bool:
        """Whether all weights are float32, as in training."""
        return all(weight.dtype == torch.float32 for weight in self.parameters())

    @property
    def latency(self) -> int:
        """Algorithmic delay (samples): one hop, which must be complete, and the delay of the decoder."""
        return self.hop_length + self.delay

    def encode(self, audio: Tensor, num_quantizers: int | None = None, *, beam: int = 1) -> Tensor:
        """Encode whole signals.

        Args:
            audio: float32 `[B, 1, T]` in [-1, 1] at `sample_rate`; put channels into the batch.
            num_quantizers: Number of levels to use, from the first; all by default.
            beam: Paths kept in the search of the quantizer, see `Quantizer.encode`. More paths give better codes and
                take proportionally longer.

        Returns:
            Codes int64 `[B, K, F]`.

        Raises:
            AudioError: Not a tensor, wrong shape or dtype, no samples, NaN, Inf, or a peak above 4.
            ConfigError: `num_quantizers` is not in 1 .. K, or `beam` not in 1 .. 64.
        """
        self.check_audio(audio)
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
        num_samples = self.check_num_samples(codes, num_samples)
        return self.decode_frames(codes)[..., self.delay : self.delay + num_samples]

    def encode_frames(
        self, audio: Tensor, num_quantizers: int | None = None, cache: Cache | None = None, *, beam: int = 1
    ) -> Tensor:
        """Encode whole frames `[B, 1, F * hop_length]` to codes `[B, K, F]`; a stream passes its cache."""
        with full_precision(audio.device):  # codes must not depend on the caller's autocast or TF32 settings
            latents: Tensor = self.encoder(audio, cache)
            num_active = self.levels_of_frames(audio, num_quantizers, cache)
            return self.quantizer.encode(latents, num_quantizers, beam=beam, num_active=num_active)

    def levels_of_frames(
        self, audio: Tensor, num_quantizers: Tensor | int | None = None, cache: Cache | None = None
    ) -> Tensor | None:
        """Number of levels of each frame, int `[B, F]`; None if every frame has all `num_quantizers`.

        Args:
            audio: Whole frames `[B, 1, F * hop_length]`.
            num_quantizers: Largest number of levels, for all items or for each, int `[B]`; K by default.
            cache: Of a stream; None offline.
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
            num_active: Number of levels of each item, int `[B]`; all by default.
            lengths: Real samples of each item, int `[B]`; frames beyond enter no loss or statistic of the quantizer.
            first_frame: Number of the first frame of each item, int `[B]`; 0 by default. The decoder's noise depends on
                it, and training should not see the same noise in every step.
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

    def frame_mask(self, lengths: Tensor, num_frames: int) -> Tensor:
        """True for the frames that code the `lengths` samples `[B]` of each item; bool `[B, num_frames]`."""
        frames = -(-(lengths + self.delay) // self.hop_length)
        return torch.arange(num_frames, device=lengths.device) < frames[:, None]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Codec":
        """What `to`, `half` and the like call; float16 is refused: its range is too small for the signal model."""
        if fn(torch.zeros(1)).dtype == torch.float16:
            raise ModelError("a model does not run in float16: use codec.speed_up(model, 'bf16')")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
