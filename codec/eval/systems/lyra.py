"""Lyra V2 from the three `.tflite` files of its release (https://github.com/google/lyra, `lyra/model_coeffs`).

A packet is a frame of 20 ms: the encoder maps 320 samples to 64 features, a residual quantizer codes them by up to 46
codebooks of 16 codewords, and the decoder maps the decoded features to 320 samples. All work on one channel at 16 kHz.
Both networks keep the samples before a frame in the interpreter, so every channel of every recording gets new ones.

The files are not part of this toolkit: their user names the folder.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec.errors import ConfigError, ModelError, one_line, require
from codec.eval.systems.system import Coded, in_kbits, round_trip, whole_frames

EXTRA = "lyra"
SAMPLE_RATE, HOP_LENGTH = 16_000, 320
BITS_PER_LEVEL, CODEBOOK_SIZE, MAX_LEVELS = 4, 16, 46
LEVELS = {3200: 16, 6000: 30, 9200: 46}
"""Number of levels by bitrate (bit/s): 64, 120 and 184 bits in packets of 8, 15 and 23 bytes."""
ENCODER, QUANTIZER, DECODER = FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")

Array = NDArray[Any]


@dataclass(frozen=True)
class Lyra:
    """Lyra V2 at a bitrate. Its size is that of its packets; it has no header.

    Attributes:
        folder: Holds `FILES`.
        bitrate: Key of `LEVELS` (bit/s).
    """

    folder: Path
    bitrate: int
    codec: str = "lyra"
    sample_rate: int = SAMPLE_RATE

    @property
    def setting(self) -> str:
        """The bitrate."""
        return in_kbits(self.bitrate)

    def __call__(self, audio: Tensor) -> Coded:
        """Encode and decode a recording `[C, T]`; the channels are coded separately.

        Raises:
            CodecError: A file is missing or is no such network, or the runtime is not installed or fails.
        """
        read_files(self.folder)
        trip = round_trip(self.codec, audio, self._encode, self._decode)
        packet_bytes = math.ceil(LEVELS[self.bitrate] * BITS_PER_LEVEL / 8)
        num_bytes = len(audio) * trip.encoded.shape[-1] * packet_bytes
        bitrate = len(audio) * float(self.bitrate)
        return Coded(
            trip.audio, num_bytes, trip.encode_seconds, trip.decode_seconds, trip.encoded, CODEBOOK_SIZE, bitrate
        )

    def _encode(self, audio: Tensor) -> Tensor:
        frames = whole_frames(audio, HOP_LENGTH).reshape(len(audio), -1, HOP_LENGTH)
        return torch.stack([self._encode_channel(channel.numpy()) for channel in frames])

    def _encode_channel(self, frames: Array) -> Tensor:
        """Codes `[K, F]` of frames `[F, 320]`."""
        encoder = _network(self.folder, ENCODER)
        quantize = _interpreter(self.folder, QUANTIZER).get_signature_runner("encode")
        shapes = {name: details["shape"] for name, details in quantize.get_input_details().items()}
        num_levels = LEVELS[self.bitrate]
        number = np.full(shapes["num_quantizers"], num_levels, np.int32)
        codes = []
        for frame in frames:
            features = encoder(frame).reshape(shapes["input_frames"])
            # output_1 is the number of bits of a level
            found = quantize(num_quantizers=number, input_frames=features)["output_0"]
            codes.append(torch.from_numpy(found.reshape(-1)[:num_levels].astype(np.int64)))
        return torch.stack(codes, dim=1)

    def _decode(self, codes: Tensor) -> Tensor:
        return torch.stack([self._decode_channel(channel.T.numpy()) for channel in codes])

    def _decode_channel(self, codes: Array) -> Tensor:
        """Audio `[T]` of codes `[F, K]`."""
        dequantize = _interpreter(self.folder, QUANTIZER).get_signature_runner("decode")
        decoder = _network(self.folder, DECODER)
        frames = []
        for frame in codes:
            indices = np.full((MAX_LEVELS, 1, 1), -1, np.int32)  # -1: a level that is not used
            indices[: len(frame), 0, 0] = frame
            frames.append(decoder(dequantize(encoding_indices=indices)["output_0"]).reshape(-1))
        return torch.from_numpy(np.concatenate(frames).astype(np.float32)).clamp(-1, 1)


@functools.cache
def read_files(folder: Path) -> dict[str, bytes]:
    """Read the three files, once a process.

    Raises:
        ConfigError: The runtime is not installed, or a file is missing.
    """
    require("ai_edge_litert", EXTRA)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"{folder} has no {missing[0]}: give the folder with the .tflite files of Lyra V2")
    return {name: (folder / name).read_bytes() for name in FILES}


def _interpreter(folder: Path, name: str) -> Any:
    """A network in its initial state, with one thread."""
    runtime: Any = require("ai_edge_litert.interpreter", EXTRA)
    try:
        interpreter = runtime.Interpreter(model_content=read_files(folder)[name], num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"can't load {folder / name}: {one_line(error)}") from error
    return interpreter


def _network(folder: Path, name: str) -> Callable[[Array], Array]:
    """A network with one input and one output, as a function of arrays of any shape with the size of the input."""
    interpreter = _interpreter(folder, name)
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(values: Array) -> Array:
        interpreter.set_tensor(source["index"], np.ascontiguousarray(values.reshape(source["shape"]), np.float32))
        interpreter.invoke()
        result: Array = interpreter.get_tensor(target["index"])
        return result

    return run
