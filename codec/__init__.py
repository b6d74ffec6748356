"""A neural audio codec toolkit: waveform to tokens and back, and the recipes that train it.

    import codec

    model = codec.load_codec("runs/speech_16khz")
    audio = codec.load_audio("talk.wav", model.sample_rate)
    codes = model.encode(audio)

Names are looked up on first use (PEP 562), so that `import codec` loads no torch. Notes go to the logger `codec`;
what a caller should know of is a warning of Python.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codec.adapters.for_transformers import save_for_transformers
    from codec.adapters.transformers_codec import load_transformers
    from codec.audio.file import load_audio, save_audio
    from codec.bitstream import Bitstream
    from codec.config import CodecConfig
    from codec.corpus.dataset import TokenDataset
    from codec.corpus.interleaving import DelayPattern, FlatPattern, ParallelPattern
    from codec.errors import AudioError, BitstreamError, CodecError, ConfigError, ModelError, WriteError
    from codec.inference.compression import compress, compress_file, read_bitstream
    from codec.inference.decompression import decompress, decompress_file
    from codec.inference.modes import speed_up
    from codec.inference.pretrained import load_codec, save_codec
    from codec.inference.streaming import StreamDecoder, StreamEncoder
    from codec.model.codec import Codec
    from codec.release.publish import push_to_hub

__all__ = [
    "AudioError",
    "Bitstream",
    "BitstreamError",
    "Codec",
    "CodecConfig",
    "CodecError",
    "ConfigError",
    "DelayPattern",
    "FlatPattern",
    "ModelError",
    "ParallelPattern",
    "StreamDecoder",
    "StreamEncoder",
    "TokenDataset",
    "WriteError",
    "compress",
    "compress_file",
    "decompress",
    "decompress_file",
    "load_audio",
    "load_codec",
    "load_transformers",
    "push_to_hub",
    "read_bitstream",
    "save_audio",
    "save_codec",
    "save_for_transformers",
    "speed_up",
]

_MODULES = {
    "codec.adapters.for_transformers": ("save_for_transformers",),
    "codec.adapters.transformers_codec": ("load_transformers",),
    "codec.audio.file": ("load_audio", "save_audio"),
    "codec.bitstream": ("Bitstream",),
    "codec.inference.compression": ("compress", "compress_file", "read_bitstream"),
    "codec.inference.decompression": ("decompress", "decompress_file"),
    "codec.config": ("CodecConfig",),
    "codec.corpus.dataset": ("TokenDataset",),
    "codec.corpus.interleaving": ("DelayPattern", "FlatPattern", "ParallelPattern"),
    "codec.errors": ("AudioError", "BitstreamError", "CodecError", "ConfigError", "ModelError", "WriteError"),
    "codec.inference.modes": ("speed_up",),
    "codec.model.codec": ("Codec",),
    "codec.inference.pretrained": ("load_codec", "save_codec"),
    "codec.inference.streaming": ("StreamDecoder", "StreamEncoder"),
    "codec.release.publish": ("push_to_hub",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

logging.getLogger(__name__).addHandler(logging.NullHandler())  # the application decides what is shown, and where


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'codec' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
