"""Is an engine the model? Measured on noise: codes equal up to near-ties, audio up to rounding."""

from collections.abc import Sequence

import torch
from torch import Tensor

from codec.errors import ModelError
from codec.model.codec import Codec
from codec.model.layers import Cache
from codec.model.quantizer.quantizer import Quantizer
from codec.model.quantizer.residual import ResidualQuantizer, SplitQuantizer, VectorQuantizer

TOLERANCE = 1e-4
"""Largest difference of a sample, relative to the largest one: -80 dB. Models measured so far stay below 1e-5."""
NEAR_TIE = 1e-5
"""Two codewords whose squared distances differ by less, relative to what they are computed from, are equally near."""
MOST_PARTED = 0.1
"""Share of frames whose codes may differ in a search of several paths: most frames have a near-tie among their many
decisions, but float arithmetic decides hardly any of them otherwise (none of 400 frames of a model of 16 levels)."""
BLOCKS = (1, 2, 1, 7, 13)
"""Frames of the uneven blocks."""


@torch.no_grad()
def largest_deviation(codec: Codec, engine: Codec, *, beam: int = 1) -> float:
    """Compare an engine with PyTorch, whole and in uneven blocks, one item and two, all levels and one.

    Args:
        codec: The model.
        engine: The same with other ways to encode and decode frames.
        beam: Paths that both keep in their search.

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
                deviation = max(deviation, _difference(codec.decode_frames(codes[:, :levels]), decoded))
    if deviation > TOLERANCE:
        raise ModelError(
            f"audio of the engine differs from that of PyTorch by {deviation:.1e} of its level, not at most {TOLERANCE}"
        )
    return deviation


def _agree(codec: Codec, audio: Tensor, codes: Tensor, others: Tensor, beam: int) -> bool:
    parted = (codes != others).any(dim=1).double().mean()
    if beam > 1 and parted > MOST_PARTED:
        return False
    return tie_margin(codec, audio, codes, others, beam=beam) <= NEAR_TIE


def tie_margin(codec: Codec, audio: Tensor, codes: Tensor, others: Tensor, *, beam: int = 1) -> float:
    """How far from a tie the first two codes of a frame that differ are; the largest of all frames, zero if all agree.

    One flipped index changes all later levels of its frame, so nothing can be said of these. In a search of several
    paths any level may have been the one where they parted: then it is the nearest to a tie of all levels that counts.

    Args:
        codec: The model.
        audio: Whole frames `[B, 1, F * hop_length]`.
        codes: Of the model, `[B, K, F]`.
        others: Of the engine, likewise.
        beam: Paths that were kept in the search.

    Returns:
        Difference of the squared distances (of the cosines, where the search is by direction), relative to energies.
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
    """How unequal the last path that a beam keeps and the first that it drops are, where they are least so."""
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
    """How unequally near two codewords are to what the levels before them left."""
    if by_direction:
        cosines = [float(torch.cosine_similarity(residual, word, dim=0)) for word in (one, other)]
        return abs(cosines[0] - cosines[1])
    distances = [float((residual - word).square().sum()) for word in (one, other)]
    energy = residual.square().sum() + torch.stack([one, other]).square().sum(dim=-1).max()
    return abs(distances[0] - distances[1]) / float(energy)


def _sum(quantizer: Quantizer, codes: Tensor) -> Tensor:
    """What the first levels of one frame, codes `[k]`, add up to in code space, `[d]`."""
    return quantizer._lookup(codes[:, None])[0].double()


def _difference(expected: Tensor, decoded: Tensor) -> float:
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
