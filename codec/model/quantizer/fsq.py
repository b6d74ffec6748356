"""Finite scalar quantization: no codebook, a grid of cells in a few bounded dimensions."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from codec.dsp.precision import full_precision
from codec.model.quantizer.codebooks import Statistics
from codec.model.quantizer.estimators import straight_through
from codec.model.quantizer.quantizer import Quantized, Quantizer


class FiniteScalarQuantizer(Quantizer):
    """Rounds each of d projected values to one of a few steps (FSQ, Mentzer et al., arXiv:2309.15505, section 3.1).

    tanh bounds a value, and the interval (-1, 1) is cut into L equal cells; a cell decodes to its centre (for four
    steps -3/4, -1/4, 1/4 and 3/4). This symmetric grid differs from the paper's: an even L needs no special case. The
    cells of all d values make one code, a number in mixed radix whose lowest digit is the first value, computed exactly
    in integers.

    Args:
        steps: Number of steps L of each of the d values, at least 2.
        latent_dim: Channels D of the latents.
    """

    has_codebook_loss = False
    steps: Tensor
    radix: Tensor

    def __init__(self, steps: Sequence[int], *, latent_dim: int) -> None:
        super().__init__(
            1, math.prod(steps), latent_dim=latent_dim, codebook_dim=len(steps), estimator=straight_through
        )
        self.register_buffer("steps", torch.tensor(steps))  # saved, so that the identity of the model depends on it
        radix = [math.prod(steps[:place]) for place in range(len(steps))]
        self.register_buffer("radix", torch.tensor(radix), persistent=False)

    def digits_to_codes(self, digits: Tensor) -> Tensor:
        """Map cell numbers `[..., d]`, int64, to codes `[...]`."""
        return (digits * self.radix).sum(dim=-1)

    def codes_to_digits(self, codes: Tensor) -> Tensor:
        """Map codes `[...]` to cell numbers `[..., d]`, int64."""
        return codes[..., None] // self.radix % self.steps

    def codewords(self) -> Tensor:
        """The centres of all cells, `[1, N, d]`."""
        return self._lookup(torch.arange(self.codebook_size, device=self.steps.device)[None])[None]

    @torch.no_grad()
    def inputs_of_levels(self, latents: Tensor, codes: Tensor) -> Iterator[Tensor]:
        """The bounded values that are rounded, see `Quantizer.inputs_of_levels`."""
        with full_precision(latents.device):
            vectors = self._vectors(latents)
        yield vectors

    def _vectors(self, latents: Tensor) -> Tensor:
        return torch.tanh(super()._vectors(latents))

    def _search(self, vectors: Tensor, num_quantizers: int, num_active: Tensor | None) -> Tensor:
        cells = ((vectors.float() + 1) / 2 * self.steps).long().clamp_min(0)  # NaN maps to cell 0
        return self.digits_to_codes(torch.minimum(cells, self.steps - 1))[None]  # 1.0 maps to the last cell

    def _lookup(self, codes: Tensor) -> Tensor:
        return (2 * self.codes_to_digits(codes[0]) + 1) / self.steps - 1

    def _quantize(self, vectors: Tensor, num_active: Tensor | None, valid: Tensor | None) -> Quantized:
        codes = self._search(vectors.detach(), 1, None)
        counted = codes[0] if valid is None else codes[0, valid]
        counts = torch.bincount(counted, minlength=self.codebook_size).float()[None]
        none = vectors.new_zeros(len(vectors))
        empty = vectors.new_zeros(1, 0, vectors.shape[-1])
        statistics = Statistics(counts, empty, empty, None)
        return Quantized(self._lookup(codes), codes, none, none, statistics)
