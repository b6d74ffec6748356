"""Batches of segments, read ahead by other processes. Where a file can't be read, another segment is drawn."""

import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from codec.audio.headers import joined
from codec.errors import AudioError, ConfigError
from codec.train.data.segments import Batch, Segment, Segments

MAX_ATTEMPTS = 10
"""Draws for one segment until a file can be read."""
MIN_SKIPS, MAX_SKIPPED_SHARE = 10, 0.01
"""Draws that may be skipped: so many, and this share of all."""


class Skips:
    """Counts the draws of this process whose file could not be read, and names each file once in a warning.

    All files could be read when the run started (`codec.train.data.files`), so this is a disk or a file that went bad.
    The count starts anew when a run is resumed.
    """

    def __init__(self) -> None:
        self.num_drawn = self.num_skipped = 0
        self.files: dict[Path, AudioError] = {}

    def add(self, num_drawn: int, skipped: Sequence["_Skipped"]) -> None:
        """Add the draws of a batch and those that were skipped for them.

        Raises:
            AudioError: More than 10 draws and more than 1 % of all were skipped.
        """
        self.num_drawn += num_drawn
        self.num_skipped += len(skipped)
        for path, error in skipped:
            if path not in self.files:
                self.files[path] = error
                warnings.warn(f"skipped in training: {error}", stacklevel=2)
        if self.num_skipped > max(MIN_SKIPS, MAX_SKIPPED_SHARE * self.num_drawn):
            counts = f"{self.num_skipped} draws for {self.num_drawn} segments were skipped"
            raise AudioError(f"{counts}: {joined(list(self.files.values()))}")


class _Skipped(NamedTuple):
    path: Path
    error: AudioError


class _Found(NamedTuple):
    segment: Segment | None
    """None if every attempt failed."""
    skipped: list[_Skipped]
    """The attempts that failed."""


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
    skips: Skips | None = None,
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
        skips: Counts the draws of files that can't be read; each is replaced by another draw.

    Raises:
        ConfigError: The batch size is not divisible by the number of processes.
        AudioError: Too many files can't be read, see `Skips`; raised by the iterator.
    """
    check_share(batch_size, world_size)
    loader = DataLoader(
        _Replacing(segments),
        batch_sampler=_StepBatches(first_step, last_step, batch_size, rank, world_size),
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,
        collate_fn=_collate,
        worker_init_fn=_start_worker,
    )
    return _counted(loader, skips or Skips())


def _start_worker(_: int) -> None:
    """Prepare a process that reads ahead.

    Signals that a scheduler sends to the whole process group are left to the main process, which ends the workers.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.excepthook = _report_unless_disconnected


def _report_unless_disconnected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error, unless the main process was interrupted while a worker sent it a batch, which closes the pipe.

    In a worker only the thread that sends shared memory calls this (`multiprocessing.resource_sharer`).
    """
    if not issubclass(kind, (OSError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def check_share(batch_size: int, world_size: int) -> int:
    """Number of items of each process.

    Raises:
        ConfigError: The batch size is not divisible by the number of processes.
    """
    if batch_size % world_size:
        raise ConfigError(f"batch_size {batch_size} must be divisible by the number of processes, {world_size}")
    return batch_size // world_size


class _Replacing(Dataset[_Found]):
    """Replaces segments of files that can't be read.

    Errors are values: a worker that raises adds its traceback to the message and delays the end of the run.
    """

    def __init__(self, segments: Segments) -> None:
        self.segments = segments

    def __getitem__(self, index: int) -> _Found:
        skipped: list[_Skipped] = []
        while len(skipped) < MAX_ATTEMPTS:
            draw = self.segments.draw(index, len(skipped))
            try:
                return _Found(self.segments.read(index, draw), skipped)
            except AudioError as error:
                skipped.append(_Skipped(self.segments.paths[draw.file], error))
        return _Found(None, skipped)


def _collate(items: list[_Found]) -> tuple[Batch | None, list[_Skipped]]:
    """The batch, None if a segment is missing, and all draws that were skipped."""
    skipped = [skip for item in items for skip in item.skipped]
    segments = [item.segment for item in items if item.segment is not None]
    if len(segments) < len(items):
        return None, skipped
    audio, lengths, numbers = zip(*segments, strict=True)
    return Batch(torch.stack(audio), torch.tensor(lengths), torch.tensor(numbers)), skipped


def _counted(loader: Iterable[tuple[Batch | None, list[_Skipped]]], skips: Skips) -> Iterator[Batch]:
    for batch, skipped in loader:
        if batch is None:
            raise joined(list(dict(skipped).values()))
        skips.add(len(batch.audio), skipped)
        yield batch
