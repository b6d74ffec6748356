"""The codebooks of a vector quantizer and the ways to learn them.

`EMACodebooks` and `GradientCodebooks` are the two of VQ-VAE (arXiv:1711.00937, section 3.2 and appendix A.1): codewords
are moving averages of their vectors, or parameters trained by the codebook loss. `SimVQCodebooks` train one linear map
of fixed codewords by the same loss. All hold K levels in one table `[K, N, d]` and share one interface: `initialize`
sets one level from live vectors, `update` is called once per optimizer step with the `Statistics` of that step. Nothing
else changes a codebook.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec.dsp.precision import full_precision
from codec.model.quantizer.collective import broadcast_from_first, gather_rows, sum_over_ranks
from codec.model.quantizer.initialization import Initialization


class Statistics(NamedTuple):
    """Sums over one training step for every level; only valid frames of active levels count."""

    counts: Tensor
    """Uses of each codeword, `[K, N]`."""
    sums: Tensor
    """Sum of the vectors that chose it, `[K, N, d]`."""
    residuals: Tensor
    """Vectors that each level quantized, `[K, M, d]`; they may replace dead codewords."""
    valid: Tensor | None
    """Which of them count, bool `[K, M]`; None for all."""

    @staticmethod
    def of_parts(parts: "Sequence[Statistics]") -> "Statistics":
        """Statistics of a step whose batch ran in several parts, the vectors in the order of the parts."""
        counts, sums, residuals, valid = zip(*parts, strict=True)
        return Statistics(
            torch.stack(counts).sum(dim=0),
            torch.stack(sums).sum(dim=0),
            torch.cat(residuals, dim=1),
            None if valid[0] is None else torch.cat(valid, dim=1),
        )


class Codebooks(nn.Module):
    """Base class: usage counts, initialisation and the revival of dead codewords.

    Args:
        num_quantizers: Levels K.
        codebook_size: Codewords N of a level.
        codebook_dim: Elements d of a codeword.
        decay: Of the moving averages, per optimizer step, 0 .. 1.
        dead_threshold: A codeword is dead below this share of uniform use; 0 switches revival off.
        normalize: Vectors choose codewords by direction, see `codec.model.quantizer.search.nearest`.
        has_zero: The first codeword of every level after the first is zero and stays so. Its code says that a frame
            uses no further level.
    """

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
        has_zero: bool = False,
    ) -> None:
        super().__init__()
        self.decay = decay
        self.dead_threshold = dead_threshold
        self.normalize = normalize
        self.has_zero = has_zero
        self.register_buffer("counts", torch.ones(num_quantizers, codebook_size))
        self._hold(torch.randn(num_quantizers, codebook_size, codebook_dim))

    def _hold(self, codewords: Tensor) -> None:
        """Create the table from random codewords `[K, N, d]`."""
        raise NotImplementedError

    def confine(self, mask: Tensor) -> None:
        """Set elements of codewords to zero where `mask` `[K, d]` is zero."""
        raise NotImplementedError

    def dead_codewords(self) -> Tensor:
        """Codewords used less than `dead_threshold` times uniform use, bool `[K, N]`; never a codeword of zeros."""
        dead = self.counts < self.dead_threshold * self.counts.mean(dim=-1, keepdim=True)
        if self.has_zero:
            dead[1:, 0] = False
        return dead

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
        broadcast_from_first(codewords, counts)  # sums may round differently on other ranks
        self._write(level, torch.arange(len(codewords), device=vectors.device), codewords, counts)

    def update(self, statistics: Statistics, generator: Callable[[], torch.Generator]) -> Tensor:
        """`follow`, then `revive`; returns the revived codewords, bool `[K, N]`."""
        return self.revive(statistics, self.follow(statistics), generator)

    @torch.no_grad()
    def follow(self, statistics: Statistics) -> Tensor:
        """Move the averages by the statistics of one optimizer step, summed over all ranks.

        Nothing here waits for the device.

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
        """Move averages by `weight` `[K]`, which is zero for a level that no item used."""
        self.counts.lerp_(counts, weight[:, None])

    @torch.no_grad()
    def revive(self, statistics: Statistics, seen: Tensor, generator: Callable[[], torch.Generator]) -> Tensor:
        """Replace dead codewords by random vectors of the last step.

        Args:
            statistics: Of this rank's part of that step.
            seen: Which levels had any vectors, from `follow`.
            generator: Makes the CPU generator that draws the vectors, the same on every rank; called only if a codeword
                is dead.

        Returns:
            Revived codewords, bool `[K, N]`; reset the optimizer's moments of these rows.
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
        """Count every codeword once, as after loading a model."""
        self.counts.fill_(1.0)

    def _write(self, level: int, rows: Tensor, codewords: Tensor, counts: Tensor) -> None:
        self.table.data[level, rows] = codewords
        self.counts[level, rows] = counts


class EMACodebooks(Codebooks):
    """Codewords are moving averages of the vectors that chose them; there is no codebook loss.

    count <- decay count + (1 - decay) n, sum <- decay sum + (1 - decay) sum of vectors, codeword = sum / count
    (arXiv:1711.00937, eq. 6-8). Wherever a codeword is set, its sum is set to codeword x count.
    """

    sums: Tensor
    has_codebook_loss = False

    def _hold(self, codewords: Tensor) -> None:
        self.register_buffer("table", codewords)
        self.register_buffer("sums", codewords.clone())
        self._keep_zero()

    def _keep_zero(self) -> None:
        if self.has_zero:
            self.table[1:, 0].zero_()
            self.sums[1:, 0].zero_()

    def confine(self, mask: Tensor) -> None:
        """Set elements to zero, see `Codebooks.confine`."""
        self.table.mul_(mask[:, None])
        self.sums.mul_(mask[:, None])

    def _follow(self, counts: Tensor, sums: Tensor, weight: Tensor) -> None:
        super()._follow(counts, sums, weight)
        self.sums.lerp_(sums, weight[:, None, None])
        # A codeword that nothing has chosen for very long stays where it is: its average would be 0 / 0.
        live = (self.counts > 1e-6) & (weight[:, None] > 0)
        means = self.sums / self.counts.clamp_min(1e-6)[..., None]
        torch.where(live[..., None], means, self.table, out=self.table)
        self._keep_zero()

    def restart_statistics(self) -> None:
        """Count every codeword once, as after loading a model."""
        super().restart_statistics()
        self.sums.copy_(self.table)
        self._keep_zero()

    def _write(self, level: int, rows: Tensor, codewords: Tensor, counts: Tensor) -> None:
        super()._write(level, rows, codewords, counts)
        self.sums[level, rows] = codewords * counts[:, None]
        self._keep_zero()


class GradientCodebooks(Codebooks):
    """Codewords are parameters, pulled to their vectors by the codebook loss (arXiv:1711.00937, eq. 3)."""

    has_codebook_loss = True

    def _hold(self, codewords: Tensor) -> None:
        if self.has_zero:
            raise ValueError("only EMA codebooks can keep a codeword of zeros")
        self.table = nn.Parameter(codewords)

    def confine(self, mask: Tensor) -> None:
        """Set elements to zero, see `Codebooks.confine`."""
        self.table.data.mul_(mask[:, None])


class SimVQCodebooks(Codebooks):
    """One learned linear map of fixed codewords: codeword = W c (Zhu et al., arXiv:2411.02038, section 4.2).

    Every step moves all codewords of a level together, so none of them dies. The fixed codewords are drawn like the
    first codewords of the other kinds, and W starts as the identity. A single codeword can't be replaced.
    """

    fixed: Tensor
    has_codebook_loss = True

    def _hold(self, codewords: Tensor) -> None:
        if self.dead_threshold > 0 or self.has_zero:
            raise ValueError("simvq can't set a single codeword: dead_threshold must be 0 and has_zero False")
        self.register_buffer("fixed", codewords)
        num_quantizers, _, codebook_dim = codewords.shape
        self.map = nn.Parameter(torch.zeros(num_quantizers, codebook_dim, codebook_dim) + torch.eye(codebook_dim))

    def confine(self, mask: Tensor) -> None:
        """Set elements to zero, see `Codebooks.confine`, and the map between the two parts to zero."""
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
