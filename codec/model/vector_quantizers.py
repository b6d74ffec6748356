"""Quantizers that choose a codeword a level: residual and product vector quantization.

Both go through their levels in order and subtract what a level has found; they differ in what a level looks at.
Residual: all that the levels before it left over (SoundStream, arXiv:2107.03312, algorithm 1). Product: its own part of
the vector (Jegou et al., "Product quantization for nearest neighbor search", 2011). We differ from the lineage of the
first listing in that every level has its own commitment gradient, and that straight-through acts once, around the loop.
"""

import torch
from torch import Tensor
from torch.nn import functional

from codec.model.codebooks import Codebooks, Statistics
from codec.model.estimators import Estimator, straight_through
from codec.model.initialization import Initialization
from codec.model.quantizers import Quantized, Quantizer
from codec.model.search import add_up, nearest
from codec.precision import full_precision


class VectorQuantizer(Quantizer):
    """Codes a vector level by level; a subclass says which part of the rest a level sees.

    Args:
        codebooks: The K tables and how they learn.
        latent_dim: Channels D of the latents.
        codebook_dim: Size of the vectors of code space, see `Quantizer`.
        estimator: How the gradient passes.
    """

    def __init__(
        self,
        codebooks: Codebooks,
        *,
        latent_dim: int,
        codebook_dim: int | None,
        estimator: Estimator = straight_through,
    ) -> None:
        num_quantizers, codebook_size, _ = codebooks.table.shape
        super().__init__(
            num_quantizers, codebook_size, latent_dim=latent_dim, codebook_dim=codebook_dim, estimator=estimator
        )
        self.codebooks = codebooks
        self.has_codebook_loss = codebooks.has_codebook_loss

    def _part(self, level: int, rest: Tensor) -> Tensor:
        """What a level sees of `rest` `[M, d]`."""
        raise NotImplementedError

    def _place(self, level: int, codewords: Tensor) -> Tensor:
        """Codewords of a level as vectors of code space `[..., d]`."""
        raise NotImplementedError

    @torch.no_grad()
    def initialize(
        self,
        latents: Tensor,
        *,
        initialization: Initialization,
        generator: torch.Generator,
        mask: Tensor | None = None,
    ) -> None:
        """Set every level from live latents `[B, D, F]`, each from what it will see; see `Quantizer.initialize`."""
        with full_precision(latents.device):
            rest = self._vectors(latents)
        if mask is not None:
            rest = rest[mask.flatten()]
        for level in range(self.num_quantizers):
            part = self._part(level, rest)
            self.codebooks.initialize(level, part, initialization=initialization, generator=generator)
            codebook = self.codebooks.table[level]
            rest = rest - self._place(level, codebook[self._nearest(part, codebook)])

    def update(self, statistics: Statistics, generator: torch.Generator) -> Tensor:
        """Let the codebooks take in one optimizer step; returns the revived codewords, bool `[K, N]`."""
        return self.codebooks.update(statistics, generator)

    def restart_statistics(self) -> None:
        """Forget how codewords were used, as when they come from elsewhere."""
        self.codebooks.restart_statistics()

    def dead(self) -> Tensor:
        """Codewords that are hardly used by now, bool `[K, N]`."""
        return self.codebooks.dead()

    def _no_codebook_loss(self) -> Tensor:
        table = self.codebooks.table
        return 0.0 * table.sum() if self.has_codebook_loss else table.new_zeros(())

    def _nearest(self, vectors: Tensor, codebook: Tensor) -> Tensor:
        return nearest(vectors, codebook, normalize=self.codebooks.normalize)

    def _search(self, vectors: Tensor, num_quantizers: int) -> Tensor:
        table = self.codebooks.table
        rest, codes = vectors, []
        for level in range(num_quantizers):
            indices = self._nearest(self._part(level, rest), table[level])
            rest = rest - self._place(level, table[level, indices])
            codes.append(indices)
        return torch.stack(codes)

    def _lookup(self, codes: Tensor) -> Tensor:
        table = self.codebooks.table
        vectors = self._place(0, table[0, codes[0]])
        for level in range(1, len(codes)):
            vectors = vectors + self._place(level, table[level, codes[level]])
        return vectors

    def _quantize(self, vectors: Tensor, num_active: Tensor | None, valid: Tensor | None) -> Quantized:
        table = self.codebooks.table
        quantized, rest = torch.zeros_like(vectors), vectors
        commitment = codebook = vectors.new_zeros(len(vectors))
        counts, sums = table.new_zeros(table.shape[:2]), torch.zeros_like(table)
        levels = []
        for level in range(self.num_quantizers):
            part = self._part(level, rest)
            seen = part.detach()
            indices = self._nearest(seen, table[level])
            codewords = table[level, indices]
            found = self._place(level, codewords.detach())
            active = None if num_active is None else num_active > level
            commitment = commitment + _kept((part - codewords.detach()).square().mean(dim=-1), active)
            if self.has_codebook_loss:
                codebook = codebook + _kept((seen - codewords).square().mean(dim=-1), active)
            quantized = quantized + _kept(found, active)
            rest = rest - found
            counted = valid if active is None else active if valid is None else active & valid
            some = slice(None) if counted is None else counted
            add_up(counts[level], sums[level], seen[some], indices[some])
            levels.append((indices, seen, counted))
        codes, residuals, counted_ones = zip(*levels, strict=True)
        which = None if counted_ones[0] is None else torch.stack(counted_ones)
        statistics = Statistics(counts, sums, torch.stack(residuals), which)
        return Quantized(quantized, torch.stack(codes), commitment, codebook, statistics)


def _kept(values: Tensor, mask: Tensor | None) -> Tensor:
    """Values `[M, ...]` with zeros where the mask `[M]` is False; without a mask all of them."""
    return values if mask is None else values * mask.view(-1, *(1 for _ in values.shape[1:]))


class ResidualQuantizer(VectorQuantizer):
    """Every level quantizes all that the levels before it left over; its codewords are as long as the vectors."""

    def _part(self, level: int, rest: Tensor) -> Tensor:
        return rest

    def _place(self, level: int, codewords: Tensor) -> Tensor:
        return codewords


class ProductQuantizer(VectorQuantizer):
    """Level k quantizes the k-th of K equal parts of the vector; parts of levels left out decode to zero."""

    def _part(self, level: int, rest: Tensor) -> Tensor:
        size = self.codebooks.table.shape[-1]
        return rest[:, level * size : (level + 1) * size]

    def _place(self, level: int, codewords: Tensor) -> Tensor:
        size = codewords.shape[-1]
        return functional.pad(codewords, (level * size, (self.num_quantizers - 1 - level) * size))
