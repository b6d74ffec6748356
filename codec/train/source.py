"""Where the batches of a run come from: what the trainer asks of a source of data, and the one of audio."""

from collections.abc import Iterator
from typing import Protocol

from codec.recipe import DataConfig, GaussianConfig, Recipe
from codec.train.data import Batch, Segments, batches, data_root, list_items
from codec.train.gaussian import GaussianVectors


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

    @classmethod
    def of_recipe(cls, data: DataConfig, *, sample_rate: int, seed: int) -> "AudioSource":
        """The source that a recipe describes; finds bad data at once."""
        segments = Segments(
            list_items(data_root(data), data.train, split="train", kinds=data.kinds),
            sample_rate=sample_rate,
            segment_samples=round(data.segment_seconds * sample_rate),
            gain_db=data.gain_db,
            seed=(seed, 0),
        )
        return cls(segments, num_workers=data.num_workers, seed=seed)

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


def open_source(recipe: Recipe) -> Source:
    """The data of a recipe.

    Raises:
        ConfigError: It is missing or not what the recipe says.
    """
    if isinstance(recipe.data, GaussianConfig):
        return GaussianVectors(recipe.data, dim=recipe.codec.latent_dim, seed=recipe.seed)
    return AudioSource.of_recipe(recipe.data, sample_rate=recipe.codec.sample_rate, seed=recipe.seed)
