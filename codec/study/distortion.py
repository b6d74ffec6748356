"""How much a codec loses of vectors: mean squared error and use of the codes, to be held against theory."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from codec.eval.file_judge import count_codes
from codec.model.codec import Codec
from codec.model.quantizer.quantizer import CodebookHealth, codebook_health
from codec.model.quantizer.residual import ResidualQuantizer
from codec.study.rate_distortion import scalar_distortion, scalar_use


class Distortion(NamedTuple):
    """Result of `measure_distortion`."""

    by_level: list[float]
    """Mean squared error per dimension with the codes of the first 1 .. K levels."""
    counts: Tensor
    """Uses of every code `[K, N]`."""
    num_vectors: int

    @property
    def total(self) -> float:
        """Mean squared error per dimension with all levels."""
        return self.by_level[-1]

    @property
    def health(self) -> CodebookHealth:
        """Entropy, perplexity and usage of every level."""
        return codebook_health(self.counts)


@torch.no_grad()
def measure_distortion(codec: Codec, blocks: Iterable[Tensor]) -> Distortion:
    """Encode and decode vectors, one frame each.

    Args:
        codec: In eval mode; its hop length is d.
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
    """Distortion on a standard normal variable in closed form where the codec has one, else on vectors `[m, d]`."""
    codewords = scalar_codewords(codec)
    return measure_distortion(codec, blocks) if codewords is None else exact_distortion(codewords)


def scalar_codewords(codec: Codec) -> Tensor | None:
    """Codewords `[N]` of a codec whose distortion on a standard normal variable has a closed form.

    That is a single codebook of numbers in which the search finds the nearest one; None for any other codec.
    """
    quantizer = codec.quantizer
    if codec.hop_length != 1 or not isinstance(quantizer, ResidualQuantizer) or quantizer.num_quantizers != 1:
        return None
    if quantizer.codebooks.normalize or not isinstance(quantizer.project_in, torch.nn.Identity):
        return None
    return quantizer.codebooks.table.detach()[0, :, 0].double().cpu()


def exact_distortion(codewords: Tensor) -> Distortion:
    """Distortion and use of codewords `[N]` on a standard normal variable, in closed form.

    The counts are probabilities, and the number of vectors is zero: none was drawn.
    """
    values = codewords.numpy()
    return Distortion([scalar_distortion(values)], torch.from_numpy(scalar_use(values))[None], 0)


def first_codewords(codec: Codec) -> Tensor:
    """What each code of the first level decodes to on its own, `[N, d]`."""
    device = codec.device
    codes = torch.arange(codec.quantizer.codebook_size, device=device)[None, None]
    return codec.decode(codes).detach().reshape(-1, codec.hop_length).cpu()
