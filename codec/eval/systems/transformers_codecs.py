"""EnCodec, DAC and Mimi of `transformers`, from a folder that `save_pretrained` wrote.

`TransformersModel` maps audio to codes and back; `TransformersCodec` makes a system of it. Nothing is downloaded, no
code in the folder is executed, and only `.safetensors` weights are read.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codec.errors import ConfigError, ModelError, one_line, require
from codec.eval.systems.system import Coded, in_kbits, round_trip, whole_frames

EXTRA = "bench"
FAMILIES = {
    "encodec": ("num_quantizers", "hop_length"),
    "dac": ("n_codebooks", "hop_length"),
    "mimi": ("num_quantizers", "frame_size"),
}
"""Names of the number of levels and of the samples of a frame in the configuration, by `model_type`."""


class TransformersModel:
    """Encoder and decoder of one of `FAMILIES`.

    Args:
        folder: Made by `save_pretrained`.

    Attributes:
        family: Key of `FAMILIES`.
        sample_rate: Hz.
        hop_length: Samples of a frame.
        num_quantizers: Levels of the model.
        codebook_size: Codewords of a level.

    Raises:
        ConfigError: The folder is missing, or of a codec that this adapter does not know; or transformers is not
            installed.
        ModelError: The files can't be loaded.
    """

    def __init__(self, folder: Path) -> None:
        library: Any = require("transformers", EXTRA)
        library.utils.logging.disable_progress_bar()  # a bar for every process would garble that of the evaluation
        if not folder.is_dir():
            raise ConfigError(f"{folder} is no folder: give one that save_pretrained of transformers wrote")
        config = _load(folder, library.AutoConfig)
        self.family: str = config.model_type
        if self.family not in FAMILIES:
            raise ConfigError(f"{folder} holds a model {self.family!r}: give one of {', '.join(FAMILIES)}")
        if self.family == "encodec" and (config.audio_channels != 1 or config.chunk_length or config.normalize):
            raise ConfigError(f"{folder} holds an EnCodec of stereo or of chunks with scales: give that for 24 kHz")
        levels, hop_length = FAMILIES[self.family]
        self.sample_rate: int = config.sampling_rate
        self.hop_length: int = getattr(config, hop_length)
        self.num_quantizers: int = getattr(config, levels)
        self.codebook_size: int = config.codebook_size
        self._model = _load(folder, library.AutoModel, use_safetensors=True).eval()
        # EnCodec takes the lowest of its bitrates by default, the others all levels.
        self._all_levels = {"bandwidth": max(config.target_bandwidths)} if self.family == "encodec" else {}

    @property
    def bitrate_per_level(self) -> float:
        """Bitrate of a level of one channel (bit/s)."""
        return math.log2(self.codebook_size) * self.sample_rate / self.hop_length

    @torch.no_grad()
    def encode(self, audio: Tensor, num_quantizers: int | None = None) -> Tensor:
        """Encode audio `[C, T]`, each channel for itself, to codes `[C, K, F]` with F = ceil(T / hop_length).

        All levels are computed, and the first `num_quantizers` kept: every family chooses the codes of a level by what
        the levels before it leave over, so the others do not change them.
        """
        encoded = self._model.encode(whole_frames(audio, self.hop_length)[:, None], **self._all_levels)
        codes: Tensor = encoded.audio_codes
        codes = codes[0] if self.family == "encodec" else codes  # one chunk
        return codes[:, :num_quantizers]

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes `[C, k, F]` to audio `[C, T]`; DAC gives a few samples less than F * hop_length."""
        if self.family == "encodec":
            decoded = self._model.decode(codes[None], [None])
        else:
            decoded = self._model.decode(audio_codes=codes)
        audio: Tensor = decoded.audio_values
        return audio.reshape(len(codes), -1)


@dataclass(frozen=True)
class TransformersCodec:
    """A `TransformersModel` at a number of levels. It has no file format: its size is that of its codes.

    Attributes:
        codec: Name of the model.
        folder: See `TransformersModel`; every process loads it once.
        num_quantizers: Levels to use.
        bitrate: Of these levels, one channel (bit/s).
        sample_rate: Of the model (Hz).
    """

    codec: str
    folder: Path
    num_quantizers: int
    bitrate: float
    sample_rate: int

    @property
    def setting(self) -> str:
        """Bitrate of one channel."""
        return in_kbits(round(self.bitrate))

    def __call__(self, audio: Tensor) -> Coded:
        """Encode and decode a recording `[C, T]`.

        Raises:
            CodecError: The model can't be loaded or fails.
        """
        model = load(self.folder)
        trip = round_trip(self.codec, audio, lambda audio: model.encode(audio, self.num_quantizers), model.decode)
        num_bytes = math.ceil(trip.encoded.numel() * math.log2(model.codebook_size) / 8)
        bitrate = len(audio) * self.bitrate
        return Coded(
            trip.audio, num_bytes, trip.encode_seconds, trip.decode_seconds, trip.encoded, model.codebook_size, bitrate
        )


@functools.cache
def load(folder: Path) -> TransformersModel:
    """Load a model, once a process; errors as of `TransformersModel`."""
    return TransformersModel(folder)


def _load(folder: Path, loader: Any, **how: Any) -> Any:
    try:
        return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **how)
    except Exception as error:  # transformers raises whatever its parts raise
        raise ModelError(f"can't load {folder}: {one_line(error)}") from error
