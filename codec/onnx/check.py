"""Parity check of an engine with the model, on noise: codes are equal up to near-ties, audio up to rounding."""

from collections.abc import Sequence

import torch
from torch import Tensor

from codec.errors import ModelError
from codec.model.codec import Codec
from codec.model.layers import Cache
from codec.model.quantizer.quantizer import Quantizer
from codec.model.quantizer.residual import ResidualQuantizer, SplitQuantizer, VectorQuantizer

TOLERANCE = 1e-4
"""Largest difference of a sample, relative to the largest sample: -80 dB. Models measured so far stay below 1e-5."""
NEAR_TIE = 1e-5
"""A tie of two codewords: their squared distances differ by less, relative to the energies they are computed from."""
MAX_DIFFERENT = 0.1
"""Share of frames whose codes may differ in a search of several paths. Most frames have a near-tie among their many
decisions, but rounding changes hardly any (none in 400 frames of a model of 16 levels)."""
BLOCKS = (1, 2, 1, 7, 13)
"""Frames of the blocks of the streaming test, uneven on purpose."""


@torch.no_grad()
def largest_deviation(codec: Codec, engine: Codec, *, beam: int = 1) -> float:
    """Compare an engine with PyTorch: whole signals and blocks, batches of one and two, all levels and one.

    Args:
        codec: The model in PyTorch.
        engine: The same model with another implementation of `encode_frames` and `decode_frames`.
        beam: Paths that both keep in the search.

    Returns:
        Largest difference of a sample, relative to the largest sample of its signal.

    Raises:
        ModelError: Audio differs by more than `TOLERANCE`, or codes of a frame before its first near-tie.
    """
    generator = torch.Generator().manual_seed(0)
    deviation = 0.0
    for batch in (1, 2):
        audio = torch.randn(batch, 1, sum(BLOCKS) * codec.hop_length, generator=generator)
        audio *= torch.logspace(-3, -0.5, audio.shape[-1])  # from quiet to loud
        codes = codec.encode_frames(audio, beam=beam)
        for blocks in ([sum(BLOCKS)], BLOCKS):
            found = _encode(engine, audio, blocks, beam)
            if found.shape != codes.shape or not _agree(codec, audio, codes, found, beam):
                raise ModelError("codes of the engine differ from those of PyTorch")
            for levels in {codes.shape[1], 1}:
                decoded = _decode(engine, codes[:, :levels], blocks)
                deviation = max(deviation, difference(codec.decode_frames(codes[:, :levels]), decoded))
    if deviation > TOLERANCE:
        raise ModelError(
            f"audio of the engine differs from that of PyTorch by {deviation:.1e} of its peak, not at most {TOLERANCE}"
        )
    return deviation


def _agree(codec: Codec, audio: Tensor, codes: Tensor, others: Tensor, beam: int) -> bool:
    different = (codes != others).any(dim=1).double().mean()
    if beam > 1 and different > MAX_DIFFERENT:
        return False
    return tie_margin(codec, audio, codes, others, beam=beam) <= NEAR_TIE


def tie_margin(codec: Codec, audio: Tensor, codes: Tensor, others: Tensor, *, beam: int = 1) -> float:
    """Measure how far codes that differ are from a tie; the largest margin of all frames, 0 if all codes agree.

    One flipped index changes all later levels of its frame, so only the first level that differs is compared. In a
    search of several paths any level can have caused the difference, so the smallest margin of all levels counts.

    Args:
        codec: The model.
        audio: Whole frames `[B, 1, F * hop_length]`.
        codes: Codes of the model, `[B, K, F]`.
        others: Codes of the engine, `[B, K, F]`.
        beam: Paths kept in the search.

    Returns:
        Difference of the squared distances relative to the energies, or of the cosines if the search is by direction.
    """
    quantizer = codec.quantizer
    differ = (codes != others).transpose(0, 1).flatten(1)
    vectors = quantizer._vectors(codec.encoder(audio)).double()
    first, second = (each.transpose(0, 1).flatten(1) for each in (codes, others))
    by_direction = isinstance(quantizer, VectorQuantizer) and quantizer.codebooks.normalize
    margin = 0.0
    for frame in differ.any(dim=0).nonzero().flatten().tolist():
        if beam > 1 and isinstance(quantizer, ResidualQuantizer | SplitQuantizer) and len(first) > 1:
            margin = max(margin, _closest_decision(quantizer, vectors[frame], len(first), beam))
            continue
        level = int(differ[:, frame].int().argmax())
        before = _sum(quantizer, first[:level, frame]) if level else torch.zeros_like(vectors[frame])
        residual = vectors[frame] - before
        one, other = (_sum(quantizer, each[: level + 1, frame]) - before for each in (first, second))
        margin = max(margin, _excess(residual, one, other, by_direction))
    return margin


def _closest_decision(quantizer: VectorQuantizer, vector: Tensor, num_levels: int, beam: int) -> float:
    """Smallest margin of all levels between the last path that the beam keeps and the first that it drops."""
    residual, margin = vector[None], float("inf")
    for level, codebook in enumerate(quantizer.codebooks.table[:num_levels].double()):
        extended = (residual[:, None] - quantizer._place(level, codebook)).flatten(0, 1)
        errors, order = extended.square().sum(dim=-1).sort(stable=True)
        num_kept = 1 if level + 1 == num_levels else min(beam, len(order))
        if num_kept < len(order):
            energy = residual.square().sum(dim=-1).max() + codebook.square().sum(dim=-1).max()
            margin = min(margin, float((errors[num_kept] - errors[num_kept - 1]) / energy))
        residual = extended[order[:num_kept]]
    return margin


def _excess(residual: Tensor, one: Tensor, other: Tensor, by_direction: bool) -> float:
    """Margin between two codewords for the residual of the levels before."""
    if by_direction:
        cosines = [float(torch.cosine_similarity(residual, word, dim=0)) for word in (one, other)]
        return abs(cosines[0] - cosines[1])
    distances = [float((residual - word).square().sum()) for word in (one, other)]
    energy = residual.square().sum() + torch.stack([one, other]).square().sum(dim=-1).max()
    return abs(distances[0] - distances[1]) / float(energy)


def _sum(quantizer: Quantizer, codes: Tensor) -> Tensor:
    """Sum of the codewords of one frame, codes `[k]`, in code space, `[d]`."""
    return quantizer._lookup(codes[:, None])[0].double()


def difference(expected: Tensor, decoded: Tensor) -> float:
    """Largest difference of a sample relative to the largest one expected; infinite if one is not finite."""
    if decoded.shape != expected.shape or not decoded.isfinite().all():
        return float("inf")
    return float((decoded - expected).abs().max() / expected.abs().max().clamp_min(1e-6))


def _encode(codec: Codec, audio: Tensor, blocks: Sequence[int], beam: int) -> Tensor:
    cache: Cache = {}
    pieces = torch.split(audio, [frames * codec.hop_length for frames in blocks], dim=-1)
    return torch.cat([codec.encode_frames(piece, cache=cache, beam=beam) for piece in pieces], dim=-1)


def _decode(codec: Codec, codes: Tensor, blocks: Sequence[int]) -> Tensor:
    cache: Cache = {}
    return torch.cat([codec.decode_frames(piece, cache) for piece in torch.split(codes, list(blocks), dim=-1)], dim=-1)
