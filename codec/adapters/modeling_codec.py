"""A model of the toolkit `codec` in the conventions of transformers; it needs `pip install codec`.

This file lives beside `config.json` and `model.safetensors` in a folder that `codec.save_for_transformers` wrote:

    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    inputs = AutoFeatureExtractor.from_pretrained(folder)(audio, sampling_rate=16000, return_tensors="pt")
    codes = model.encode(**inputs).audio_codes
    audio = model.decode(codes, inputs["padding_mask"]).audio_values

The network is causal: zeros behind a recording change none of its frames, so a batch gives what each item gives alone.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from codec.config import CodecConfig, from_dict
from codec.model.builder import build_codec
from codec.model.codec import Codec


class NeuralCodecConfig(PreTrainedConfig):
    """Configuration of a model: that of the toolkit, read strictly, in `codec_config`."""

    model_type = "neural_codec"

    def __init__(self, codec_config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.codec_config = codec_config or {}
        super().__init__(**kwargs)

    @property
    def codec(self) -> CodecConfig:
        """The configuration of the toolkit."""
        return from_dict(CodecConfig, self.codec_config, source="codec_config")

    @property
    def sampling_rate(self) -> int:
        """Hz."""
        return self.codec.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples of a frame."""
        return self.codec.hop_length

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz)."""
        return self.codec.frame_rate

    @property
    def num_quantizers(self) -> int:
        """Levels."""
        return self.codec.quantizer.num_quantizers

    @property
    def codebook_size(self) -> int:
        """Codewords of a level."""
        return self.codec.quantizer.codebook_size


@dataclass
class NeuralCodecEncoderOutput(ModelOutput):
    """Result of `encode`."""

    audio_codes: Tensor | None = None
    """int64 `[B, K, F]`."""
    audio_codes_mask: Tensor | None = None
    """bool `[B, F]`, True for the frames of the audio that is not padding; None without a padding mask."""


@dataclass
class NeuralCodecDecoderOutput(ModelOutput):
    """Result of `decode`."""

    audio_values: Tensor | None = None
    """`[B, 1, T]` in [-1, 1]."""


@dataclass
class NeuralCodecOutput(ModelOutput):
    """Result of a call of the model: the codes, and what they decode to."""

    audio_codes: Tensor | None = None
    """int64 `[B, K, F]`."""
    audio_values: Tensor | None = None
    """`[B, 1, T]`, as long as the input."""


Output = TypeVar("Output", NeuralCodecEncoderOutput, NeuralCodecDecoderOutput, NeuralCodecOutput)


class NeuralCodecModel(PreTrainedModel):
    """Encoder, quantizer and decoder of the toolkit, under the names that they have in its files.

    `model.codec` is the same model for the functions of the toolkit, such as `codec.compress(model.codec, audio)`.
    """

    config_class = NeuralCodecConfig
    main_input_name = "input_values"
    input_modalities = "audio"
    # Statistics of training, which no file of the toolkit has.
    _keys_to_ignore_on_save: ClassVar = ["quantizer.codebooks.counts", "quantizer.codebooks.sums"]
    _keys_to_ignore_on_load_missing: ClassVar = [r"quantizer\.codebooks\.(counts|sums)"]

    def __init__(self, config: NeuralCodecConfig) -> None:
        super().__init__(config)
        codec = _build(config)
        self.encoder, self.quantizer, self.decoder = codec.encoder, codec.quantizer, codec.decoder
        self.allocation = codec.allocation
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a model as every model of transformers, with the fixed transforms that no file has.

        The library leaves buffers that are not saved without values.
        """
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        saved = model.state_dict().keys()
        with torch.no_grad():
            for name, buffer in _build(model.config).named_buffers():
                if name not in saved:
                    model.get_buffer(name).copy_(buffer)
        model.quantizer.restart_statistics()
        return loaded

    @property
    def codec(self) -> Codec:
        """The codec of these modules."""
        parts = self.encoder, self.quantizer, self.decoder, self.config.codec, self.allocation
        return Codec(*parts).train(self.training)

    def encode(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
        beam: int = 1,
        return_dict: bool | None = None,
    ) -> NeuralCodecEncoderOutput | tuple[Tensor, ...]:
        """Encode audio to codes.

        Args:
            input_values: float32 `[B, 1, T]` in [-1, 1] at `config.sampling_rate`.
            padding_mask: `[B, T]` or `[B, 1, T]`, 1 for audio and 0 for the padding behind it.
            num_quantizers: Levels to use, from the first; all by default.
            beam: Paths kept in the search; more give better codes and take longer.
            return_dict: False: a tuple.

        Raises:
            ValueError: Wrong shape or dtype, no samples, NaN, Inf, a peak above 4, or padding before the audio.
        """
        codec = self.codec
        mask = _check_mask(input_values, padding_mask)
        audio = input_values if mask is None else input_values * mask[:, None]
        codes = codec.encode(audio, num_quantizers, beam=beam)
        codes_mask = None if mask is None else codec.frame_mask(mask.sum(dim=-1), codes.shape[-1])
        return self._output(NeuralCodecEncoderOutput(codes, codes_mask), return_dict)

    def decode(
        self, audio_codes: Tensor, padding_mask: Tensor | None = None, return_dict: bool | None = None
    ) -> NeuralCodecDecoderOutput | tuple[Tensor, ...]:
        """Decode codes to audio.

        Args:
            audio_codes: int64 `[B, k, F]` of the first k levels.
            padding_mask: That of the audio: the result is as long, and silent where the mask is 0. By default the
                result is all that the frames hold.
            return_dict: False: a tuple.

        Raises:
            ValueError: Wrong shape, or codes out of range.
        """
        codec = self.codec
        audio = codec.decode(audio_codes, None if padding_mask is None else padding_mask.shape[-1])
        mask = _check_mask(audio, padding_mask)
        audio = audio if mask is None else audio * mask[:, None]
        return self._output(NeuralCodecDecoderOutput(audio), return_dict)

    def forward(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
        audio_codes: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> NeuralCodecOutput | tuple[Tensor, ...]:
        """Encode audio, unless its codes are given, and decode the codes; arguments as of `encode` and `decode`."""
        if audio_codes is None:
            (audio_codes, *_) = self.encode(input_values, padding_mask, num_quantizers, return_dict=False)
        mask = torch.ones_like(input_values) if padding_mask is None else padding_mask
        (audio,) = self.decode(audio_codes, mask, return_dict=False)
        return self._output(NeuralCodecOutput(audio_codes, audio), return_dict)

    def _output(self, output: Output, return_dict: bool | None) -> Output | tuple[Tensor, ...]:
        """The output; its fields as a tuple if `return_dict`, or else the configuration, is False."""
        if self.config.return_dict if return_dict is None else return_dict:
            return output
        fields: tuple[Tensor, ...] = output.to_tuple()
        return fields

    def _init_weights(self, module: Any) -> None:
        """Nothing: the parts initialise themselves."""


def _build(config: NeuralCodecConfig) -> Codec:
    """The untrained codec; on the CPU, because the library builds a model on a device without memory."""
    with torch.device("cpu"):
        return build_codec(config.codec)


def _check_mask(audio: Tensor, padding_mask: Tensor | None) -> Tensor | None:
    """The mask as `[B, T]` in the dtype of the audio `[B, 1, T]`; ValueError unless padding comes last."""
    if padding_mask is None:
        return None
    mask = padding_mask.reshape(len(padding_mask), -1).to(audio)
    if mask.shape != (audio.shape[0], audio.shape[-1]):
        raise ValueError(f"padding_mask is {list(padding_mask.shape)} for audio {list(audio.shape)}")
    if bool((mask.diff(dim=-1) > 0).any()) or bool((mask[:, :1] == 0).any()):
        raise ValueError("padding must come behind the audio, and no item may be all padding: set padding_side='right'")
    return mask
