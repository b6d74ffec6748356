"""Random segments of audio files: every item is a pure function of the seed and its number.

Nothing here has a state, so a resumed run draws the same items, and so does any number of processes.
"""

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from codec.audio.file import AudioInfo, read_info, read_segment
from codec.audio.manifest import Item
from codec.audio.resampling import resample
from codec.config import shipped
from codec.errors import AudioError, ConfigError
from codec.recipe import SHIPPED_CLIPS, DataConfig


class Segment(NamedTuple):
    """A part of a file."""

    audio: Tensor
    """float32 `[1, T]`, padded with zeros if the file is shorter than T."""
    length: int
    """Real samples, 1 .. T."""
    number: int
    """Number of the item since the start of training."""


class Draw(NamedTuple):
    """The random choices of a segment."""

    file: int
    """Index in the list of files."""
    position: float
    """Start of the segment: 0 .. 1 of the range that leaves a whole segment."""
    gain_db: float
    """Gain, lowered if the segment would clip."""


class Batch(NamedTuple):
    """The segments of one step."""

    audio: Tensor
    """float32 `[B, 1, T]`."""
    lengths: Tensor | None
    """Real samples of each item, int64 `[B]`; None if none is padded."""
    number: Tensor
    """Number of each item since the start of training, int64 `[B]`; its random choices depend only on it."""


def data_root(config: DataConfig) -> Path:
    """Folder of the training data; the folder of the shipped clips for `SHIPPED_CLIPS`."""
    return shipped("clips") if str(config.root) == SHIPPED_CLIPS else config.root.expanduser()


class Segments(Dataset[Segment]):
    """Random segments by number: item `index` is always the same segment.

    First a speaker is drawn, with probability proportional to the square root of the speaker's seconds: a few long
    speakers do not outweigh many short ones. Then a file of the speaker is drawn in proportion to its seconds. Without
    speakers every second is equally likely.

    Args:
        items: Files to draw from.
        sample_rate: Sample rate of the segments (Hz); files of other rates are resampled.
        segment_samples: Length T of a segment.
        gain_db: Range of the random gain (dB).
        seed: Random choices depend only on (seed, index).
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        sample_rate: int,
        segment_samples: int,
        gain_db: tuple[float, float],
        seed: Sequence[int],
    ) -> None:
        self.paths = [item.path for item in items]
        self.sample_rate = sample_rate
        self.segment_samples = segment_samples
        self.gain_db = gain_db
        self.seed = tuple(seed)
        self.cumulative = np.cumsum(_probabilities(items))

    def reseeded(self, *seed: int) -> "Segments":
        """Copy with another seed and the same files."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def draw(self, index: int) -> Draw:
        """Draw the random choices of segment number `index`."""
        rng = np.random.default_rng((*self.seed, index))
        file = min(int(np.searchsorted(self.cumulative, rng.random(), side="right")), len(self.paths) - 1)
        return Draw(file, rng.random(), rng.uniform(*self.gain_db))

    def start_of(self, draw: Draw, info: AudioInfo) -> int:
        """First sample of a segment, at the sample rate of the file."""
        return int(draw.position * (max(info.num_samples - self._wanted(info), 0) + 1))

    def _wanted(self, info: AudioInfo) -> int:
        """Samples of a segment at the sample rate of the file."""
        return -(-self.segment_samples * info.sample_rate // self.sample_rate)

    def __getitem__(self, index: int) -> Segment:
        """Read segment number `index`."""
        draw = self.draw(index)
        audio = self._read(draw)
        peak = float(np.abs(audio).max(initial=0.0))
        audio *= min(10.0 ** (draw.gain_db / 20), 1.0 / max(peak, 1e-9))
        padded = torch.zeros(1, self.segment_samples)
        padded[:, : audio.shape[-1]] = torch.from_numpy(audio)
        return Segment(padded, audio.shape[-1], index)

    def _read(self, draw: Draw) -> npt.NDArray[np.float32]:
        path = self.paths[draw.file]
        info = read_info(path)
        channels = read_segment(path, self.start_of(draw, info), min(self._wanted(info), info.num_samples))
        audio: npt.NDArray[np.float32] = channels.mean(axis=0, keepdims=True)
        if info.sample_rate != self.sample_rate:
            audio = resample(torch.from_numpy(audio), info.sample_rate, self.sample_rate).numpy()
        return audio[:, : self.segment_samples].copy()


def _probabilities(items: Sequence[Item]) -> npt.NDArray[np.float64]:
    """Probability of each file, see `Segments`."""
    progress = tqdm(items, desc="reading durations", unit="file", delay=2, leave=False)
    seconds = np.array(
        [_duration(item) if item.seconds is None else item.seconds for item in progress], dtype=np.float64
    )
    per_speaker: dict[str, float] = defaultdict(float)
    for item, duration in zip(items, seconds, strict=True):
        per_speaker[item.speaker] += duration
    speaker_total = np.array([per_speaker[item.speaker] for item in items])
    weights = np.sqrt(speaker_total) * seconds / speaker_total
    probabilities: npt.NDArray[np.float64] = weights / weights.sum()
    return probabilities


def _duration(item: Item) -> float:
    info = read_info(item.path)
    return info.num_samples / info.sample_rate


class _StepBatches:
    """Item numbers of this rank for each step: rank r takes the r-th equal part of the batch."""

    def __init__(self, first_step: int, last_step: int, batch_size: int, rank: int, world_size: int) -> None:
        self.steps = range(first_step, last_step)
        self.batch_size = batch_size
        self.share = batch_size // world_size
        self.rank = rank

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = step * self.batch_size + self.rank * self.share
            yield list(range(first, first + self.share))


def batches(
    segments: Segments,
    *,
    first_step: int,
    last_step: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Iterate over the batches of the steps `first_step` .. `last_step` - 1, this rank's share of each.

    Args:
        segments: Segments by number.
        first_step: First step.
        last_step: Step to stop before.
        batch_size: Items of a step, over all processes.
        rank: Rank of this process.
        world_size: Number of processes.
        num_workers: Processes that read ahead; 0 reads in this process when a batch is needed.

    Raises:
        ConfigError: The batch size is not divisible by the number of processes.
        AudioError: A file can't be read; raised by the iterator.
    """
    check_share(batch_size, world_size)
    loader = DataLoader(
        _ErrorsAsValues(segments),
        batch_sampler=_StepBatches(first_step, last_step, batch_size, rank, world_size),
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,
        collate_fn=_collate,
    )
    return _raise_errors(loader)


def check_share(batch_size: int, world_size: int) -> int:
    """Number of items of each process.

    Raises:
        ConfigError: The batch size is not divisible by the number of processes.
    """
    if batch_size % world_size:
        raise ConfigError(f"batch_size {batch_size} must be divisible by the number of processes, {world_size}")
    return batch_size // world_size


class _ErrorsAsValues(Dataset[Segment | AudioError]):
    """Returns errors: a worker that raises adds its traceback to the message and delays the end of the run."""

    def __init__(self, segments: Segments) -> None:
        self.segments = segments

    def __getitem__(self, index: int) -> Segment | AudioError:
        try:
            return self.segments[index]
        except AudioError as error:
            return error


def _collate(items: list[Segment | AudioError]) -> Batch | AudioError:
    audio, lengths, numbers = [], [], []
    for item in items:
        if isinstance(item, AudioError):
            return item
        audio.append(item.audio)
        lengths.append(item.length)
        numbers.append(item.number)
    return Batch(torch.stack(audio), torch.tensor(lengths), torch.tensor(numbers))


def _raise_errors(loader: Iterable[Batch | AudioError]) -> Iterator[Batch]:
    for batch in loader:
        if isinstance(batch, AudioError):
            raise batch
        yield batch
