"""Sources of training batches: the interface that the trainer uses, and audio files."""

from collections.abc import Iterator
from typing import Protocol

from codec.train.data.batches import Skips, batches
from codec.train.data.segments import Batch, Segments


class Source(Protocol):
    """Batches by step: the items of a step depend only on the seed and the step."""

    unit: str
    """Unit that speed is counted in, such as "audio_seconds"."""
    item_size: float
    """Size of an item in this unit."""

    @property
    def num_skipped(self) -> int:
        """Draws of this process since the start that were skipped because their file can't be read."""

    def steps_per_epoch(self, batch_size: int) -> int | None:
        """Steps of an epoch; None if the data is not a finite set."""

    def batches(
        self, *, first_step: int, last_step: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """Batches of the steps `first_step` .. `last_step` - 1, this rank's share of each."""

    def initial_batches(self, num_batches: int, *, batch_size: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Batches for the initialisation of the codebooks: this rank's share of `num_batches` batches."""


class AudioSource:
    """Random segments of audio files, without end.

    Args:
        segments: Segments by number.
        num_workers: Processes that read ahead.
        seed: Seed of the batches for initialisation.
    """

    unit = "audio_seconds"

    def __init__(self, segments: Segments, *, num_workers: int, seed: int) -> None:
        self.segments = segments
        self.num_workers = num_workers
        self.seed = seed
        self.item_size = segments.segment_samples / segments.sample_rate
        self.skips = Skips()

    @property
    def num_skipped(self) -> int:
        """Draws of this process since the start that were skipped because their file can't be read."""
        return self.skips.num_skipped

    def steps_per_epoch(self, batch_size: int) -> int | None:
        """None: segments are drawn at random."""
        return None

    def batches(
        self, *, first_step: int, last_step: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """Batches of the steps `first_step` .. `last_step` - 1, this rank's share of each; see `batches.batches`."""
        return batches(
            self.segments,
            first_step=first_step,
            last_step=last_step,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            num_workers=self.num_workers,
            skips=self.skips,
        )

    def initial_batches(self, num_batches: int, *, batch_size: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Batches drawn for the initialisation alone.

        Each rank takes consecutive ones: gathered by rank, their rows are in the order of a single process.
        """
        first = rank * num_batches
        return batches(
            self.segments.reseeded(self.seed, 1),
            first_step=first,
            last_step=first + num_batches,
            batch_size=batch_size // world_size,
            skips=self.skips,
        )
