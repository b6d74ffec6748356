"""Many short files at once: which of them go together, and their codes from one pass of the encoder.

The encoder is causal, so zeros behind a recording change none of its frames, and a batch gives what each file alone
gives.

    in.wav --load_recording--> audio [C, T]   n of these --compress_batch--> n Bitstreams
"""

import itertools
from collections.abc import Sequence
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
from codec.model.codec import Codec

MIN_FILL = 0.8
"""The shortest of a batch is at least so long, measured by the longest: what is computed for padding is lost."""


class Size(NamedTuple):
    """What a file takes up in a batch."""

    num_channels: int
    """Each is an item of the batch."""
    num_samples: int
    """At the model's rate."""


class Recording(NamedTuple):
    """Audio at the model's rate, and what a file of its codes has to say of its own."""

    audio: Tensor
    """float32 `[C, T]` in [-1, 1]."""
    sample_rate: int
    """Original rate (Hz)."""
    num_samples: int
    """Exact samples of a channel at the original rate."""


def read_size(path: Path, sample_rate: int) -> Size:
    """What a file will take up at `sample_rate` (Hz), by its header.

    Raises:
        AudioError: The file is missing, not audio, visibly truncated, or holds no samples.
    """
    info = read_info(path)
    return Size(info.num_channels, -(-info.num_samples * sample_rate // info.sample_rate))


def plan_batches(sizes: Sequence[Size], capacity: int) -> list[list[int]]:
    """Say which files go together: those of similar length, as many as the capacity holds.

    Example: `plan_batches([Size(1, 10), Size(1, 99), Size(2, 9)], capacity=30)` is `[[0, 2], [1]]`.

    Args:
        sizes: Of the files.
        capacity: Samples of a batch, all channels and the padding to its longest file counted. A file that exceeds it
            is a batch of its own.

    Returns:
        Positions in `sizes`, each once: the longest file of a batch first, the batches by their first file.
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
    """Load a whole file at `sample_rate` (Hz): the samples that `compress_file` encodes, to the bit.

    Raises:
        AudioError: The file can't be read or used.
    """
    blocks = FileBlocks(path, sample_rate)
    audio = torch.cat(list(blocks), dim=-1)
    return Recording(audio, blocks.sample_rate, blocks.num_samples)


@torch.inference_mode()
def compress_batch(
    codec: Codec, recordings: Sequence[Recording], *, num_quantizers: int | None = None, beam: int = FILE_BEAM
) -> list[Bitstream]:
    """Encode recordings together, padded to the longest: in the memory of that many times its length.

    Args:
        codec: In eval mode.
        recordings: One at least.
        num_quantizers: Use the first so many levels; all by default.
        beam: Paths kept in the search, see `Codec.encode`.

    Returns:
        What each recording alone gives, up to near-ties of codewords.

    Raises:
        AudioError: Audio has the wrong shape, no samples, NaN or Inf.
        BitstreamError: A recording's `num_samples` does not fit its audio.
        ConfigError: `num_quantizers` is not in 1 .. K, or `beam` not in 1 .. 64.
    """
    for audio, _, _ in recordings:
        if audio.ndim != 2 or 0 in audio.shape:
            raise AudioError(f"the audio of a recording must be [C, T], not {list(audio.shape)}")
    lengths = [recording.audio.shape[1] for recording in recordings]
    channels = [F.pad(audio, (0, max(lengths) - audio.shape[1])) for audio, _, _ in recordings]
    batch = torch.cat(channels)[:, None].to(codec.device)
    codes = codec.encode(batch, num_quantizers, beam=beam).cpu().numpy()
    edges = [0, *itertools.accumulate(len(items) for items in channels)]
    bitstreams = []
    for recording, length, (first, stop) in zip(recordings, lengths, itertools.pairwise(edges), strict=True):
        header = describe_codes(
            codec,
            codes.shape[1],
            num_channels=stop - first,
            sample_rate=recording.sample_rate,
            num_samples=recording.num_samples,
        )
        part = codes[first:stop, :, : codec.num_frames(length)]
        bitstreams.append(Bitstream(header, part, coder=entropy_coder(codec)))
    return bitstreams
