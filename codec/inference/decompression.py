"""Decode bitstreams, all of them or a part, block by block: any length in constant memory.

decompress         Bitstream -> audio [1, C, T] at the model's rate
decompress_codes   Bitstream -> out.wav, at the original rate
decompress_file    in.codec -> out.wav, at the original rate; of a part only its chunks are read

A part is a slice of the whole, not another decoding: the decoder starts as many frames early as it looks back, at the
border of a block, so that it computes the same blocks as for the whole. At the model's rate the slice is exact to the
bit. Another rate needs the resampler, see `Resampler.skip`. A codec of another library decodes the whole for a part of
it.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec.audio.file import new_audio_file
from codec.audio.resampling import Block, Resampler
from codec.bitstream import Bitstream, BitstreamReader, Header
from codec.bitstream.header import Frames
from codec.bitstream.interval import Samples, find_samples
from codec.inference.compression import block_samples, check_model, entropy_coder, opened
from codec.inference.whole import decode_whole
from codec.model.audio_codec import AudioCodec
from codec.model.codec import Codec
from codec.model.layers import Cache


class Piece(NamedTuple):
    """Codes that are decoded together."""

    first: int
    """Number of their first frame."""
    codes: NDArray[np.int64]
    """`[C, K, f]`."""
    is_lost: bool


Pieces = Callable[[Frames], Iterable[Piece]]
"""Gives the pieces that hold some frames, in order; there may be others before and after them."""


def decompress(codec: AudioCodec, bitstream: Bitstream, *, start: float = 0.0, duration: float | None = None) -> Tensor:
    """Decode a bitstream, or a part of it, to audio `[1, C, T]` at the model's sample rate; lost frames are silent.

    Args:
        codec: The model that made the codes.
        bitstream: Any length, any number of channels.
        start: Time at which the part begins (s).
        duration: In seconds; to the end if None or longer than what is left.

    Returns:
        Samples round(start * rate) .. round((start + duration) * rate) - 1 of the whole, bit for bit.

    Raises:
        BitstreamError: The bitstream is of another model.
        ConfigError: `start` is negative, NaN or not before the end, or the part holds no sample.
    """
    header = bitstream.header
    check_model(codec, header)
    samples = find_samples(start, duration, num_samples=header.model_samples, sample_rate=header.model_sample_rate)
    blocks = _decode(codec, header, lambda _: _split(codec, bitstream), samples)
    return torch.cat(list(blocks), dim=-1)[None]


def decompress_file(
    codec: AudioCodec,
    source: Path,
    target: Path,
    *,
    num_quantizers: int | None = None,
    start: float = 0.0,
    duration: float | None = None,
    salvage: bool = False,
    overwrite: bool = False,
) -> BitstreamReader:
    """Decode a `.codec` file, or a part of it, to an audio file of the original rate and channels and exact length.

    Args:
        codec: The model that made the file.
        source: `.codec` file.
        target: Audio file; its suffix decides the format.
        num_quantizers: Use the first `num_quantizers` levels; all by default.
        start: Time at which the part begins (s). It holds the samples round(start * rate) to
            round((start + duration) * rate) - 1 of the whole.
        duration: In seconds; to the end if None or longer than what is left.
        salvage: Decode a damaged file too; lost frames become silence of the same length.
        overwrite: Replace an existing target.

    Returns:
        The reader: its `header` describes the file, its `lost` names the lost frames of what was read.

    Raises:
        BitstreamError: The source is no intact `.codec` file, of another model, or has fewer levels; nothing is left
            behind. Of a part only the chunks that it needs are looked at, and the index.
        ConfigError: `start` is negative, NaN or not before the end, or the part holds no sample.
        WriteError: The target exists and `overwrite` is False, or it can't be written; nothing is left behind.
    """
    with opened(source) as file:
        check_model(codec, Header.from_file(file))
        reader = BitstreamReader(file, entropy_coder(codec))
        header = reader.header.keep_quantizers(num_quantizers or reader.header.num_quantizers)
        is_whole = start == 0 and duration is None

        def pieces(frames: Frames) -> Iterator[Piece]:
            return _without_gaps(header, reader.chunks(None if is_whole else frames, salvage=salvage), frames)

        _write_audio(codec, header, pieces, target, start, duration, overwrite=overwrite)
    return reader


def decompress_codes(
    codec: AudioCodec,
    bitstream: Bitstream,
    target: Path,
    *,
    start: float = 0.0,
    duration: float | None = None,
    overwrite: bool = False,
) -> None:
    """Decode codes in memory to an audio file of the original rate; arguments and errors as of `decompress_file`."""
    check_model(codec, bitstream.header)
    pieces = _split(codec, bitstream)
    _write_audio(codec, bitstream.header, lambda _: pieces, target, start, duration, overwrite=overwrite)


def _write_audio(
    codec: AudioCodec,
    header: Header,
    pieces: Pieces,
    target: Path,
    start: float,
    duration: float | None,
    *,
    overwrite: bool,
) -> None:
    """Decode a part, resample it to the original rate and write exactly its samples."""
    samples = find_samples(start, duration, num_samples=header.num_samples, sample_rate=header.sample_rate)
    with new_audio_file(target, header.sample_rate, header.num_channels, overwrite=overwrite) as writer:
        for block in _at_original_rate(codec, header, pieces, samples):
            writer.write(block)


def _at_original_rate(codec: AudioCodec, header: Header, pieces: Pieces, samples: Samples) -> Iterator[Block]:
    """Decode to blocks `[C, n]` of the samples first .. stop - 1 at the original rate."""
    resampler = Resampler(codec.sample_rate, header.sample_rate, header.num_channels)
    first, stop = resampler.inputs_of(*samples)
    resampler.skip(first)
    position = resampler.num_returned
    for block in _resampled(resampler, _decode(codec, header, pieces, (first, min(stop, header.model_samples)))):
        begin, end = (min(max(edge - position, 0), block.shape[1]) for edge in samples)
        yield block[:, begin:end]
        position += block.shape[1]


def _resampled(resampler: Resampler, blocks: Iterable[Tensor]) -> Iterator[Block]:
    for block in blocks:
        yield resampler.push(block.numpy())
    yield resampler.flush()


@torch.inference_mode()
def _decode(codec: AudioCodec, header: Header, pieces: Pieces, samples: Samples) -> Iterator[Tensor]:
    """Decode to blocks `[C, n]` of the samples first .. stop - 1 at the model's rate; lost frames become silence."""
    first, stop = samples
    if not isinstance(codec, Codec):
        every = ((torch.from_numpy(piece.codes), piece.is_lost) for piece in pieces((0, header.num_frames)))
        yield decode_whole(codec, every, header.model_samples)[:, first:stop]
        return
    hop_length, delay = codec.hop_length, codec.delay
    earliest = max(0, (first + delay) // hop_length - codec.decoder.context_frames)
    frames = earliest, -(-(stop + delay) // hop_length)
    cache: Cache | None = None
    for piece in _blocks(pieces(frames), frames, block_samples(codec) // hop_length):
        codes = torch.from_numpy(np.ascontiguousarray(piece.codes)).to(codec.device)
        codec.check_codes(codes)
        if cache is None:
            cache = codec.decoder.cache_at(torch.full((len(codes),), piece.first, device=codec.device))
        audio = codec.decode_frames(codes, cache)[:, 0].cpu()
        begins_at = piece.first * hop_length - delay
        audio = audio[:, max(first - begins_at, 0) : max(stop - begins_at, 0)]
        yield torch.zeros_like(audio) if piece.is_lost else audio


def _blocks(pieces: Iterable[Piece], frames: Frames, num_frames: int) -> Iterator[Piece]:
    """Divide pieces into blocks of at most `num_frames`, and leave out those that hold none of `frames`."""
    for first, codes, is_lost in pieces:  # to their end: it tells of damage
        for at in range(0, codes.shape[2], num_frames):
            block = Piece(first + at, codes[:, :, at : at + num_frames], is_lost)
            if block.first < frames[1] and block.first + block.codes.shape[2] > frames[0]:
                yield block


def _without_gaps(header: Header, chunks: Iterable[tuple[int, NDArray[np.int64]]], frames: Frames) -> Iterator[Piece]:
    """Yield the chunks that hold `frames` in order, cut to the levels of `header`, with zeros in place of lost ones."""
    chunk_frames, levels = header.frames_per_chunk, header.num_quantizers
    position = frames[0] - frames[0] % chunk_frames

    def gap(stop: int) -> Iterator[Piece]:
        for first in range(position, stop, chunk_frames):
            length = min(chunk_frames, header.num_frames - first)
            yield Piece(first, np.zeros((header.num_channels, levels, length), np.int64), True)

    for first, codes in chunks:
        yield from gap(first)
        yield Piece(first, codes[:, :levels], False)
        position = first + codes.shape[2]
    yield from gap(frames[1])


def _split(codec: AudioCodec, bitstream: Bitstream) -> Iterator[Piece]:
    """Yield codes in memory in pieces of about ten seconds, none of which is lost in part."""
    num_frames = bitstream.codes.shape[2]
    edges = {edge for span in bitstream.lost for edge in span}
    borders = range(0, num_frames, block_samples(codec) // codec.hop_length)
    for first, stop in itertools.pairwise(sorted({*borders, *edges, num_frames})):
        is_lost = any(start <= first < end for start, end in bitstream.lost)
        yield Piece(first, bitstream.codes[:, :, first:stop], is_lost)
