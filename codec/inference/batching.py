"""Encode many short files in batches: choose files of similar length, and encode them in one pass.

The encoder is causal, so zeros behind a recording do not change its frames: a batch gives the same codes as each file
by itself. Codecs of other libraries are not, and encode one recording at a time.

    in.wav --load_recording--> Recording   n Recordings --compress_batch--> n Bitstreams
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from codec.audio.file import read_info
from codec.bitstream import Bitstream
from codec.config import FILE_BEAM
from codec.errors import AudioError
from codec.inference.compression import FileBlocks, describe_codes, entropy_coder
from codec.model.audio_codec import AudioCodec
from codec.model.codec import Codec

MIN_FILL = 0.8
"""Length of the shortest file of a batch by that of the longest, at least: padding costs computation."""


class Size(NamedTuple):
    """Size of a file in a batch."""

    num_channels: int
    """Each channel is an item of the batch."""
    num_samples: int
    """Of a channel, at the model's rate."""


class Recording(NamedTuple):
    """Audio at the model's rate, with the original rate and length for the header."""

    audio: Tensor
    """float32 `[C, T]` in [-1, 1]."""
    sample_rate: int
    """Original rate (Hz)."""
    num_samples: int
    """Exact samples of a channel, at the original rate."""


def read_size(path: Path, sample_rate: int) -> Size:
    """Size of a file at `sample_rate` (Hz), from its header.

    Raises:
        AudioError: The file is missing, not audio, visibly truncated, or holds no samples.
    """
    info = read_info(path)
    return Size(info.num_channels, -(-info.num_samples * sample_rate // info.sample_rate))


def plan_batches(sizes: Sequence[Size], capacity: int) -> list[list[int]]:
    """Group files of similar length into batches, as many as the capacity holds.

    Example: `plan_batches([Size(1, 10), Size(1, 99), Size(2, 9)], capacity=30)` is `[[0, 2], [1]]`.

    Args:
        sizes: Sizes of the files.
        capacity: Most samples of a batch, over all channels and with the padding to its longest file. A file that
            exceeds it is a batch of its own.

    Returns:
        Positions in `sizes`, each once. The longest file of a batch comes first; the batches are ordered by the lowest
        position in them.
    """
    batches: list[list[int]] = []
    longest = num_items = 0
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number].num_samples):
        num_channels, num_samples = sizes[number]
        fits = (num_items + num_channels) * longest <= capacity
        if not batches or not fits or num_samples < MIN_FILL * longest:
            batches.append([])
            longest, num_items = num_samples, 0
        batches[-1].append(number)
        num_items += num_channels
    return sorted(batches, key=min)


def load_recording(path: Path, sample_rate: int) -> Recording:
    """Load a whole file at `sample_rate` (Hz): bit for bit the samples that `compress_file` encodes.

    Raises:
        AudioError: The file can't be read or used.
    """
    blocks = FileBlocks(path, sample_rate)
    audio = torch.cat(list(blocks), dim=-1)
    return Recording(audio, blocks.sample_rate, blocks.num_samples)


@torch.inference_mode()
def compress_batch(
    codec: AudioCodec, recordings: Sequence[Recording], *, num_quantizers: int | None = None, beam: int = FILE_BEAM
) -> list[Bitstream]:
    """Encode recordings in one batch, padded to the longest; one by one if the codec is of another library.

    Args:
        codec: In eval mode.
        recordings: At least one.
        num_quantizers: Use the first `num_quantizers` levels; all by default.
        beam: Paths kept in the search, see `Codec.encode`.

    Returns:
        The same as each recording by itself gives, except for near-ties of codewords.

    Raises:
        AudioError: Audio has the wrong shape, no samples, NaN or Inf.
        BitstreamError: A recording's `num_samples` does not fit its audio.
        ConfigError: `num_quantizers` is not in 1 .. K, or `beam` not in 1 .. 64.
    """
    for audio, _, _ in recordings:
        if audio.ndim != 2 or 0 in audio.shape:
            raise AudioError(f"the audio of a recording must be [C, T], not {list(audio.shape)}")
    encode = partial(codec.encode, num_quantizers=num_quantizers, beam=beam)
    if isinstance(codec, Codec):
        codes = _encode_together(codec, [recording.audio for recording in recordings], encode)
    else:  # zeros behind a recording would change its last frames
        codes = [encode(recording.audio[:, None].to(codec.device)) for recording in recordings]
    return [_as_bitstream(codec, recording, part) for recording, part in zip(recordings, codes, strict=True)]


def _encode_together(codec: Codec, audios: Sequence[Tensor], encode: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Encode audio `[C, T]` of several lengths in one pass to codes `[C, K, F]`."""
    longest = max(audio.shape[1] for audio in audios)
    batch = torch.cat([F.pad(audio, (0, longest - audio.shape[1])) for audio in audios])
    codes = torch.split(encode(batch[:, None].to(codec.device)), [len(audio) for audio in audios])
    return [part[..., : codec.num_frames(audio.shape[1])] for part, audio in zip(codes, audios, strict=True)]


def _as_bitstream(codec: AudioCodec, recording: Recording, codes: Tensor) -> Bitstream:
    header = describe_codes(
        codec,
        codes.shape[1],
        num_channels=codes.shape[0],
        sample_rate=recording.sample_rate,
        num_samples=recording.num_samples,
    )
    return Bitstream(header, codes.cpu().numpy(), coder=entropy_coder(codec))
