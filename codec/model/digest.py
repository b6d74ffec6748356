"""Identity of a model: a SHA-256 over its constants and the tensors that encoding and decoding need."""

import hashlib

from torch import Tensor

from codec.model.audio_codec import AudioCodec
from codec.model.codec import Codec

_TRAINING_ONLY = ("quantizer.codebooks.counts", "quantizer.codebooks.sums")


def inference_tensors(codec: AudioCodec) -> dict[str, Tensor]:
    """The tensors that encoding and decoding need, on the CPU and contiguous; training statistics are left out."""
    state = codec.state_dict()
    return {key: tensor.detach().cpu().contiguous() for key, tensor in state.items() if key not in _TRAINING_ONLY}


def model_identity(codec: AudioCodec) -> bytes:
    """SHA-256 (32 bytes) over what decoding depends on: the model's constants and every tensor with its name.

    The entropy tables, where there are any, are among the tensors. The text of config.json is not: a key that a later
    version adds to it would give every old file another model.
    """
    if codec.identity is not None:
        return codec.identity
    digest = hashlib.sha256(f"{codec.sample_rate} {codec.hop_length} {codec.delay}".encode())
    tables = {} if codec.entropy is None else codec.entropy.tensors()
    tensors = inference_tensors(codec) | {f"entropy.{name}": tensor for name, tensor in tables.items()}
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.digest()


def with_identity(codec: Codec) -> Codec:
    """Make a codec of the same modules that holds its identity; valid while no tensor changes.

    For work on many files: the identity is computed once, not for every file (25 ms for 6 million parameters).
    """
    if codec.identity is not None:
        return codec
    parts = codec.encoder, codec.quantizer, codec.decoder, codec.config, codec.allocation
    return Codec(*parts, entropy=codec.entropy, identity=model_identity(codec)).train(codec.training)
