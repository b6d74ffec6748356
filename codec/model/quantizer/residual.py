"""Quantizers that choose a codeword a level: residual, product and split vector quantization.

All go through their levels in order and subtract what a level has found; they differ in what a level looks at.
Residual: all that the levels before it left over (SoundStream, arXiv:2107.03312, algorithm 1). Product: its own part of
the vector (Jegou et al., "Product quantization for nearest neighbor search", 2011). Split: what the levels before it
left over of one of two parts. We differ from the lineage of the first listing in that every level has its own
commitment gradient, and that straight-through acts once, around the loop.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from codec.dsp.precision import full_precision
from codec.model.quantizer.beam import extend, keep_unless, slice_length, trace_back
from codec.model.quantizer.codebooks import Codebooks, Statistics
from codec.model.quantizer.estimators import Estimator, straight_through
from codec.model.quantizer.initialization import Initialization
from codec.model.quantizer.quantizer import Quantized, Quantizer
from codec.model.quantizer.search import count_and_sum, energies, match, nearest


class VectorQuantizer(Quantizer):
    """Codes a vector level by level; a subclass says which part of the residual a level sees.

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
        num_quantizers, codebook_size = codebooks.counts.shape
        super().__init__(
            num_quantizers, codebook_size, latent_dim=latent_dim, codebook_dim=codebook_dim, estimator=estimator
        )
        self.codebooks = codebooks
        self.has_codebook_loss = codebooks.has_codebook_loss

    def _part(self, level: int, residual: Tensor) -> Tensor:
        """What a level sees of `residual` `[M, d]`."""
        raise NotImplementedError

    def _place(self, level: int, codewords: Tensor) -> Tensor:
        """Codewords of a level as vectors of code space `[..., d]`."""
        raise NotImplementedError

    def _confine(self) -> None:
        """Make codewords say nothing of what their level does not see, after they were set."""

    @torch.no_grad()
    def initialize(
        self,
        latents: Tensor,
        *,
        initialization: Initialization,
        generator: torch.Generator,
        mask: Tensor | None = None,
        first_level: int = 0,
    ) -> None:
        """Set every level from live latents `[B, D, F]`, each from what it will see; see `Quantizer.initialize`."""
        with full_precision(latents.device):
            residual = self._vectors(latents)
        if mask is not None:
            residual = residual[mask.flatten()]
        for level in range(self.num_quantizers):
            part = self._part(level, residual)
            if level >= first_level:
                self.codebooks.initialize(level, part, initialization=initialization, generator=generator)
                self._confine()
            codebook = self.codebooks.table[level]
            indices = nearest(part, codebook, normalize=self.codebooks.normalize)
            residual = residual - self._place(level, codebook[indices])

    def update(self, statistics: Statistics, generator: Callable[[], torch.Generator]) -> Tensor:
        """Let the codebooks take in one optimizer step; returns the revived codewords, bool `[K, N]`."""
        return self.codebooks.update(statistics, generator)

    def follow(self, statistics: Statistics) -> Tensor:
        """Let the codebooks take in one optimizer step; returns which levels had any vectors, bool `[K]`."""
        return self.codebooks.follow(statistics)

    def revive(self, statistics: Statistics, seen: Tensor, generator: Callable[[], torch.Generator]) -> Tensor:
        """Replace dead codewords, see `Codebooks.revive`; returns them, bool `[K, N]`."""
        return self.codebooks.revive(statistics, seen, generator)

    def restart_statistics(self) -> None:
        """Forget how codewords were used, as when they come from elsewhere."""
        self.codebooks.restart_statistics()

    def dead_codewords(self) -> Tensor:
        """Codewords that are hardly used by now, bool `[K, N]`."""
        return self.codebooks.dead_codewords()

    def _no_codebook_loss(self) -> Tensor:
        table = self.codebooks.table
        return 0.0 * table.sum() if self.has_codebook_loss else table.new_zeros(())

    def _search(self, vectors: Tensor, num_quantizers: int, num_active: Tensor | None) -> Tensor:
        table = self.codebooks.table.detach()[:num_quantizers]
        residual, codes = vectors.detach(), []
        for level, (codebook, energy) in enumerate(zip(table, energies(table), strict=True)):
            indices = match(self._part(level, residual), codebook, energy, normalize=self.codebooks.normalize)
            if num_active is not None:
                indices = torch.where(num_active > level, indices, 0)
            residual = residual - self._place(level, codebook.index_select(0, indices))
            codes.append(indices)
        return torch.stack(codes)

    def _search_beam(self, vectors: Tensor, num_quantizers: int, beam: int, num_active: Tensor | None) -> Tensor:
        """Codes `[k, M]` of vectors `[M, d]`: of the paths that were kept, that with the least squared error.

        Where codewords are chosen by direction (`normalize`) the beam chooses by error all the same: what is decoded
        are codewords with their gain.
        """
        if num_quantizers == 1:
            return self._search(vectors, num_quantizers, num_active)
        vectors, table = vectors.detach(), self.codebooks.table.detach()[:num_quantizers]
        length = slice_length(beam, self.codebook_size, vectors.device)
        norms = energies(table)
        if len(vectors) <= length:  # a graph has no use for the split
            return self._search_slice(vectors, num_active, table, norms, beam)
        slices = torch.split(vectors, length)
        active = [None] * len(slices) if num_active is None else torch.split(num_active, length)
        found = [self._search_slice(*each, table, norms, beam) for each in zip(slices, active, strict=True)]
        return torch.cat(found, dim=1)

    def _search_slice(
        self, vectors: Tensor, num_active: Tensor | None, table: Tensor, norms: Tensor, beam: int
    ) -> Tensor:
        residual, extensions = vectors[:, None], []
        for level, (codebook, energy) in enumerate(zip(table, norms, strict=True)):
            num_kept = 1 if level + 1 == len(table) else min(beam, residual.shape[1] * self.codebook_size)
            parts = self._part(level, residual.flatten(0, 1))
            extension = extend(residual, parts, codebook, energy, num_kept)
            if num_active is not None and level:
                extension = keep_unless(num_active > level, extension)
            before = residual.gather(1, extension.paths[:, :, None].expand(-1, -1, residual.shape[-1]))
            residual = before - self._place(level, functional.embedding(extension.indices, codebook))
            extensions.append(extension)
        return trace_back(extensions)

    def _lookup(self, codes: Tensor) -> Tensor:
        # One by one, in the order of the search: a sum over all at once rounds as the shape will have it.
        first, *others = functional.embedding(self._rows(codes), self.codebooks.table.flatten(0, 1))
        vectors = self._place(0, first)
        for level, codewords in enumerate(others, start=1):
            vectors = vectors + self._place(level, codewords)
        return vectors

    def _rows(self, codes: Tensor) -> Tensor:
        """The place of each code `[k, ...]` in a table whose levels lie one behind the other."""
        first = torch.arange(len(codes), device=codes.device) * self.codebook_size
        return codes + first.view(-1, *[1] * (codes.ndim - 1))

    def _quantize(self, vectors: Tensor, num_active: Tensor | None, valid: Tensor | None) -> Quantized:
        table = self.codebooks.table
        fixed = table.detach()
        active = None if num_active is None else torch.arange(len(table), device=table.device)[:, None] < num_active
        residual, quantized, found = vectors, None, []
        for level, (codebook, energy) in enumerate(zip(fixed, energies(fixed), strict=True)):
            part = self._part(level, residual)
            indices = match(part.detach(), codebook, energy, normalize=self.codebooks.normalize)
            codewords = codebook.index_select(0, indices)
            placed = self._place(level, codewords)
            residual = residual - placed
            used = placed if active is None else active[level, :, None] * placed
            quantized = used if quantized is None else quantized + used
            found.append((indices, part, codewords))
        codes, parts, chosen = (torch.stack(each) for each in zip(*found, strict=True))
        rows = self._rows(codes).flatten()
        commitment = _sum_levels((parts - chosen).square().mean(dim=-1), active)
        codebook_distance = torch.zeros_like(commitment)
        if self.has_codebook_loss:
            # All levels in one look-up: the gradient of each would be a table of its own.
            learned = table.flatten(0, 1).index_select(0, rows).view_as(parts)
            codebook_distance = _sum_levels((parts.detach() - learned).square().mean(dim=-1), active)
        counted = valid if active is None else active if valid is None else active & valid
        assert quantized is not None
        return Quantized(
            quantized, codes, commitment, codebook_distance, self._statistics(rows, parts.detach(), counted)
        )

    def _statistics(self, rows: Tensor, parts: Tensor, counted: Tensor | None) -> Statistics:
        """Uses and sums of table rows `[K * M]` and the parts `[K, M, d]` that chose them, where `counted`."""
        levels = len(parts)
        if counted is not None:
            counted = counted.expand(levels, -1)
        chosen = None if counted is None else counted.flatten()
        counts, sums = count_and_sum(parts.flatten(0, 1), rows, levels * self.codebook_size, chosen)
        return Statistics(counts.view(levels, -1), sums.view(levels, -1, parts.shape[-1]), parts, counted)


def _sum_levels(distance: Tensor, active: Tensor | None) -> Tensor:
    """Sum over the active levels of distances `[K, M]`."""
    return (distance if active is None else distance * active).sum(dim=0)


class ResidualQuantizer(VectorQuantizer):
    """Every level quantizes all that the levels before it left over; its codewords are as long as the vectors."""

    def _part(self, level: int, residual: Tensor) -> Tensor:
        return residual

    def _place(self, level: int, codewords: Tensor) -> Tensor:
        return codewords


class ProductQuantizer(VectorQuantizer):
    """Level k quantizes the k-th of K equal parts of the vector; parts of levels left out decode to zero."""

    def _part(self, level: int, residual: Tensor) -> Tensor:
        size = self.codebooks.table.shape[-1]
        return residual[:, level * size : (level + 1) * size]

    def _place(self, level: int, codewords: Tensor) -> Tensor:
        size = codewords.shape[-1]
        return functional.pad(codewords, (level * size, (self.num_quantizers - 1 - level) * size))

    def _search_beam(self, vectors: Tensor, num_quantizers: int, beam: int, num_active: Tensor | None) -> Tensor:
        return self._search(
            vectors, num_quantizers, num_active
        )  # parts are independent: the nearest of each is the nearest of all


class SplitQuantizer(VectorQuantizer):
    """A residual quantizer whose levels each look at one of two parts of the vector, in one fixed order.

    Codewords are as long as vectors, and zero where their level does not look; so losses, which are means over all
    elements, pull an element as hard as in a `ResidualQuantizer` for every level that sees it.

    Args:
        codebooks: The K tables and how they learn.
        latent_dim: Channels D of the latents.
        codebook_dim: Size of the vectors of code space, see `Quantizer`.
        estimator: How the gradient passes.
        split_at: Elements before it are part 0, those after it part 1.
        part_of_level: Part 0 or 1 of each level.
    """

    mask: Tensor

    def __init__(
        self,
        codebooks: Codebooks,
        *,
        latent_dim: int,
        codebook_dim: int | None,
        estimator: Estimator = straight_through,
        split_at: int,
        part_of_level: Sequence[int],
    ) -> None:
        super().__init__(codebooks, latent_dim=latent_dim, codebook_dim=codebook_dim, estimator=estimator)
        part_of_element = torch.arange(codebooks.table.shape[-1]) >= split_at
        mask = (part_of_element == torch.tensor(part_of_level)[:, None]).float()
        self.register_buffer("mask", mask, persistent=False)  # codewords show it: they are zero elsewhere
        self._confine()

    def restart_statistics(self) -> None:
        """Forget how codewords were used, and what those that come from elsewhere say of the other part."""
        self._confine()
        super().restart_statistics()

    def _confine(self) -> None:
        self.codebooks.confine(self.mask)

    def _part(self, level: int, residual: Tensor) -> Tensor:
        return residual * self.mask[level]

    def _place(self, level: int, codewords: Tensor) -> Tensor:
        return codewords
