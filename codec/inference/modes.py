"""Faster modes of a model; each is a `Codec` with the same methods, streams and identity.

    float32        as trained
    bf16_decoder   decoder in bfloat16; codes equal those of float32 bit for bit
    bf16           encoder and decoder in bfloat16; some codes differ, mostly at the later levels
    onnx           float32 in ONNX Runtime; the fastest mode for live streams, and on a CPU without bfloat16

Bfloat16 is fast on processors with instructions for it (AVX-512 BF16, AMX, GPUs) and slow on others, see
`codec.dsp.precision.has_fast_bfloat16`. The search among codewords is float32 in every mode. torch.compile is no mode:
on a CPU it takes half a minute to compile, and the result was between 8% faster and 8% slower.
"""

import copy
from typing import overload

from codec.errors import ConfigError
from codec.model.audio_codec import AudioCodec
from codec.model.codec import Codec
from codec.model.digest import model_identity

MODES = ("float32", "bf16_decoder", "bf16", "onnx")


@overload
def speed_up(codec: Codec, mode: str) -> Codec: ...


@overload
def speed_up(codec: AudioCodec, mode: str) -> AudioCodec: ...


def speed_up(codec: AudioCodec, mode: str) -> AudioCodec:
    """Return a copy of a model that runs in `mode`; for float32 the model itself.

    Raises:
        ConfigError: There is no such mode, its package is not installed, the model is in a fast mode already, or it is
            a codec of another library.
        ModelError: ONNX Runtime gives other results than PyTorch.
    """
    if not isinstance(codec, Codec):
        if mode != "float32":
            raise ConfigError("a codec of another library runs in float32", mode="float32")
        return codec
    if type(codec) is not Codec or not codec.is_float32:
        raise ConfigError("the model is in a fast mode already: give the one that it was made from")
    if mode == "float32":
        return codec
    if mode == "bf16_decoder":
        return _in_bfloat16(codec, "decoder")
    if mode == "bf16":
        return _in_bfloat16(codec, "encoder", "decoder")
    if mode == "onnx":
        from codec.onnx.engine import load_onnx  # late: onnx and onnxruntime are optional

        return load_onnx(codec)
    raise ConfigError(f"no mode {mode!r}: choose {', '.join(MODES)}")


def _in_bfloat16(codec: Codec, *parts: str) -> Codec:
    """Copy a model with the weights of `parts` in bfloat16; the identity stays that of the original."""
    modules = copy.deepcopy((codec.encoder, codec.quantizer, codec.decoder, codec.config, codec.allocation))
    fast = Codec(*modules, entropy=codec.entropy, identity=model_identity(codec)).train(codec.training)
    for part in parts:
        for weight in fast.get_submodule(part).parameters():  # the fixed transforms are buffers and stay in float32
            weight.data = weight.data.bfloat16()
    return fast
