"""The codebooks of a vector quantizer and the ways to learn them.

Two are those of VQ-VAE (arXiv:1711.00937, section 3.2 and appendix A.1): `EMACodebooks` follow their vectors by an
exponential moving average, `GradientCodebooks` are parameters that the codebook loss moves. `SimVQCodebooks` learn one
linear map of fixed codewords by the same loss. All hold K levels in one table `[K, N, d]` and have the same call:
`initialize` one level from live vectors, `update` once per optimizer step from the `Statistics` of that step. Nothing
else ever changes a codebook.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec.dsp.precision import full_precision
from codec.model.quantizer.collective import broadcast_from_first, gather_rows, sum_over_ranks
from codec.model.quantizer.initialization import Initialization


class Statistics(NamedTuple):
    """What one training step says of every level; only valid frames of active levels are counted."""

    counts: Tensor
    """Uses of each codeword, `[K, N]`."""
    sums: Tensor
    """Sum of the vectors that chose it, `[K, N, d]`."""
    residuals: Tensor
    """Vectors that each level quantized, `[K, M, d]`; candidates for revival."""
    valid: Tensor | None
    """Which of them count, bool `[K, M]`; all where it is None."""


class Codebooks(nn.Module):
    """What all kinds share: usage counts, initialisation and the revival of dead codewords."""

    has_codebook_loss: bool
    table: Tensor
    counts: Tensor

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
        super().__init__()
        self.decay = decay
        self.dead_threshold = dead_threshold
        self.normalize = normalize
        self.register_buffer("counts", torch.ones(num_quantizers, codebook_size))
        self._hold(torch.randn(num_quantizers, codebook_size, codebook_dim))

    def _hold(self, codewords: Tensor) -> None:
        """Set up the table from random codewords `[K, N, d]`."""
        raise NotImplementedError

    def confine(self, mask: Tensor) -> None:
        """Set the elements of codewords to zero where `mask` `[K, d]` is; those that only vectors move stay zero."""
        raise NotImplementedError

    def dead_codewords(self) -> Tensor:
        """Codewords used less than `dead_threshold` times as often as under uniform use, bool `[K, N]`."""
        return self.counts < self.dead_threshold * self.counts.mean(dim=-1, keepdim=True)

    @torch.no_grad()
    def initialize(
        self, level: int, vectors: Tensor, *, initialization: Initialization, generator: torch.Generator
    ) -> None:
        """Set one level from `vectors` `[M, d]`, the vectors of this rank."""
        vectors = gather_rows(vectors.float())
        codewords, counts = initialization.draw(
            vectors, self.counts.shape[1], generator=generator, normalize=self.normalize
        )
        counts = initialization.uses * counts / counts.mean()
        broadcast_from_first(codewords, counts)  # ranks may add up in another order
        self._write(level, torch.arange(len(codewords), device=vectors.device), codewords, counts)

    def update(self, statistics: Statistics, generator: Callable[[], torch.Generator]) -> Tensor:
        """`follow` one optimizer step, then `revive` dead codewords; returns these, bool `[K, N]`."""
        return self.revive(statistics, self.follow(statistics), generator)

    @torch.no_grad()
    def follow(self, statistics: Statistics) -> Tensor:
        """Take in one optimizer step, summed over all ranks; nothing here waits for a device.

        Args:
            statistics: Of this rank's part of the step.

        Returns:
            Which levels had any vectors, bool `[K]`.
        """
        counts, sums = sum_over_ranks(statistics.counts, statistics.sums)
        seen = counts.sum(dim=-1) > 0
        self._follow(counts, sums, (1 - self.decay) * seen.float())
        return seen

    def _follow(self, counts: Tensor, sums: Tensor, weight: Tensor) -> None:
        """Move averages by `weight` `[K]`; a level that every item switched off has weight zero and learns nothing."""
        self.counts.lerp_(counts, weight[:, None])

    @torch.no_grad()
    def revive(self, statistics: Statistics, seen: Tensor, generator: Callable[[], torch.Generator]) -> Tensor:
        """Replace dead codewords by vectors of the step that was followed last.

        Args:
            statistics: Of this rank's part of that step.
            seen: What `follow` returned.
            generator: Makes a CPU generator, the same on every rank, that chooses the vectors which replace dead
                codewords; called only where there are any.

        Returns:
            Revived codewords, bool `[K, N]`: an optimizer must forget its moments of these rows.
        """
        revived = torch.zeros_like(self.counts, dtype=torch.bool)
        if self.dead_threshold == 0:
            return revived
        dead = self.dead_codewords() & seen[:, None]
        levels = dead.any(dim=-1).nonzero().flatten().tolist()
        draws = generator() if levels else None
        for level in levels:
            valid = None if statistics.valid is None else statistics.valid[level]
            candidates = gather_rows(statistics.residuals[level], valid)
            rows = dead[level].nonzero().flatten()[: len(candidates)]
            chosen = candidates[torch.randperm(len(candidates), generator=draws)[: len(rows)].to(rows.device)]
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


class EMACodebooks(Codebooks):
    """Codewords that are the moving average of the vectors that chose them; they have no codebook loss.

    count <- decay count + (1 - decay) n, sum <- decay sum + (1 - decay) sum of vectors, codeword = sum / count
    (arXiv:1711.00937, eq. 6-8). The sum is kept as codeword x count wherever a codeword is set.

    With `has_zero` the first codeword of every level after the first is zero and stays so: a code that says that a
    frame uses no further level.
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
        has_zero: bool = False,
    ) -> None:
        super().__init__(
            num_quantizers,
            codebook_size,
            codebook_dim,
            decay=decay,
            dead_threshold=dead_threshold,
            normalize=normalize,
        )
        self.has_zero = has_zero
        self._keep_zero()

    def _hold(self, codewords: Tensor) -> None:
        self.register_buffer("table", codewords)
        self.register_buffer("sums", codewords.clone())

    def _keep_zero(self) -> None:
        if self.has_zero:
            self.table[1:, 0] = 0.0
            self.sums[1:, 0] = 0.0

    def dead_codewords(self) -> Tensor:
        """Codewords used less than `dead_threshold` times as often as under uniform use; never the one of zeros."""
        dead = super().dead_codewords()
        if self.has_zero:
            dead[1:, 0] = False
        return dead

    def confine(self, mask: Tensor) -> None:
        """Set elements to zero, see `Codebooks.confine`."""
        self.table.mul_(mask[:, None])
        self.sums.mul_(mask[:, None])

    def _follow(self, counts: Tensor, sums: Tensor, weight: Tensor) -> None:
        super()._follow(counts, sums, weight)
        self.sums.lerp_(sums, weight[:, None, None])
        # A codeword that nothing chose for very long keeps its place: 0 / 0 says nothing of it.
        live = (self.counts > 1e-6) & (weight[:, None] > 0)
        means = self.sums / self.counts.clamp_min(1e-6)[..., None]
        torch.where(live[..., None], means, self.table, out=self.table)
        self._keep_zero()

    def restart_statistics(self) -> None:
        """Forget past use: every codeword counts once, as when a table comes from elsewhere."""
        super().restart_statistics()
        self.sums.copy_(self.table)
        self._keep_zero()

    def _write(self, level: int, rows: Tensor, codewords: Tensor, counts: Tensor) -> None:
        super()._write(level, rows, codewords, counts)
        self.sums[level, rows] = codewords * counts[:, None]
        self._keep_zero()


class GradientCodebooks(Codebooks):
    """Codewords that are parameters: the codebook loss pulls each to its vectors (arXiv:1711.00937, eq. 3)."""

    has_codebook_loss = True

    def _hold(self, codewords: Tensor) -> None:
        self.table = nn.Parameter(codewords)

    def confine(self, mask: Tensor) -> None:
        """Set elements to zero, see `Codebooks.confine`."""
        self.table.data.mul_(mask[:, None])


class SimVQCodebooks(Codebooks):
    """One learned linear map of fixed codewords: codeword = W c (Zhu et al., arXiv:2411.02038, section 4.2).

    Every step moves all codewords of a level together, so none is left behind; the fixed ones are drawn like the
    first codewords of the other kinds, and W starts as the identity. A single codeword can't be replaced.
    """

    fixed: Tensor
    has_codebook_loss = True

    def _hold(self, codewords: Tensor) -> None:
        if self.dead_threshold > 0:
            raise ValueError("simvq can't replace a codeword: dead_threshold must be 0")
        self.register_buffer("fixed", codewords)
        self.map = nn.Parameter(torch.eye(codewords.shape[-1]).repeat(len(codewords), 1, 1))

    def confine(self, mask: Tensor) -> None:
        """Set elements to zero, see `Codebooks.confine`; the map leads from neither part to the other."""
        self.fixed.mul_(mask[:, None])
        self.map.data.mul_(mask[:, :, None] == mask[:, None])

    @property
    def table(self) -> Tensor:  # type: ignore[override]
        """Codewords `[K, N, d]`."""
        with full_precision(self.map.device):
            return self.fixed @ self.map

    def _write(self, level: int, rows: Tensor, codewords: Tensor, counts: Tensor) -> None:
        self.fixed[level, rows] = codewords
        self.map.data[level] = torch.eye(codewords.shape[-1], device=codewords.device)
        self.counts[level, rows] = counts
