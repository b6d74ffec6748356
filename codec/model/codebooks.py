"""The codebooks of a residual quantizer and the two ways to learn them.

They are those of VQ-VAE (arXiv:1711.00937, section 3.2 and appendix A.1): `EMACodebooks` follow their vectors by an
exponential moving average, `GradientCodebooks` are parameters that the codebook loss moves. Both hold all K levels in
one table `[K, N, d]` and have the same call: `initialize` one level from live vectors, `update` once per optimizer step
from the `Statistics` of that step. Nothing else ever changes a codebook.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec.model.collective import broadcast_from_first, gather_rows, sum_over_ranks
from codec.precision import full_precision


class Statistics(NamedTuple):
    """What one training step says of every level; only valid frames of active levels are counted."""

    counts: Tensor
    """Uses of each codeword, `[K, N]`."""
    sums: Tensor
    """Sum of the vectors that chose it, `[K, N, d]`."""
    residuals: Tensor
    """Vectors that each level quantized, `[K, M, d]`; candidates for revival."""
    valid: Tensor
    """Which of them count, bool `[K, M]`."""


def nearest(vectors: Tensor, codebook: Tensor, *, normalize: bool = False) -> Tensor:
    """Index of the nearest codeword of each vector; the lowest index wins a tie.

    Two equal codewords may round differently inside the matrix product: to choose either is a near-tie, not an error.

    Args:
        vectors: `[M, d]`.
        codebook: `[N, d]`.
        normalize: Compare directions only (cosine similarity); codewords keep their gain all the same.

    Returns:
        int64 `[M]`.
    """
    with full_precision(vectors.device), torch.no_grad():
        codebook = codebook.float()
        if normalize:
            return (vectors.float() @ nn.functional.normalize(codebook, dim=-1).T).argmax(dim=-1)
        # argmin |x - c|^2 = argmax x.c - |c|^2 / 2: one matrix product, no [M, N, d] tensor
        return torch.addmm(codebook.square().sum(-1).mul(-0.5), vectors.float(), codebook.T).argmax(dim=-1)


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
    centroids = vectors[_draw(len(vectors), num_clusters, generator).to(vectors.device)].clone()
    counts = vectors.new_zeros(num_clusters)
    for iteration in range(iterations):
        indices = nearest(vectors, centroids, normalize=normalize)
        counts, sums = count_and_sum(vectors, indices, num_clusters)
        used = counts > 0
        centroids[used] = sums[used] / counts[used, None]
        num_empty = int((~used).sum())
        if num_empty and iteration + 1 < iterations:
            centroids[~used] = vectors[_draw(len(vectors), num_empty, generator).to(vectors.device)]
    return centroids, counts


def count_and_sum(vectors: Tensor, indices: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Uses of each index `[N]` and sum of its vectors `[N, d]`, in float32."""
    counts = torch.bincount(indices, minlength=num_clusters).float()
    sums = vectors.new_zeros(num_clusters, vectors.shape[-1], dtype=torch.float32)
    return counts, sums.index_add_(0, indices, vectors.float())


def _draw(population: int, number: int, generator: torch.Generator) -> Tensor:
    """Random rows, distinct while the population lasts."""
    rounds = [torch.randperm(population, generator=generator) for _ in range(-(-number // population))]
    return torch.cat(rounds)[:number]


class _Codebooks(nn.Module):
    """What both kinds share: usage counts, k-means initialisation and the revival of dead codewords."""

    table: Tensor
    counts: Tensor

    def __init__(
        self, num_quantizers: int, codebook_size: int, *, decay: float, dead_threshold: float, normalize: bool
    ) -> None:
        super().__init__()
        self.decay = decay
        self.dead_threshold = dead_threshold
        self.normalize = normalize
        self.register_buffer("counts", torch.ones(num_quantizers, codebook_size))

    def search(self, level: int, vectors: Tensor) -> Tensor:
        """Map vectors `[M, d]` to the indices `[M]` of the nearest codewords of one level."""
        return nearest(vectors, self.table[level], normalize=self.normalize)

    def dead(self) -> Tensor:
        """Codewords used less than `dead_threshold` times as often as under uniform use, bool `[K, N]`."""
        return self.counts < self.dead_threshold * self.counts.mean(dim=-1, keepdim=True)

    @torch.no_grad()
    def initialize(self, level: int, vectors: Tensor, *, iterations: int, generator: torch.Generator) -> None:
        """Set one level to the k-means centroids of `vectors` `[M, d]`, the vectors of this rank.

        Counts are scaled to a mean of one, about what a step uses a codeword when its batch has N frames.
        """
        vectors = gather_rows(vectors.float())
        centroids, counts = kmeans(
            vectors,
            self.counts.shape[1],
            iterations=iterations,
            generator=generator,
            normalize=self.normalize,
        )
        broadcast_from_first(centroids, counts)  # ranks may add up in another order
        self._write(level, torch.arange(len(centroids), device=vectors.device), centroids, counts / counts.mean())

    @torch.no_grad()
    def update(self, statistics: Statistics, generator: torch.Generator) -> Tensor:
        """Take in one optimizer step, summed over all ranks, then revive dead codewords.

        Args:
            statistics: Of this rank's part of the step.
            generator: CPU generator, the same on every rank; it chooses the vectors that replace dead codewords.

        Returns:
            Revived codewords, bool `[K, N]`: an optimizer must forget its moments of these rows.
        """
        counts, sums = sum_over_ranks(statistics.counts, statistics.sums)
        seen = counts.sum(dim=-1) > 0  # a level that every item switched off learns nothing
        self._follow(counts, sums, seen)
        return self._revive(statistics, seen, generator)

    def _follow(self, counts: Tensor, sums: Tensor, seen: Tensor) -> None:
        self.counts[seen] = self.counts[seen].lerp(counts[seen], 1 - self.decay)

    def _revive(self, statistics: Statistics, seen: Tensor, generator: torch.Generator) -> Tensor:
        revived = torch.zeros_like(self.counts, dtype=torch.bool)
        dead = self.dead() & seen[:, None]
        for level in dead.any(dim=-1).nonzero().flatten().tolist():
            candidates = gather_rows(statistics.residuals[level], statistics.valid[level])
            rows = dead[level].nonzero().flatten()[: len(candidates)]
            chosen = candidates[torch.randperm(len(candidates), generator=generator)[: len(rows)].to(rows.device)]
            uniform = self.counts[level].mean().expand(len(rows))
            self._write(level, rows, chosen.float(), uniform)
            revived[level, rows] = True
        return revived

    def restart_statistics(self) -> None:
        """Forget past use: every codeword counts once, as when a table comes from elsewhere."""
        self.counts.fill_(1.0)

    def _write(self, level: int, rows: Tensor, codewords: Tensor, counts: Tensor) -> None:
        self.table.data[level, rows] = codewords
        self.counts[level, rows] = counts


class EMACodebooks(_Codebooks):
    """Codewords that are the moving average of the vectors that chose them; they have no codebook loss.

    count <- decay count + (1 - decay) n, sum <- decay sum + (1 - decay) sum of vectors, codeword = sum / count
    (arXiv:1711.00937, eq. 6-8). The sum is kept as codeword x count wherever a codeword is set.
    """

    sums: Tensor
    has_codebook_loss = False

    def __init__(
        self,
        num_quantizers: int,
        codebook_size: int,
        codebook_dim: int,
        *,
        decay: float,
        dead_threshold: float,
        normalize: bool,
    ) -> None:
        super().__init__(num_quantizers, codebook_size, decay=decay, dead_threshold=dead_threshold, normalize=normalize)
        self.register_buffer("table", torch.randn(num_quantizers, codebook_size, codebook_dim))
        self.register_buffer("sums", self.table.clone())

    def _follow(self, counts: Tensor, sums: Tensor, seen: Tensor) -> None:
        super()._follow(counts, sums, seen)
        self.sums[seen] = self.sums[seen].lerp(sums[seen], 1 - self.decay)
        # A codeword that nothing chose for very long keeps its place: 0 / 0 says nothing of it.
        live = (self.counts > 1e-6) & seen[:, None]
        self.table[live] = self.sums[live] / self.counts[live][:, None]

    def restart_statistics(self) -> None:
        """Forget past use: every codeword counts once, as when a table comes from elsewhere."""
        super().restart_statistics()
        self.sums.copy_(self.table)

    def _write(self, level: int, rows: Tensor, codewords: Tensor, counts: Tensor) -> None:
        super()._write(level, rows, codewords, counts)
        self.sums[level, rows] = codewords * counts[:, None]


class GradientCodebooks(_Codebooks):
    """Codewords that are parameters: the codebook loss pulls each to its vectors (arXiv:1711.00937, eq. 3)."""

    has_codebook_loss = True

    def __init__(
        self,
        num_quantizers: int,
        codebook_size: int,
        codebook_dim: int,
        *,
        decay: float,
        dead_threshold: float,
        normalize: bool,
    ) -> None:
        super().__init__(num_quantizers, codebook_size, decay=decay, dead_threshold=dead_threshold, normalize=normalize)
        self.table = nn.Parameter(torch.randn(num_quantizers, codebook_size, codebook_dim))
