"""Where codewords start: at k-means centroids, at live vectors, or at normal random vectors."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from codec.model.search import count_and_sum, nearest


class Initialization(NamedTuple):
    """How a codebook is set before it learns."""

    method: Literal["kmeans", "data", "normal"] = "kmeans"
    iterations: int = 10
    """Rounds of k-means, at least 1."""
    scale: float = 1.0
    """Codewords start at this share of their size. In high dimensions short ones share out the vectors evenly, where
    long ones are nearest to nothing."""

    def draw(
        self, vectors: Tensor, num_codewords: int, *, generator: torch.Generator, normalize: bool
    ) -> tuple[Tensor, Tensor]:
        """First codewords `[N, d]` and how often each is used, `[N]`, from vectors `[M, d]` with M >= 1.

        Args:
            vectors: Of code space.
            num_codewords: N.
            generator: CPU generator that decides every draw.
            normalize: Vectors choose codewords by direction, see `nearest`.
        """
        if self.method == "kmeans":
            codewords, counts = kmeans(
                vectors, num_codewords, iterations=self.iterations, generator=generator, normalize=normalize
            )
        else:
            counts = vectors.new_ones(num_codewords)
            if self.method == "data":
                codewords = vectors[draw_rows(len(vectors), num_codewords, generator).to(vectors.device)]
            else:
                codewords = torch.randn(num_codewords, vectors.shape[-1], generator=generator).to(vectors.device)
        return self.scale * codewords, counts


def kmeans(
    vectors: Tensor, num_clusters: int, *, iterations: int, generator: torch.Generator, normalize: bool
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from randomly drawn vectors; an empty cluster moves to a random vector.

    Args:
        vectors: `[M, d]`, M >= 1; with fewer vectors than clusters some clusters stay empty.
        num_clusters: N.
        iterations: Rounds of assignment and averaging, at least 1.
        generator: CPU generator that decides every draw.
        normalize: Assign by direction, see `nearest`.

    Returns:
        Centroids `[N, d]` and their counts `[N]`.
    """
    centroids = vectors[draw_rows(len(vectors), num_clusters, generator).to(vectors.device)].clone()
    counts = vectors.new_zeros(num_clusters)
    for iteration in range(iterations):
        indices = nearest(vectors, centroids, normalize=normalize)
        counts, sums = count_and_sum(vectors, indices, num_clusters)
        used = counts > 0
        centroids[used] = sums[used] / counts[used, None]
        num_empty = int((~used).sum())
        if num_empty and iteration + 1 < iterations:
            centroids[~used] = vectors[draw_rows(len(vectors), num_empty, generator).to(vectors.device)]
    return centroids, counts


def draw_rows(population: int, number: int, generator: torch.Generator) -> Tensor:
    """Random rows, distinct while the population lasts."""
    rounds = [torch.randperm(population, generator=generator) for _ in range(-(-number // population))]
    return torch.cat(rounds)[:number]
