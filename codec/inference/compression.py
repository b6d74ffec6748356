"""Encode audio or audio files to bitstreams, block by block: any length in constant memory.

compress        audio [1, C, T] -> Bitstream          compress_file     in.wav -> in.codec
                                                      compress_source   in.wav -> Bitstream
                                                      read_bitstream    in.codec -> Bitstream

`codec.inference.decompression` is the way back.

The codes of a model with entropy tables are entropy-coded in files, those of other models are packed. A codec of
another library is run on a recording as a whole, see `codec.inference.whole`.
"""

import contextlib
import functools
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec.audio.file import iterate_blocks, read_info
from codec.audio.resampling import Resampler
from codec.bitstream import ENTROPY_CODED, PACKED, Bitstream, BitstreamWriter, EntropyCoder, Header
from codec.config import FILE_BEAM
from codec.errors import AudioError, BitstreamError
from codec.files import new_file
from codec.inference.streaming import StreamEncoder
from codec.inference.whole import encode_whole
from codec.model.audio_codec import MAX_PEAK, AudioCodec
from codec.model.codec import Codec
from codec.model.digest import model_identity
from codec.model.entropy_tables import EntropyTables

Codes = NDArray[np.int64]

BLOCK_S = 10.0
"""Seconds coded at a time: a compromise of speed and memory."""


class FileBlocks:
    """Iterates over an audio file in blocks `[C, n]` at the model's rate; warns of a peak above full scale.

    Args:
        path: Audio file of any rate, length and number of channels.
        model_rate: Rate of the blocks (Hz).

    Attributes:
        sample_rate: The file's own rate (Hz).
        num_channels: C.
        num_samples: Samples of a channel read so far, at the file's own rate. They are counted because the length in a
            header may be an estimate.

    Raises:
        AudioError: The file can't be read or used. Damage that only decoding shows is raised during the iteration.
    """

    def __init__(self, path: Path, model_rate: int) -> None:
        self.path, self.model_rate = path, model_rate
        self.sample_rate, self.num_channels, _ = read_info(path)
        self.num_samples = 0

    def __iter__(self) -> Iterator[Tensor]:
        self.num_samples = 0
        resampler = Resampler(self.sample_rate, self.model_rate, self.num_channels)
        peak = 0.0
        for block in iterate_blocks(self.path, round(BLOCK_S * self.sample_rate)):
            self.num_samples += block.shape[1]
            peak = max(peak, float(np.abs(block).max()))
            yield torch.from_numpy(resampler.push(block))
        yield torch.from_numpy(resampler.flush())
        if 1 < peak <= MAX_PEAK:  # the encoder refuses what is above
            warnings.warn(f"{self.path} has a peak of {peak:.4g}: audio is meant to be in [-1, 1]", stacklevel=2)


def compress(
    codec: AudioCodec, audio: Tensor, *, num_quantizers: int | None = None, beam: int = FILE_BEAM
) -> Bitstream:
    """Encode audio of any length.

    Args:
        codec: In eval mode.
        audio: float `[1, C, T]` in [-1, 1] at the model's sample rate; channels are coded separately.
        num_quantizers: Use the first `num_quantizers` levels; all by default.
        beam: Paths kept in the search, see `Codec.encode`.

    Raises:
        AudioError: Wrong shape, no samples, NaN or Inf.
        ConfigError: `num_quantizers` is not in 1 .. K, or `beam` not in 1 .. 64.
    """
    if audio.ndim != 3 or audio.shape[0] != 1 or audio.shape[1] == 0:
        raise AudioError(f"audio must be [1, C, T], not {list(audio.shape)}")
    blocks = torch.split(audio[0], block_samples(codec), dim=-1)
    codes = np.concatenate(list(_encode_blocks(codec, blocks, num_quantizers, beam)), axis=-1)
    header = describe_codes(codec, codes.shape[1], num_channels=audio.shape[1], num_samples=audio.shape[2])
    return Bitstream(header, codes, coder=entropy_coder(codec))


def compress_file(
    codec: AudioCodec,
    source: Path,
    target: Path,
    *,
    num_quantizers: int | None = None,
    beam: int = FILE_BEAM,
    overwrite: bool = False,
) -> Header:
    """Encode an audio file of any rate, length and number of channels to a `.codec` file; arguments as of `compress`.

    Returns:
        Header of the written file.

    Raises:
        AudioError: The source can't be read or used.
        WriteError: The target exists and `overwrite` is False, or it can't be written; nothing is left behind.
        ConfigError: `num_quantizers` is not in 1 .. K, or `beam` not in 1 .. 64.
    """
    blocks = FileBlocks(source, codec.sample_rate)
    levels = num_quantizers or codec.num_quantizers
    header = describe_codes(codec, levels, num_channels=blocks.num_channels, sample_rate=blocks.sample_rate)
    with new_file(target, overwrite=overwrite) as file:
        writer = BitstreamWriter(file, header, entropy_coder(codec))
        for codes in _encode_blocks(codec, blocks, num_quantizers, beam):
            writer.write(codes)
        writer.close(blocks.num_samples)
    return writer.header


def compress_source(
    codec: AudioCodec, source: Path, *, num_quantizers: int | None = None, beam: int = FILE_BEAM
) -> Bitstream:
    """Encode an audio file block by block to codes in memory; arguments and errors as of `compress_file`."""
    blocks = FileBlocks(source, codec.sample_rate)
    codes = np.concatenate(list(_encode_blocks(codec, blocks, num_quantizers, beam)), axis=-1)
    rate, num_channels = blocks.sample_rate, blocks.num_channels
    header = describe_codes(
        codec, codes.shape[1], num_channels=num_channels, sample_rate=rate, num_samples=blocks.num_samples
    )
    return Bitstream(header, codes, coder=entropy_coder(codec))


def read_bitstream(
    source: Path,
    codec: AudioCodec | None = None,
    *,
    salvage: bool = False,
    start: float = 0.0,
    duration: float | None = None,
) -> Bitstream:
    """Read the codes of a `.codec` file, or of a part of it, into memory.

    Args:
        source: `.codec` file.
        codec: The model that made it; a packed file needs none.
        salvage: Read a damaged file too; `lost` names the lost frames.
        start: Time at which the part begins (s), see `Bitstream.cut`; only its chunks are read.
        duration: In seconds; to the end if None.

    Raises:
        BitstreamError: The source is no intact `.codec` file, of another model, or entropy-coded and `codec` is None.
        ConfigError: `start` is negative, NaN or not before the end, or the part holds no sample.
    """
    with opened(source) as file:
        if codec is not None:
            check_model(codec, Header.from_file(file))
        coder = None if codec is None else entropy_coder(codec)
        return Bitstream.from_file(file, salvage=salvage, coder=coder, start=start, duration=duration)


def describe_codes(
    codec: AudioCodec,
    num_quantizers: int,
    *,
    num_channels: int = 1,
    sample_rate: int | None = None,
    num_samples: int = 0,
) -> Header:
    """Make the header for codes of this model; `sample_rate` (Hz), the original rate, is the model's by default."""
    return Header(
        model_id=model_identity(codec),
        model_sample_rate=codec.sample_rate,
        sample_rate=sample_rate or codec.sample_rate,
        num_channels=num_channels,
        num_quantizers=num_quantizers,
        codebook_size=codec.codebook_size,
        hop_length=codec.hop_length,
        delay=codec.delay,
        num_samples=num_samples,
        payload_kind=PACKED if codec.entropy is None else ENTROPY_CODED,
    )


def entropy_coder(codec: AudioCodec) -> EntropyCoder | None:
    """The entropy coder of a model for its files; None if it has no tables: then its codes are packed."""
    return None if codec.entropy is None else _coder(codec.entropy)


@functools.lru_cache(maxsize=4)  # making a coder takes as long as coding some seconds of audio
def _coder(tables: EntropyTables) -> EntropyCoder:
    return EntropyCoder(**{name: tensor.numpy() for name, tensor in tables.coding_tables().items()})


def check_model(codec: AudioCodec, header: Header) -> None:
    """Raise BitstreamError if another model made the codes that `header` describes."""
    identity = model_identity(codec)
    if header.model_id != identity:
        raise BitstreamError(
            f"the codes are of model {header.model_id.hex()[:12]}, not of {identity.hex()[:12]}", codec=...
        )


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read it; an error of the system becomes a BitstreamError, also while it is read."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise BitstreamError(f"can't read {path}: {error.strerror or error}") from error


def block_samples(codec: AudioCodec) -> int:
    """Samples coded at a time, whole frames."""
    return max(1, round(BLOCK_S * codec.frame_rate)) * codec.hop_length


def _encode_blocks(
    codec: AudioCodec, blocks: Iterable[Tensor], num_quantizers: int | None, beam: int
) -> Iterator[Codes]:
    """Encode blocks `[C, n]` at the model's rate to codes `[C, K, f]`; the channels are a batch."""
    if not isinstance(codec, Codec):
        yield encode_whole(codec, blocks, num_quantizers, beam=beam).cpu().numpy()
        return
    device = codec.device
    encoder = StreamEncoder(codec, num_quantizers, beam=beam)
    for block in blocks:
        yield encoder.push(block.to(device)[:, None]).cpu().numpy()
    yield encoder.flush().cpu().numpy()
