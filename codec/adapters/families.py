"""Families of codecs in `transformers`: their names for sizes, their padding, and the arguments of their calls.

A family maps audio `[B, 1, T]` to codes `[B, k, F]` and back by the public `encode` and `decode` of the library, with
what its feature extractor does before. Families with continuous latents instead of codes (VibeVoice, Pocket TTS), or
with another rate behind the decoder than before the encoder (NeuCodec), are none of ours.
"""

import math
from typing import Any, NamedTuple

from torch import Tensor

from codec.errors import require

EXTRA = "transformers"


class Sizes(NamedTuple):
    """Sizes of a model."""

    sample_rate: int
    """Hz."""
    hop_length: int
    """Samples of a frame."""
    num_quantizers: int
    """Levels."""
    codebook_size: int
    """Codewords of a level."""
    tail: int = 0
    """Samples that the frames cover beyond the audio: F = ceil((T + tail) / hop_length)."""


class Family:
    """A family that takes audio of any length and encodes all of its levels; others override what differs."""

    fills_frames = False
    """Whether its feature extractor appends zeros up to whole frames; otherwise it takes any length."""

    def refuse(self, config: Any) -> str:
        """Why a model of this family can't be used; empty if it can."""
        channels = getattr(config, "audio_channels", 1)
        return "" if channels == 1 else f"it codes {channels} channels together: give a model for mono"

    def sizes(self, model: Any) -> Sizes:
        """Sizes of a loaded model."""
        config = model.config
        return Sizes(config.sampling_rate, config.hop_length, 1, config.codebook_size)

    def encode(self, model: Any, audio: Tensor, num_quantizers: int) -> Tensor:
        """Encode audio `[B, 1, T]` to codes `[B, k, F]`; k may exceed `num_quantizers`."""
        codes: Tensor = model.encode(audio).audio_codes
        return codes

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        """Decode codes `[B, k, F]` to about F * hop_length samples an item."""
        audio: Tensor = model.decode(audio_codes=codes).audio_values
        return audio


class Mimi(Family):
    """Mimi (arXiv:2410.00037), causal: convolutions and transformers with a window."""

    def sizes(self, model: Any) -> Sizes:
        """As for all; a frame is what the convolutions and the halving behind them take."""
        config = model.config
        return Sizes(config.sampling_rate, config.frame_size, config.num_quantizers, config.codebook_size)

    def encode(self, model: Any, audio: Tensor, num_quantizers: int) -> Tensor:
        """As for all, of the first levels."""
        codes: Tensor = model.encode(audio, num_quantizers=num_quantizers).audio_codes
        return codes


class Dac(Family):
    """DAC (arXiv:2306.06546), convolutions that look ahead."""

    fills_frames = True

    def sizes(self, model: Any) -> Sizes:
        """As for all."""
        config = model.config
        return Sizes(config.sampling_rate, config.hop_length, config.n_codebooks, config.codebook_size)

    def encode(self, model: Any, audio: Tensor, num_quantizers: int) -> Tensor:
        """As for all, of the first levels."""
        codes: Tensor = model.encode(audio, n_quantizers=num_quantizers).audio_codes
        return codes


class Xcodec(Family):
    """X-Codec (arXiv:2408.17175), and the tokenizer of Higgs Audio v2: DAC beside HuBERT."""

    fills_frames = True

    def sizes(self, model: Any) -> Sizes:
        """As for all; the levels are those of the highest bandwidth."""
        config = model.config
        return Sizes(config.sample_rate, config.hop_length, _all_levels(model), config.codebook_size)

    def encode(self, model: Any, audio: Tensor, num_quantizers: int) -> Tensor:
        """As for all, at the lowest bandwidth that has the levels."""
        codes: Tensor = model.encode(audio, bandwidth=_bandwidth(model, num_quantizers)).audio_codes
        return codes


class Encodec(Family):
    """EnCodec for 24 kHz (arXiv:2210.13438): causal convolutions, which pad by reflection, and an LSTM."""

    def refuse(self, config: Any) -> str:
        """As for all; the model for 48 kHz also cuts a recording into chunks, each with a scale."""
        if config.audio_channels != 1 or config.chunk_length_s or config.normalize:
            return "it is an EnCodec of stereo or of chunks with scales: give that for 24 kHz"
        return ""

    def sizes(self, model: Any) -> Sizes:
        """As for all; the levels are those of the highest bandwidth."""
        config = model.config
        return Sizes(config.sampling_rate, config.hop_length, _all_levels(model), config.codebook_size)

    def encode(self, model: Any, audio: Tensor, num_quantizers: int) -> Tensor:
        """As for all, at the lowest bandwidth that has the levels."""
        chunks: Tensor = model.encode(audio, bandwidth=_bandwidth(model, num_quantizers)).audio_codes
        return chunks[0]  # there is only one

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        """As for all."""
        audio: Tensor = model.decode(audio_codes=codes[None], audio_scales=[None]).audio_values
        return audio


class Xcodec2(Family):
    """X-Codec2 (arXiv:2502.04128): one scalar-quantized code a frame, from the waveform and from w2v-BERT features.

    Its feature extractor appends a zero before it fills up the last frame, so that whole frames make one more.
    """

    def sizes(self, model: Any) -> Sizes:
        """As for all; the codewords are all combinations of the steps of its values."""
        config = model.config
        return Sizes(config.sampling_rate, config.hop_length, 1, math.prod(config.quantization_levels), tail=1)

    def encode(self, model: Any, audio: Tensor, num_quantizers: int) -> Tensor:
        """As for all, from what the feature extractor of the library makes of the audio."""
        library: Any = require("transformers", EXTRA)
        rate, hop_length = model.config.sampling_rate, model.config.hop_length
        extractor = library.Xcodec2FeatureExtractor(sampling_rate=rate, hop_length=hop_length)
        features = extractor([item[0].cpu() for item in audio], sampling_rate=rate, return_tensors="pt")
        codes: Tensor = model.encode(**features.to(audio.device)).audio_codes
        return codes.long()


FAMILIES: dict[str, Family] = {
    "encodec": Encodec(),
    "dac": Dac(),
    "mimi": Mimi(),
    "xcodec": Xcodec(),
    "xcodec2": Xcodec2(),
    "higgs_audio_v2_tokenizer": Xcodec(),
    "wavtokenizer": Family(),
}
"""By the `model_type` of their configuration."""


def _bandwidths(model: Any) -> dict[int, float]:
    """The lowest bandwidth (kbit/s) for each number of levels that has one."""
    bandwidths = sorted(model.config.target_bandwidths, reverse=True)
    return {model.quantizer.get_num_quantizers_for_bandwidth(bandwidth): bandwidth for bandwidth in bandwidths}


def _all_levels(model: Any) -> int:
    levels: int = model.config.num_quantizers
    return min(levels, max(_bandwidths(model)))


def _bandwidth(model: Any, num_quantizers: int) -> float:
    """The lowest bandwidth (kbit/s) with at least so many levels: more would be computed and thrown away."""
    return min((levels, bandwidth) for levels, bandwidth in _bandwidths(model).items() if levels >= num_quantizers)[1]
