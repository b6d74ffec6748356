"""Faster ways to run a model, by name; each is a `Codec` with the same calls, streams and identity.

    float32        as trained
    bf16_decoder   codes are those of float32, to the bit; audio from a decoder in bfloat16
    bf16           encoder too: some codes differ, mostly at the later levels
    onnx           float32 through ONNX Runtime: the fastest where a CPU has no bfloat16, and for live streams

Bfloat16 pays where the processor multiplies it (AVX-512 BF16, AMX, a GPU) and is slow elsewhere, see
`codec.dsp.precision.has_fast_bfloat16`. The search among codewords is float32 in every mode. torch.compile is not among
them: on a CPU it takes half a minute to compile, and was then between 8% faster and 8% slower than without.
"""

import copy

from codec.errors import ConfigError
from codec.model.codec import Codec
from codec.model.digest import model_identity

MODES = ("float32", "bf16_decoder", "bf16", "onnx")


def speed_up(codec: Codec, mode: str) -> Codec:
    """Make the copy of a loaded model that runs in `mode`; for float32 the model itself.

    Raises:
        ConfigError: There is no such mode, what it needs is not installed, or the model is in one already.
        ModelError: ONNX Runtime gives other results than PyTorch.
    """
    if type(codec) is not Codec or not codec.is_float32:
        raise ConfigError("the model is in a fast mode already: give the one that it was made from")
    if mode == "float32":
        return codec
    if mode == "bf16_decoder":
        return _in_bfloat16(codec, "decoder")
    if mode == "bf16":
        return _in_bfloat16(codec, "encoder", "decoder")
    if mode == "onnx":
        from codec.onnx.engine import load_onnx  # an extra that few need

        return load_onnx(codec)
    raise ConfigError(f"no mode {mode!r}: choose {', '.join(MODES)}")


def _in_bfloat16(codec: Codec, *parts: str) -> Codec:
    """A copy whose `parts` have weights in bfloat16. Files name it like the original."""
    modules = copy.deepcopy((codec.encoder, codec.quantizer, codec.decoder, codec.config, codec.allocation))
    fast = Codec(*modules, entropy=codec.entropy, identity=model_identity(codec)).train(codec.training)
    for part in parts:
        for weight in fast.get_submodule(part).parameters():  # the fixed transforms are buffers and stay as they are
            weight.data = weight.data.bfloat16()
    return fast
