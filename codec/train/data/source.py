"""Where the batches of a run come from: what the trainer asks of a source of data, and the one of audio."""

from collections.abc import Iterator
from typing import Protocol

from codec.train.data.segments import Batch, Segments, batches


class Source(Protocol):
    """Batches by step: the items of a step depend on the seed and the step, not on processes or earlier steps."""

    unit: str
    """What speed is counted in."""
    item_size: float
    """Units of an item."""

    def steps_per_epoch(self, batch_size: int) -> int | None:
        """Steps that go once through a finite set; None where there is no such set."""

    def batches(
        self, *, first_step: int, last_step: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """Batches of the steps `first_step` .. `last_step` - 1, this rank's share of each."""

    def initial_batches(self, num_batches: int, *, batch_size: int, rank: int, world_size: int) -> Iterator[Batch]:
        """This rank's share of `num_batches` batches for the initialisation of the codebooks."""


class AudioSource:
    """Random segments of audio files; they never run out.

    Args:
        segments: Where items come from.
        num_workers: Processes that read ahead.
        seed: Of the batches for initialisation.
    """

    unit = "audio_seconds"

    def __init__(self, segments: Segments, *, num_workers: int, seed: int) -> None:
        self.segments = segments
        self.num_workers = num_workers
        self.seed = seed
        self.item_size = segments.segment_samples / segments.sample_rate

    def steps_per_epoch(self, batch_size: int) -> int | None:
        """None: every step draws anew."""
        return None

    def batches(
        self, *, first_step: int, last_step: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """Batches of the steps `first_step` .. `last_step` - 1, this rank's share of each; see `data.batches`."""
        return batches(
            self.segments,
            first_step=first_step,
            last_step=last_step,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            num_workers=self.num_workers,
        )

    def initial_batches(self, num_batches: int, *, batch_size: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Batches drawn for the initialisation alone.

        Each rank takes consecutive ones: gathered by rank, the rows are in the order that one process has them in.
        """
        first = rank * num_batches
        return batches(
            self.segments.reseeded(self.seed, 1),
            first_step=first,
            last_step=first + num_batches,
            batch_size=batch_size // world_size,
        )
