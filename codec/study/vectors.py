"""Gaussian vectors as training data, from a fixed set or newly drawn in every epoch, and held-out vectors.

A vector of d elements is an item of d samples. A codec with hop length d makes one frame of it.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from codec.errors import ConfigError
from codec.recipe import GaussianConfig
from codec.study.rate_distortion import ar1_covariance
from codec.train.data.segments import Batch
from codec.train.randomness import generator_of

BLOCK = 8192
"""Vectors drawn at a time; the values depend on it."""
NUM_VALIDATION = 10_000
HELD_OUT, VALIDATION = (2**31 - 1, 6), (2**31 - 1, 7)
"""Seeds that no recipe uses: these vectors are the same in every run and never trained on."""


class GaussianVectors:
    """Gaussian vectors `[d]` with covariance correlation^|i - j|, in epochs.

    Args:
        config: Number of vectors, fixed or fresh, correlation.
        dim: d.
        seed: Of the training vectors.
    """

    unit = "vectors"
    num_skipped = 0  # there are no files
    item_size = 1.0

    def __init__(self, config: GaussianConfig, *, dim: int, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.covariance = ar1_covariance(dim, config.correlation)
        self.root = torch.linalg.cholesky(torch.from_numpy(self.covariance)).float()
        self.fixed = None if config.fresh else self._draw(config.num_vectors, generator_of(seed, 4))

    def training_set(self) -> Tensor:
        """The vectors of the first epoch `[n, d]`; all there are, unless they are fresh."""
        return self._epoch(0)

    def held_out(self) -> Iterator[Tensor]:
        """Blocks `[m, d]` of the vectors for the final result."""
        return self._blocks(self.config.num_held_out, generator_of(*HELD_OUT))

    def validation(self) -> Iterator[Tensor]:
        """Blocks `[m, d]` of other vectors for the learning curve."""
        return self._blocks(NUM_VALIDATION, generator_of(*VALIDATION))

    def steps_per_epoch(self, batch_size: int) -> int:
        """Number of batches in an epoch; the last one may be smaller."""
        return math.ceil(self.config.num_vectors / batch_size)

    def batches(
        self, *, first_step: int, last_step: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """This rank's share of the batches of the steps `first_step` .. `last_step` - 1.

        Each epoch has its own order.

        Raises:
            ConfigError: A batch, or the last one of an epoch, is not divisible by the number of processes.
        """
        for size in (batch_size, self.config.num_vectors % batch_size):
            if size % world_size:
                raise ConfigError(
                    f"{self.config.num_vectors} vectors in batches of {batch_size} make one of {size}, "
                    f"which must be divisible by the number of processes, {world_size}"
                )
        steps, current, vectors = self.steps_per_epoch(batch_size), -1, torch.empty(0)
        for step in range(first_step, last_step):
            epoch, place = divmod(step, steps)
            if epoch != current:
                current, vectors = epoch, self._epoch(epoch)
            batch = vectors[place * batch_size : (place + 1) * batch_size]
            share = len(batch) // world_size
            first = rank * share
            numbers = torch.arange(first, first + share) + epoch * len(vectors) + place * batch_size
            yield _as_batch(batch[first : first + share], numbers)

    def initial_batches(self, num_batches: int, *, batch_size: int, rank: int, world_size: int) -> Iterator[Batch]:
        """This rank's share of the first `num_batches` batches, at most the first epoch."""
        wanted = self.training_set()[: num_batches * batch_size]
        share = torch.tensor_split(torch.arange(len(wanted)), world_size)[rank]
        yield _as_batch(wanted[share], share)

    def _epoch(self, epoch: int) -> Tensor:
        if self.fixed is None:
            return self._draw(self.config.num_vectors, generator_of(self.seed, 4, epoch))
        return self.fixed[torch.randperm(len(self.fixed), generator=generator_of(self.seed, 5, epoch))]

    def _draw(self, number: int, generator: torch.Generator) -> Tensor:
        return torch.cat(list(self._blocks(number, generator)))

    def _blocks(self, number: int, generator: torch.Generator) -> Iterator[Tensor]:
        dim = len(self.root)
        for first in range(0, number, BLOCK):
            white = torch.randn(min(BLOCK, number - first), dim, generator=generator)
            yield white @ self.root.T if self.config.correlation else white


def _as_batch(vectors: Tensor, numbers: Tensor) -> Batch:
    return Batch(vectors[:, None], None, numbers)
