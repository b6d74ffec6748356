"""Quantizers with one codeword per level: residual, product and split vector quantization.

All three run their levels in order and subtract the codeword of each level before the next one (`_code`). They differ
in what a level sees.

    residual   all that the levels before it left over (SoundStream, arXiv:2107.03312, algorithm 1)
    product    its own part of the vector (Jegou et al., "Product quantization for nearest neighbor search", 2011)
    split      what the levels before it left over, in one of two parts of the vector

Unlike the first published RVQ code, every level has its own commitment gradient, and the straight-through step acts
once, around the loop (`Quantizer.forward`).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from codec.dsp.precision import full_precision
from codec.model.quantizer.beam import extend, keep_unless, slice_length, trace_back
from codec.model.quantizer.codebooks import Codebooks, Statistics
from codec.model.quantizer.estimators import Estimator, straight_through
from codec.model.quantizer.initialization import Initialization
from codec.model.quantizer.quantizer import Quantized, Quantizer
from codec.model.quantizer.search import count_and_sum, energies, match


class LevelStep(NamedTuple):
    """What one level made of `[M, d]` vectors; a codeword has d' elements."""

    part: Tensor
    """What the level saw, `[M, d']`."""
    indices: Tensor
    """Its codes, int64 `[M]`."""
    codewords: Tensor
    """`[M, d']`, without gradient."""
    placed: Tensor
    """The codewords as vectors of code space, `[M, d]`."""


class VectorQuantizer(Quantizer):
    """Codes vectors level by level; a subclass says which part of the residual a level sees.

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
        """Set the elements of codewords that their level does not see to zero."""

    def _code(
        self,
        vectors: Tensor,
        num_quantizers: int,
        codebook_of: Callable[[int, Tensor], tuple[Tensor, Tensor]],
        num_active: Tensor | None = None,
    ) -> Iterator[LevelStep]:
        """Run the levels over `vectors` `[M, d]`: the one loop of initialisation, search and training.

        Args:
            vectors: float32; call this within `full_precision`.
            num_quantizers: Levels to run.
            codebook_of: Gives the codebook `[N, d']` of a level and its `energies` `[N]`, without gradient, from the
                number of the level and what it sees.
            num_active: Levels of each vector, int `[M]`; codes beyond are 0.
        """
        residual = vectors
        for level in range(num_quantizers):
            part = self._part(level, residual)
            codebook, energy = codebook_of(level, part)
            indices = match(part.detach(), codebook, energy, normalize=self.codebooks.normalize)
            if num_active is not None:
                indices = torch.where(num_active > level, indices, 0)
            codewords = codebook.index_select(0, indices)
            placed = self._place(level, codewords)
            residual = residual - placed
            yield LevelStep(part, indices, codewords, placed)

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

        def set_level(level: int, part: Tensor) -> tuple[Tensor, Tensor]:
            if level >= first_level:
                self.codebooks.initialize(level, part, initialization=initialization, generator=generator)
                self._confine()
            codebook = self.codebooks.table[level].float()
            return codebook, energies(codebook)

        with full_precision(latents.device):
            vectors = self._vectors(latents)
            if mask is not None:
                vectors = vectors[mask.flatten()]
            for _ in self._code(vectors, self.num_quantizers, set_level):
                pass

    def update(self, statistics: Statistics, generator: Callable[[], torch.Generator]) -> Tensor:
        """Update the codebooks after an optimizer step; returns the revived codewords, bool `[K, N]`."""
        return self.codebooks.update(statistics, generator)

    def follow(self, statistics: Statistics) -> Tensor:
        """Move the averages, see `Codebooks.follow`; returns which levels had any vectors, bool `[K]`."""
        return self.codebooks.follow(statistics)

    def revive(self, statistics: Statistics, seen: Tensor, generator: Callable[[], torch.Generator]) -> Tensor:
        """Replace dead codewords, see `Codebooks.revive`; returns them, bool `[K, N]`."""
        return self.codebooks.revive(statistics, seen, generator)

    def restart_statistics(self) -> None:
        """Count every codeword once, as after loading a model."""
        self.codebooks.restart_statistics()

    def dead_codewords(self) -> Tensor:
        """Codewords that are hardly used, see `Codebooks.dead_codewords`; bool `[K, N]`."""
        return self.codebooks.dead_codewords()

    def codewords(self) -> Tensor:
        """Codewords of all levels, see `Quantizer.codewords`."""
        return self.codebooks.table.detach()

    @torch.no_grad()
    def inputs_of_levels(self, latents: Tensor, codes: Tensor) -> Iterator[Tensor]:
        """What each level saw when it chose its codes, see `Quantizer.inputs_of_levels`."""
        with full_precision(latents.device):
            residual = self._vectors(latents)
        for level, indices in enumerate(codes.unbind(1)):
            yield self._part(level, residual)
            codewords = functional.embedding(indices.flatten(), self.codewords()[level])
            residual = residual - self._place(level, codewords)

    def _no_codebook_loss(self) -> Tensor:
        table = self.codebooks.table
        return 0.0 * table.sum() if self.has_codebook_loss else table.new_zeros(())

    def _search(self, vectors: Tensor, num_quantizers: int, num_active: Tensor | None) -> Tensor:
        codebook_of = _with_energies(self.codebooks.table.detach()[:num_quantizers])
        steps = self._code(vectors.detach(), num_quantizers, codebook_of, num_active)
        return torch.stack([step.indices for step in steps])

    def _search_beam(self, vectors: Tensor, num_quantizers: int, beam: int, num_active: Tensor | None) -> Tensor:
        """Codes `[k, M]` of vectors `[M, d]`: the path with the least squared error.

        The error decides even with `normalize`, because decoding adds up the codewords with their gain.
        """
        if num_quantizers == 1:
            return self._search(vectors, num_quantizers, num_active)
        vectors, table = vectors.detach(), self.codebooks.table.detach()[:num_quantizers]
        length = slice_length(beam, self.codebook_size, vectors.device)
        norms = energies(table)
        if len(vectors) <= length:  # an ONNX graph can't hold the split
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
        codewords = functional.embedding(self._rows(codes), self.codebooks.table.flatten(0, 1))
        # Level by level, as in the search: the order of a sum over all levels would depend on the shape.
        return functools.reduce(torch.add, (self._place(level, each) for level, each in enumerate(codewords)))

    def _rows(self, codes: Tensor) -> Tensor:
        """Row of each code `[k, ...]` in the table flattened to `[K * N, d']`."""
        first = torch.arange(len(codes), device=codes.device) * self.codebook_size
        return codes + first.view(-1, *[1] * (codes.ndim - 1))

    def _quantize(self, vectors: Tensor, num_active: Tensor | None, valid: Tensor | None) -> Quantized:
        table = self.codebooks.table
        active = None if num_active is None else torch.arange(len(table), device=table.device)[:, None] < num_active
        steps = list(self._code(vectors, len(table), _with_energies(table.detach())))
        placed = [step.placed for step in steps]
        if active is not None:
            placed = [use[:, None] * each for use, each in zip(active, placed, strict=True)]
        quantized = functools.reduce(torch.add, placed)  # level by level: `sum` may round in another order
        parts, codes, codewords = (torch.stack(each) for each in list(zip(*steps, strict=True))[:3])
        rows = self._rows(codes).flatten()
        commitment = _sum_levels((parts - codewords).square().mean(dim=-1), active)
        codebook_distance = torch.zeros_like(commitment)
        if self.has_codebook_loss:
            # One look-up for all levels: one per level would allocate a gradient of the size of the table for each.
            learned = table.flatten(0, 1).index_select(0, rows).view_as(parts)
            codebook_distance = _sum_levels((parts.detach() - learned).square().mean(dim=-1), active)
        counted = valid if active is None else active if valid is None else active & valid
        statistics = self._statistics(rows, parts.detach(), counted)
        return Quantized(quantized, codes, commitment, codebook_distance, statistics)

    def _statistics(self, rows: Tensor, parts: Tensor, counted: Tensor | None) -> Statistics:
        """Uses and sums of table rows `[K * M]` and the parts `[K, M, d]` that chose them, where `counted`."""
        levels = len(parts)
        if counted is not None:
            counted = counted.expand(levels, -1)
        chosen = None if counted is None else counted.flatten()
        counts, sums = count_and_sum(parts.flatten(0, 1), rows, levels * self.codebook_size, chosen)
        return Statistics(counts.view(levels, -1), sums.view(levels, -1, parts.shape[-1]), parts, counted)


def _with_energies(table: Tensor) -> Callable[[int, Tensor], tuple[Tensor, Tensor]]:
    """Codebooks `[K, N, d']` as `VectorQuantizer._code` takes them, with energies computed once for all levels."""
    pairs = list(zip(table, energies(table), strict=True))
    return lambda level, _: pairs[level]


def _sum_levels(distance: Tensor, active: Tensor | None) -> Tensor:
    """Sum over the active levels of distances `[K, M]`."""
    return (distance if active is None else distance * active).sum(dim=0)


class ResidualQuantizer(VectorQuantizer):
    """Every level quantizes the whole residual of the levels before it; d' = d."""

    def _part(self, level: int, residual: Tensor) -> Tensor:
        return residual

    def _place(self, level: int, codewords: Tensor) -> Tensor:
        return codewords


class ProductQuantizer(VectorQuantizer):
    """Level k quantizes the k-th of K equal parts of the vector, d' = d / K; levels left out decode to zero."""

    def _part(self, level: int, residual: Tensor) -> Tensor:
        size = self.codebooks.table.shape[-1]
        return residual[:, level * size : (level + 1) * size]

    def _place(self, level: int, codewords: Tensor) -> Tensor:
        size = codewords.shape[-1]
        return functional.pad(codewords, (level * size, (self.num_quantizers - 1 - level) * size))

    def _search_beam(self, vectors: Tensor, num_quantizers: int, beam: int, num_active: Tensor | None) -> Tensor:
        # The parts are independent: the nearest codeword of each part gives the nearest sum.
        return self._search(vectors, num_quantizers, num_active)


class SplitQuantizer(VectorQuantizer):
    """A residual quantizer whose levels each see one of two parts of the vector, in a fixed order.

    Codewords have all d elements, zero in the part that their level does not see. Losses are means over all d, so the
    pull on an element is that of a `ResidualQuantizer` for every level that sees it.

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
        self.register_buffer("mask", mask, persistent=False)  # not saved: the zeros of the codewords hold it
        self._confine()

    def restart_statistics(self) -> None:
        """Count every codeword once, and set to zero what a loaded codeword holds for the other part."""
        self._confine()
        super().restart_statistics()

    def _confine(self) -> None:
        self.codebooks.confine(self.mask)

    def _part(self, level: int, residual: Tensor) -> Tensor:
        return residual * self.mask[level]

    def _place(self, level: int, codewords: Tensor) -> Tensor:
        return codewords
