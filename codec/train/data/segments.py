"""Random segments of audio files: every item is a pure function of the seed and its number.

Nothing here has a state, so a resumed run draws the same items, and so does any number of processes.
"""

import copy
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from codec.audio.file import AudioInfo, read_info, read_segment
from codec.audio.manifest import Item
from codec.audio.resampling import resample
from codec.config import shipped
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
        items: Files to draw from, with their seconds.
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

    def draw(self, index: int, attempt: int = 0) -> Draw:
        """Draw the random choices of segment number `index`, or other ones after so many attempts to read it failed."""
        rng = np.random.default_rng((*self.seed, index, *([attempt] if attempt else [])))
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
        return self.read(index, self.draw(index))

    def read(self, index: int, draw: Draw) -> Segment:
        """Read segment number `index`, whose random choices are `draw`.

        Raises:
            AudioError: The file can't be read.
        """
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
    seconds = np.array([item.seconds for item in items], dtype=np.float64)
    per_speaker: dict[str, float] = defaultdict(float)
    for item, duration in zip(items, seconds, strict=True):
        per_speaker[item.speaker] += duration
    speaker_total = np.array([per_speaker[item.speaker] for item in items])
    weights = np.sqrt(speaker_total) * seconds / speaker_total
    probabilities: npt.NDArray[np.float64] = weights / weights.sum()
    return probabilities
