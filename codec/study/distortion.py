"""Distortion of a codec on vectors: mean squared error and use of the codes, for comparison with theory."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from codec.model.codec import Codec
from codec.model.quantizer.quantizer import CodebookHealth, codebook_health, count_codes
from codec.model.quantizer.residual import ResidualQuantizer
from codec.study.rate_distortion import scalar_distortion, scalar_use


class Distortion(NamedTuple):
    """Result of `measure_distortion`."""

    by_level: list[float]
    """Mean squared error per dimension with the codes of the first 1 .. K levels."""
    counts: Tensor
    """Uses of every code `[K, N]`; probabilities if they are known in closed form."""
    num_vectors: int
    """0 if the distortion is known in closed form."""

    @property
    def total(self) -> float:
        """Mean squared error per dimension with all levels."""
        return self.by_level[-1]

    @property
    def health(self) -> CodebookHealth:
        """Entropy (bit), perplexity and usage of every level."""
        return codebook_health(self.counts)


@torch.no_grad()
def measure_distortion(codec: Codec, blocks: Iterable[Tensor]) -> Distortion:
    """Measure distortion by encoding and decoding vectors, each of which is one frame.

    Args:
        codec: In eval mode, with hop length d.
        blocks: Vectors `[m, d]`.
    """
    device = codec.device
    levels, size = codec.quantizer.num_quantizers, codec.quantizer.codebook_size
    squares = torch.zeros(levels, dtype=torch.float64)
    counts = torch.zeros(levels, size, dtype=torch.int64)
    num_vectors = 0
    for block in blocks:
        audio = block.to(device).reshape(1, 1, -1)
        codes = codec.encode(audio)
        counts += count_codes(codes, size).cpu()
        for level in range(levels):
            decoded = codec.decode(codes[:, : level + 1], audio.shape[-1])
            squares[level] += (decoded - audio).square().sum(dtype=torch.float64).cpu()
        num_vectors += len(block)
    return Distortion((squares / (num_vectors * codec.hop_length)).tolist(), counts, num_vectors)


def measure_held_out(codec: Codec, blocks: Iterable[Tensor]) -> Distortion:
    """Distortion on a standard normal variable if the codec has a closed form, else on vectors `[m, d]`."""
    codewords = scalar_codewords(codec)
    return measure_distortion(codec, blocks) if codewords is None else exact_distortion(codewords)


def scalar_codewords(codec: Codec) -> Tensor | None:
    """Codewords `[N]` of a codec whose distortion on a standard normal variable has a closed form, else None.

    Such a codec has a single codebook of scalars, and its search finds the nearest codeword.
    """
    quantizer = codec.quantizer
    if codec.hop_length != 1 or not isinstance(quantizer, ResidualQuantizer) or quantizer.num_quantizers != 1:
        return None
    if quantizer.codebooks.normalize or not isinstance(quantizer.project_in, torch.nn.Identity):
        return None
    return quantizer.codebooks.table.detach()[0, :, 0].double().cpu()


def exact_distortion(codewords: Tensor) -> Distortion:
    """Distortion and use of codewords `[N]` on a standard normal variable, in closed form."""
    values = codewords.numpy()
    return Distortion([scalar_distortion(values)], torch.from_numpy(scalar_use(values))[None], 0)


def first_codewords(codec: Codec) -> Tensor:
    """Vectors `[N, d]` that the codes of the first level decode to."""
    device = codec.device
    codes = torch.arange(codec.quantizer.codebook_size, device=device)[None, None]
    return codec.decode(codes).detach().reshape(-1, codec.hop_length).cpu()
