"""Beam search: choose the codes of all levels of a vector together instead of one by one.

The nearest codeword of a level can leave a residual that later levels code badly. A beam of B keeps B candidate paths
(one code a level so far): every level extends each path by every codeword and keeps the B with the least squared error.
The best path after the last level gives the codes. Decoding is the same for any beam.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from codec.errors import ConfigError

MAX_BEAM = 64


class Extension(NamedTuple):
    """The paths that one level keeps, the best first; both fields are int64 `[M, B]`."""

    paths: Tensor
    """Which path of the level before each goes on from."""
    indices: Tensor
    """By which codeword."""


def check_beam(beam: int) -> None:
    """Raise ConfigError unless `beam` is a number of paths that a search can keep."""
    if not 1 <= beam <= MAX_BEAM:
        raise ConfigError(f"beam {beam} is not in 1 .. {MAX_BEAM} paths: 1 is the greedy search, 8 is for files")


def slice_length(num_paths: int, num_codewords: int, device: torch.device) -> int:
    """Vectors searched at a time, so that scores `[M, B, N]` stay in the cache of a CPU, or below 64 MB elsewhere."""
    num_scores = 2**20 if device.type == "cpu" else 2**24
    return max(1, num_scores // (num_paths * num_codewords))


def extend(residual: Tensor, parts: Tensor, codebook: Tensor, energy: Tensor, num_kept: int) -> Extension:
    """Extend every path by every codeword and keep the best; call it within `full_precision`.

    Of equal ones the first is kept: the lowest path, then the lowest index.

    Args:
        residual: What each path leaves over of its vector, float32 `[M, B, d]`.
        parts: What this level sees of it, `[M * B, d']`.
        codebook: `[N, d']`.
        energy: Squared norms of the codewords, `[N]`.
        num_kept: At most B * N.
    """
    num_paths, size = residual.shape[1], len(codebook)
    groups = 16 if len(parts) >= 256 and size >= 256 and size % 16 == 0 else 1
    if groups > 1:
        codebook = rearrange(codebook, "(n g) d -> (g n) d", g=groups)
        energy = rearrange(energy, "(n g) -> (g n)", g=groups)
    size = size // groups
    # Half of |residual - c|^2 is |residual|^2 / 2 - (residual . c - |c|^2 / 2); what follows is its negative.
    scores = torch.addmm(energy, parts, codebook.T, beta=-0.5).view(-1, num_paths, groups, size)
    halves = residual.square().sum(dim=-1, keepdim=True) / 2
    # The best ones lie in the columns with the highest maxima. A maximum takes many numbers at a time, and sorting
    # takes far longer: see `codec.model.quantizer.search._groups`, by which codeword n is number n % groups of its
    # column.
    columns = (scores.amax(dim=2) - halves).flatten(1)
    best = _first(columns, min(num_kept, num_paths * size))
    if groups == 1:
        return Extension(best // size, best % size)
    best = best.sort(dim=1).values  # so that places among the candidates are in the order of paths and indices
    paths, column = best // size, best % size
    places = (paths * groups * size + column)[:, :, None] + torch.arange(groups, device=best.device) * size
    candidates = scores.flatten(1).gather(1, places.flatten(1)).view_as(places)
    chosen = _first((candidates - halves[:, :, 0].gather(1, paths)[:, :, None]).flatten(1), num_kept)
    of_column = chosen // groups
    return Extension(paths.gather(1, of_column), column.gather(1, of_column) * groups + chosen % groups)


def keep_unless(active: Tensor, extension: Extension) -> Extension:
    """Let vectors that use no further level keep their paths in order, each with the codeword of zeros, number 0.

    The paths come sorted, so that the first stays the best. There are at least as many as are kept.

    Args:
        active: Which vectors use this level, bool `[M]`.
        extension: What is right for these.
    """
    same = torch.arange(extension.paths.shape[1], device=active.device)
    return Extension(
        torch.where(active[:, None], extension.paths, same), torch.where(active[:, None], extension.indices, 0)
    )


def trace_back(extensions: Sequence[Extension]) -> Tensor:
    """Codes `[K, M]` of the best path, from the extensions of all levels."""
    path = torch.zeros_like(extensions[-1].paths[:, :1])
    codes = []
    for paths, indices in reversed(extensions):
        codes.append(indices.gather(1, path))
        path = paths.gather(1, path)
    return torch.cat(codes[::-1], dim=1).T


def _first(scores: Tensor, number: int) -> Tensor:
    """Places of the highest float32 scores of each row `[M, n]`, the highest first; of equal scores the first ones.

    `topk` takes any of equal scores. As float64 a score has 29 bits to spare: n times 2^-40 of itself is less than the
    distance to its neighbours, and lowers equal ones in their order. (The last term does so for scores of zero.)
    """
    exact = scores.double()
    step = exact.abs() * 2.0**-40 + 1e-300
    keys = exact - step * torch.arange(scores.shape[1], device=scores.device)
    return keys.topk(number, dim=1).indices
