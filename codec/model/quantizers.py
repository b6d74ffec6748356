"""The arrows latents [B, D, F] -> codes [B, K, F] -> quantized [B, D, F]: residual vector quantization.

Level k quantizes what levels 0 .. k-1 left over (SoundStream, arXiv:2107.03312, algorithm 1). We differ from the
lineage of that listing in three places: straight-through acts once, around the whole loop, so that the encoder's
gradient is the identity for any number of levels; every level has its own commitment gradient; the forward pass changes
no state.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from codec.model.codebooks import EMACodebooks, GradientCodebooks, Statistics, count_and_sum
from codec.model.layers import start_as_identity
from codec.precision import full_precision


class QuantizerOutput(NamedTuple):
    """Result of a training pass through the quantizer."""

    quantized: Tensor
    """`[B, D, F]`: forward the sum of the active levels' codewords, backward the identity."""
    codes: Tensor
    """int64 `[B, K, F]`, of every level, active or not: the codes that `encode` gives."""
    commitment_loss: Tensor
    """Mean squared distance of each level's input to its codeword, which is held fixed; scalar."""
    codebook_loss: Tensor
    """The same distance with the input held fixed; zero for EMA codebooks; scalar."""
    statistics: Statistics | None
    """For `codebooks.update`, once per optimizer step; None in a pass without quantization."""


class CodebookHealth(NamedTuple):
    """How well each level uses its codebook; every field is `[K]`."""

    entropy: Tensor
    """Of the code distribution (bit), 0 .. log2 N: what a perfect entropy coder would spend on a code."""
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


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """Return exactly `quantized`, with the gradient of `latents` (arXiv:1308.3432; arXiv:1711.00937, section 3.2).

    The bracket matters: x - x is exactly zero, (q + x) - x is not exactly q in floating point.
    """
    return quantized.detach() + (latents - latents.detach())


class ResidualQuantizer(nn.Module):
    """Projects latents into code space once, quantizes the residual level by level, projects back once.

    Args:
        codebooks: The K tables and their update rule.
        latent_dim: Channels D of the latents.
        codebook_dim: Size d of a codeword; latents are projected linearly when it differs from D.
    """

    def __init__(self, codebooks: EMACodebooks | GradientCodebooks, *, latent_dim: int, codebook_dim: int) -> None:
        super().__init__()
        self.codebooks = codebooks
        self.num_quantizers, self.codebook_size, _ = codebooks.table.shape
        projected = codebook_dim != latent_dim
        self.project_in = nn.Conv1d(latent_dim, codebook_dim, 1, bias=False) if projected else nn.Identity()
        self.project_out = nn.Conv1d(codebook_dim, latent_dim, 1, bias=False) if projected else nn.Identity()
        for projection in (self.project_in, self.project_out):
            if isinstance(projection, nn.Conv1d):
                start_as_identity(projection)

    def encode(self, latents: Tensor, num_quantizers: int | None = None) -> Tensor:
        """Map latents `[B, D, F]` to the codes `[B, K, F]` of the first `num_quantizers` levels (all by default)."""
        residual = self._vectors(latents)
        codes = []
        for level in range(self.num_quantizers if num_quantizers is None else num_quantizers):
            indices = self.codebooks.search(level, residual)
            residual = residual - self.codebooks.table[level, indices]
            codes.append(indices.view(len(latents), -1))
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Map the codes `[B, k, F]` of the first k levels to quantized latents `[B, D, F]`."""
        table = self.codebooks.table
        vectors = table[0, codes[:, 0]]
        for level in range(1, codes.shape[1]):
            vectors = vectors + table[level, codes[:, level]]
        quantized: Tensor = self.project_out(rearrange(vectors, "b f d -> b d f"))
        return quantized

    def forward(
        self, latents: Tensor, *, num_active: Tensor | None = None, mask: Tensor | None = None
    ) -> QuantizerOutput:
        """Quantize for training. Changes no state: hand the statistics to `codebooks.update` after the optimizer step.

        Losses are means over the valid frames and active levels of an item, then over items, so their weight depends on
        neither the number of levels nor how items are spread over processes.

        Args:
            latents: `[B, D, F]`.
            num_active: Levels used by each item, int `[B]`, 1 .. K (quantizer dropout); all by default.
            mask: True where a frame is real, bool `[B, F]`; padded frames enter no loss and no statistic.
        """
        batch, _, num_frames = latents.shape
        if num_active is None:
            num_active = torch.full((batch,), self.num_quantizers, device=latents.device)
        valid = torch.ones(batch, num_frames, dtype=torch.bool, device=latents.device) if mask is None else mask
        with full_precision(latents.device):
            vectors = self._vectors(latents)
            result = self._quantize(vectors, num_active.repeat_interleave(num_frames), valid.flatten())
            share = valid / (valid.sum(dim=1, keepdim=True).clamp_min(1) * num_active[:, None] * batch)
            quantized = rearrange(straight_through(vectors, result.vectors), "(b f) d -> b d f", b=batch)
            commitment_loss = (result.commitment * share.flatten()).sum()
            codebook_loss = (result.codebook * share.flatten()).sum()
        codes = rearrange(result.codes, "k (b f) -> b k f", b=batch)
        return QuantizerOutput(self.project_out(quantized), codes, commitment_loss, codebook_loss, result.statistics)

    def bypass(self, latents: Tensor) -> QuantizerOutput:
        """Pass latents through both projections unquantized: the warm-up before the codebooks are initialised."""
        zero = 0.0 * self.codebooks.table.sum() if self.codebooks.has_codebook_loss else latents.new_zeros(())
        codes = torch.zeros(len(latents), 0, latents.shape[-1], dtype=torch.int64, device=latents.device)
        return QuantizerOutput(self.project_out(self.project_in(latents)), codes, latents.new_zeros(()), zero, None)

    @torch.no_grad()
    def initialize(
        self, latents: Tensor, *, iterations: int, generator: torch.Generator, mask: Tensor | None = None
    ) -> None:
        """Set every level by k-means on live latents `[B, D, F]`, each on what the levels before it leave over.

        Args:
            latents: This rank's part; the vectors of all ranks are used. Many more frames than codewords are wanted.
            iterations: Rounds of Lloyd's algorithm.
            generator: CPU generator, the same on every rank.
            mask: True where a frame is real, bool `[B, F]`.
        """
        residual = self._vectors(latents)
        if mask is not None:
            residual = residual[mask.flatten()]
        for level in range(self.num_quantizers):
            self.codebooks.initialize(level, residual, iterations=iterations, generator=generator)
            residual = residual - self.codebooks.table[level, self.codebooks.search(level, residual)]

    def _vectors(self, latents: Tensor) -> Tensor:
        """Vectors `[M, d]` of code space, float32 whatever autocast says."""
        with full_precision(latents.device):
            projected: Tensor = self.project_in(latents.float())
            return rearrange(projected, "b d f -> (b f) d")

    def _quantize(self, vectors: Tensor, num_active: Tensor, valid: Tensor) -> "_Quantized":
        """Run the residual loop on vectors `[M, d]`; `num_active` and `valid` are `[M]`."""
        quantized, residual = torch.zeros_like(vectors), vectors
        commitment = codebook = vectors.new_zeros(len(vectors))
        levels = []
        for level in range(self.num_quantizers):
            indices = self.codebooks.search(level, residual.detach())
            codeword = self.codebooks.table[level, indices]
            active = num_active > level
            commitment = commitment + active * (residual - codeword.detach()).square().mean(dim=-1)
            if self.codebooks.has_codebook_loss:
                codebook = codebook + active * (residual.detach() - codeword).square().mean(dim=-1)
            counted = active & valid
            counts, sums = count_and_sum(residual.detach()[counted], indices[counted], self.codebook_size)
            levels.append((indices, counts, sums, residual.detach(), counted))
            quantized = quantized + active[:, None] * codeword.detach()
            residual = residual - codeword.detach()
        codes, *statistics = (torch.stack(parts) for parts in zip(*levels, strict=True))
        return _Quantized(quantized, codes, commitment, codebook, Statistics(*statistics))


class _Quantized(NamedTuple):
    """Result of the residual loop by vector: sum of active codewords `[M, d]`, codes `[K, M]`, summed losses `[M]`."""

    vectors: Tensor
    codes: Tensor
    commitment: Tensor
    codebook: Tensor
    statistics: Statistics
