"""Latents [B, D, F] -> codes [B, K, F] -> quantized latents [B, D, F]: what all quantizers share.

A quantizer projects latents into its code space once, quantizes vectors there, and projects back once. The estimator
passes the gradient inside code space, once, so the encoder's gradient is the same for any number of levels. The forward
pass changes no state; `update` does, after the optimizer step. How vectors of code space are quantized is in
`codec.model.quantizer.residual` and `codec.model.quantizer.fsq`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from codec.dsp.precision import full_precision
from codec.model.layers import Pointwise, start_as_identity
from codec.model.quantizer.beam import check_beam
from codec.model.quantizer.codebooks import Statistics
from codec.model.quantizer.estimators import Estimator
from codec.model.quantizer.initialization import Initialization


class QuantizerOutput(NamedTuple):
    """Result of a training pass through the quantizer."""

    quantized: Tensor
    """`[B, D, F]`: in the forward pass the decoded codes of the active levels; the estimator gives the gradient."""
    codes: Tensor
    """int64 `[B, K, F]`, equal to those of `encode`. Levels that an item leaves out have codes too; levels that a frame
    leaves out (`num_active` `[B, F]`) have code 0."""
    commitment_loss: Tensor
    """Mean squared distance of each level's input to its codeword, without gradient for the codeword; scalar."""
    codebook_loss: Tensor
    """The same distance, without gradient for the input; zero if codewords are no parameters; scalar."""
    statistics: Statistics | None
    """For `update`, once per optimizer step; None in a pass without quantization."""


class CodebookHealth(NamedTuple):
    """How well each level uses its codebook; every field is `[K]`."""

    entropy: Tensor
    """Entropy of the code distribution (bit per code), 0 .. log2 N: the least that an entropy coder can spend."""
    perplexity: Tensor
    """2^entropy, 1 .. N."""
    usage: Tensor
    """Share of codewords that occur, 0 .. 1."""


def codebook_health(counts: Tensor) -> CodebookHealth:
    """Entropy, perplexity and usage of code counts `[K, N]`; a level with no counts has entropy and usage zero."""
    counts = counts.double()
    probability = counts / counts.sum(dim=-1, keepdim=True).clamp_min(1.0)
    entropy = -torch.xlogy(probability, probability).sum(dim=-1) / torch.log(torch.tensor(2.0, dtype=torch.float64))
    return CodebookHealth(entropy, entropy.exp2(), (counts > 0).double().mean(dim=-1))


def count_codes(codes: Tensor, codebook_size: int) -> Tensor:
    """Uses of every codeword, int64 `[K, N]`, in codes `[B, K, F]`."""
    return torch.stack([torch.bincount(level.flatten(), minlength=codebook_size) for level in codes.unbind(1)])


class Quantized(NamedTuple):
    """Result of quantizing vectors `[M, d]` of code space."""

    vectors: Tensor
    """Sum of the codewords of the active levels, `[M, d]`, without gradient."""
    codes: Tensor
    """int64 `[K, M]`."""
    commitment: Tensor
    """Squared distance to the codeword: mean over elements, summed over active levels, `[M]`; gradient for the vector
    only."""
    codebook: Tensor
    """The same distance with a gradient for the codeword only, `[M]`."""
    statistics: Statistics


class Quantizer(nn.Module):
    """Base class of quantizers; a subclass quantizes vectors `[M, d]` of code space.

    Args:
        num_quantizers: Levels K, one code each.
        codebook_size: Codes N of a level.
        latent_dim: Channels D of the latents.
        codebook_dim: Size d of code space, reached by a learned linear projection; None: latents are quantized as they
            are, d = D.
        estimator: How the gradient passes from quantized to given vectors.
    """

    has_codebook_loss: bool
    """Whether the codewords are trained by the codebook loss."""

    def __init__(
        self,
        num_quantizers: int,
        codebook_size: int,
        *,
        latent_dim: int,
        codebook_dim: int | None,
        estimator: Estimator,
    ) -> None:
        super().__init__()
        self.num_quantizers = num_quantizers
        self.codebook_size = codebook_size
        self.estimator = estimator
        self.project_in: nn.Module = nn.Identity()
        self.project_out: nn.Module = nn.Identity()
        if codebook_dim is not None:
            self.project_in = start_as_identity(Pointwise(latent_dim, codebook_dim))
            self.project_out = start_as_identity(Pointwise(codebook_dim, latent_dim))

    def encode(
        self,
        latents: Tensor,
        num_quantizers: int | None = None,
        *,
        beam: int = 1,
        num_active: Tensor | None = None,
    ) -> Tensor:
        """Map latents to codes.

        Args:
            latents: `[B, D, F]`.
            num_quantizers: Number of levels to use, from the first; all by default.
            beam: Paths kept in the search, see `codec.model.quantizer.beam`; 1 is the greedy search. Without effect for
                one level or independent parts.
            num_active: Levels of each frame, int `[B, F]`, at least 1; codes beyond are 0. Needs codebooks with a
                codeword of zeros. All levels by default.

        Returns:
            Codes int64 `[B, K, F]`.

        Raises:
            ConfigError: `beam` is not in 1 .. 64.
        """
        check_beam(beam)
        levels = self.num_quantizers if num_quantizers is None else num_quantizers
        with full_precision(latents.device):
            vectors = self._vectors(latents)
            active = None if num_active is None else num_active.flatten()
            if beam == 1:
                codes = self._search(vectors, levels, active)
            else:
                codes = self._search_beam(vectors, levels, beam, active)
        return rearrange(codes, "k (b f) -> b k f", b=len(latents))

    def decode(self, codes: Tensor) -> Tensor:
        """Map the codes `[B, k, F]` of the first k levels to quantized latents `[B, D, F]`."""
        vectors = self._lookup(rearrange(codes, "b k f -> k b f"))
        quantized: Tensor = self.project_out(rearrange(vectors, "b f d -> b d f"))
        return quantized

    def forward(
        self, latents: Tensor, *, num_active: Tensor | None = None, mask: Tensor | None = None
    ) -> QuantizerOutput:
        """Quantize for training; changes no state. Pass the statistics to `update` after the optimizer step.

        Losses are means over the valid frames and active levels of an item, then over items: their weight depends
        neither on the number of levels nor on how items are spread over processes.

        Args:
            latents: `[B, D, F]`.
            num_active: Levels of each item, int `[B]`, or of each frame, `[B, F]`, 1 .. K; all by default.
            mask: True for real frames, bool `[B, F]`; padded frames enter no loss and no statistic.
        """
        batch, _, num_frames = latents.shape
        active = num_active
        if num_active is not None:
            active = num_active.flatten() if num_active.ndim == 2 else num_active.repeat_interleave(num_frames)
        with full_precision(latents.device):
            vectors = self._vectors(latents)
            result = self._quantize(vectors, active, None if mask is None else mask.flatten())
            quantized = rearrange(self.estimator(vectors, result.vectors), "(b f) d -> b d f", b=batch)
            commitment_loss = self._mean(result.commitment.view(batch, num_frames), num_active, mask)
            codebook_loss = latents.new_zeros(())
            if self.has_codebook_loss:
                codebook_loss = self._mean(result.codebook.view(batch, num_frames), num_active, mask)
        codes = rearrange(result.codes, "k (b f) -> b k f", b=batch)
        if num_active is not None and num_active.ndim == 2:
            levels = torch.arange(self.num_quantizers, device=codes.device)[:, None]
            codes = torch.where(levels < num_active[:, None], codes, 0)
        return QuantizerOutput(self.project_out(quantized), codes, commitment_loss, codebook_loss, result.statistics)

    def _mean(self, distance: Tensor, num_active: Tensor | None, mask: Tensor | None) -> Tensor:
        """Mean over valid frames and active levels, then over items; `distance` `[B, F]` is summed over levels."""
        if mask is None and num_active is None:
            return distance.mean() / self.num_quantizers
        levels = self.num_quantizers if num_active is None else num_active
        distance = distance / (levels if num_active is None or num_active.ndim == 2 else num_active[:, None])
        if mask is None:
            return distance.mean()
        return ((distance * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)).mean()

    def bypass(self, latents: Tensor) -> QuantizerOutput:
        """Pass latents through code space unquantized: the warm-up before the codebooks are initialised."""
        with full_precision(latents.device):
            vectors = rearrange(self._vectors(latents), "(b f) d -> b d f", b=len(latents))
        codes = torch.zeros(len(latents), 0, latents.shape[-1], dtype=torch.int64, device=latents.device)
        return QuantizerOutput(self.project_out(vectors), codes, latents.new_zeros(()), self._no_codebook_loss(), None)

    def initialize(
        self,
        latents: Tensor,
        *,
        initialization: Initialization,
        generator: torch.Generator,
        mask: Tensor | None = None,
        first_level: int = 0,
    ) -> None:
        """Set the codebooks, if there are any, from live latents `[B, D, F]`.

        Args:
            latents: This rank's part; the vectors of all ranks are used. Give many more frames than codewords.
            initialization: How the first codewords are drawn.
            generator: CPU generator, the same on every rank.
            mask: True for real frames, bool `[B, F]`.
            first_level: Levels before this one keep their codebooks.
        """

    def update(self, statistics: Statistics, generator: Callable[[], torch.Generator]) -> Tensor:
        """Update the codebooks, if there are any, after an optimizer step; see `Codebooks.update`.

        Returns:
            Revived codewords, bool `[K, N]`.
        """
        return torch.zeros(statistics.counts.shape, dtype=torch.bool, device=statistics.counts.device)

    def follow(self, statistics: Statistics) -> Tensor:
        """First half of `update`, see `Codebooks.follow`; returns which levels had any vectors, bool `[K]`."""
        return statistics.counts.sum(dim=-1) > 0

    def revive(self, statistics: Statistics, seen: Tensor, generator: Callable[[], torch.Generator]) -> Tensor:
        """Second half of `update`, see `Codebooks.revive`; returns the revived codewords, bool `[K, N]`."""
        return torch.zeros(statistics.counts.shape, dtype=torch.bool, device=statistics.counts.device)

    def restart_statistics(self) -> None:
        """Count every codeword once, as after loading a model."""

    def dead_codewords(self) -> Tensor:
        """Codewords that are hardly used, see `Codebooks.dead_codewords`; bool `[K, N]`."""
        return torch.zeros(self.num_quantizers, self.codebook_size, dtype=torch.bool)

    def codewords(self) -> Tensor:
        """Codewords of all levels, `[K, N, d']`, without gradient; d' is the size of what a level sees."""
        raise NotImplementedError

    def inputs_of_levels(self, latents: Tensor, codes: Tensor) -> Iterator[Tensor]:
        """What each level saw when it chose its codes: the vectors that its codewords stand for.

        Args:
            latents: `[B, D, F]`.
            codes: Their codes, `[B, k, F]`.

        Yields:
            `[B * F, d']` for each of the k levels, without gradient.
        """
        raise NotImplementedError

    def _vectors(self, latents: Tensor) -> Tensor:
        """Vectors `[M, d]` of code space, float32; call this within `full_precision`."""
        projected: Tensor = self.project_in(latents.float())
        return rearrange(projected, "b d f -> (b f) d")

    def _no_codebook_loss(self) -> Tensor:
        """Zero with a zero gradient for the codewords: DistributedDataParallel needs a gradient of every parameter."""
        return torch.zeros(())

    def _search(self, vectors: Tensor, num_quantizers: int, num_active: Tensor | None) -> Tensor:
        """Codes `[k, M]` of vectors `[M, d]`; `num_active` `[M]` is the number of levels of each, None for all."""
        raise NotImplementedError

    def _search_beam(self, vectors: Tensor, num_quantizers: int, beam: int, num_active: Tensor | None) -> Tensor:
        """Codes `[k, M]` of vectors `[M, d]` by beam search, for quantizers whose levels depend on one another."""
        return self._search(vectors, num_quantizers, num_active)

    def _lookup(self, codes: Tensor) -> Tensor:
        """Vectors `[..., d]` of codes `[k, ...]`."""
        raise NotImplementedError

    def _quantize(self, vectors: Tensor, num_active: Tensor | None, valid: Tensor | None) -> Quantized:
        """Quantize vectors `[M, d]` for training.

        Args:
            vectors: `[M, d]`.
            num_active: Number of levels of each vector, int `[M]`; None for all.
            valid: Which vectors enter the statistics, bool `[M]`; None for all.
        """
        raise NotImplementedError
