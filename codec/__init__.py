"""A neural audio codec toolkit: waveform to tokens and back, and the recipes that train it.

    import codec

    model = codec.load_codec("runs/speech_16khz")
    audio = codec.load_audio("talk.wav", model.sample_rate)
    codes = model.encode(audio)

Names are looked up on first use (PEP 562), so that `import codec` loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codec.audio import load_audio, save_audio
    from codec.bitstream import Bitstream
    from codec.compression import compress, compress_file, decompress, decompress_file, read_bitstream
    from codec.config import CodecConfig
    from codec.errors import CodecError
    from codec.fast import speed_up
    from codec.model.codec import Codec
    from codec.pretrained import load_codec, save_codec
    from codec.streaming import StreamDecoder, StreamEncoder

__all__ = [
    "Bitstream",
    "Codec",
    "CodecConfig",
    "CodecError",
    "StreamDecoder",
    "StreamEncoder",
    "compress",
    "compress_file",
    "decompress",
    "decompress_file",
    "load_audio",
    "load_codec",
    "read_bitstream",
    "save_audio",
    "save_codec",
    "speed_up",
]

_MODULES = {
    "codec.audio": ("load_audio", "save_audio"),
    "codec.bitstream": ("Bitstream",),
    "codec.compression": ("compress", "compress_file", "decompress", "decompress_file", "read_bitstream"),
    "codec.config": ("CodecConfig",),
    "codec.errors": ("CodecError",),
    "codec.fast": ("speed_up",),
    "codec.model.codec": ("Codec",),
    "codec.pretrained": ("load_codec", "save_codec"),
    "codec.streaming": ("StreamDecoder", "StreamEncoder"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'codec' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
