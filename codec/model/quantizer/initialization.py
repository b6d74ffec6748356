"""First codewords of a codebook: k-means centroids, live vectors, normal random vectors, or points on a sphere."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from codec.errors import ConfigError
from codec.model.quantizer.search import count_and_sum, nearest

MAX_SPREAD = 4096  # codewords; all pairs are compared
SHARPNESS = 15.0  # of the repulsion e^(15 cos(angle)); 10 to 20 gave the same distortion to four digits


class Initialization(NamedTuple):
    """How a codebook is set before it learns."""

    method: Literal["kmeans", "data", "normal", "spread"] = "kmeans"
    iterations: int = 10
    """Rounds of k-means, at least 1."""
    scale: float = 1.0
    """Codewords are multiplied by this. In high dimensions short codewords attract vectors evenly, while long ones are
    nearest to no vector."""
    uses: float = 1.0
    """Mean uses of a codeword in a training step. Codewords start with this count: with a larger one the initial value
    would persist in the moving average."""

    def draw(
        self, vectors: Tensor, num_codewords: int, *, generator: torch.Generator, normalize: bool
    ) -> tuple[Tensor, Tensor]:
        """Draw first codewords `[N, d]` and their counts `[N]` from vectors `[M, d]`, M >= 1.

        Args:
            vectors: Of code space.
            num_codewords: N.
            generator: CPU generator that decides every draw.
            normalize: Search by direction, see `nearest`.

        Raises:
            ConfigError: For "spread": more than 4096 codewords, or one dimension.
        """
        if self.method == "kmeans":
            codewords, counts = kmeans(
                vectors, num_codewords, iterations=self.iterations, generator=generator, normalize=normalize
            )
        else:
            counts = vectors.new_ones(num_codewords)
            if self.method == "data":
                codewords = vectors[draw_rows(len(vectors), num_codewords, generator).to(vectors.device)]
            elif self.method == "spread":
                directions = spread_directions(num_codewords, vectors.shape[-1], generator=generator)
                codewords = vectors.shape[-1] ** 0.5 * directions.to(vectors.device) @ _root_of_covariance(vectors)
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
    """Random row numbers; a row repeats only if `number` is above `population`."""
    rounds = [torch.randperm(population, generator=generator) for _ in range(-(-number // population))]
    return torch.cat(rounds)[:number]


@torch.inference_mode(False)
@torch.enable_grad()
def spread_directions(number: int, dim: int, *, generator: torch.Generator, iterations: int = 100) -> Tensor:
    """Unit vectors `[N, d]` that repel each other: a spherical code.

    Gradient descent on the sum of e^(sharpness cos(angle)) over all pairs (for such energies see Cohn & Kumar,
    "Universally optimal distribution of points on spheres", 2007). At few bits per dimension all codewords of a
    Gaussian have nearly the same length, so only a better packing of their directions lowers the distortion. k-means
    can't find it: random directions are nearly a fixed point.

    Raises:
        ConfigError: N is above 4096, or d is 1.
    """
    if number > MAX_SPREAD or dim < 2:
        raise ConfigError(
            f"init spread takes 2 dimensions or more and at most {MAX_SPREAD} codewords, not {dim}, {number}"
        )
    points = torch.randn(number, dim, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([points], lr=0.02)
    to_itself = 2 * torch.eye(number)
    for iteration in range(iterations):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - iteration / iterations)
        directions = functional.normalize(points, dim=-1)
        energy = (SHARPNESS * (directions @ directions.T - to_itself)).flatten().logsumexp(0)
        optimizer.zero_grad()
        energy.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return functional.normalize(points.detach(), dim=-1)


def _root_of_covariance(vectors: Tensor) -> Tensor:
    """Symmetric square root `[d, d]` of the second moment of vectors `[M, d]`."""
    values, axes = torch.linalg.eigh(vectors.double().T @ vectors.double() / len(vectors))
    root: Tensor = (axes * values.clamp_min(0).sqrt()) @ axes.T
    return root.float()
