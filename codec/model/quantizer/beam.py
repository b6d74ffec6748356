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
    """Paths kept at one level, best first; both fields are int64 `[M, B]`."""

    paths: Tensor
    """The path of the level before that each one extends."""
    indices: Tensor
    """The codeword that extends it."""


def check_beam(beam: int) -> None:
    """Raise ConfigError unless `beam` is a number of paths that a search can keep."""
    if not 1 <= beam <= MAX_BEAM:
        raise ConfigError(f"beam {beam} is not in 1 .. {MAX_BEAM} paths: 1 is the greedy search, 8 is for files")


def slice_length(num_paths: int, num_codewords: int, device: torch.device) -> int:
    """Vectors searched at a time: scores `[M, B, N]` fit the cache of a CPU, and 64 MB on other devices."""
    num_scores = 2**20 if device.type == "cpu" else 2**24
    return max(1, num_scores // (num_paths * num_codewords))


def extend(residual: Tensor, parts: Tensor, codebook: Tensor, energy: Tensor, num_kept: int) -> Extension:
    """Extend every path by every codeword and keep the best; call it within `full_precision`.

    The lowest path, then the lowest index wins a tie.

    Args:
        residual: Of each path, float32 `[M, B, d]`.
        parts: The part of the residual that this level sees, `[M * B, d']`.
        codebook: `[N, d']`.
        energy: Squared norms of the codewords, `[N]`.
        num_kept: Paths to keep, at most B * N.
    """
    num_paths, size = residual.shape[1], len(codebook)
    groups = 16 if len(parts) >= 256 and size >= 256 and size % 16 == 0 else 1
    if groups > 1:
        codebook = rearrange(codebook, "(n g) d -> (g n) d", g=groups)
        energy = rearrange(energy, "(n g) -> (g n)", g=groups)
    size = size // groups
    # The score of a path is -|residual - c|^2 / 2 = (residual . c - |c|^2 / 2) - |residual|^2 / 2.
    scores = torch.addmm(energy, parts, codebook.T, beta=-0.5).view(-1, num_paths, groups, size)
    halves = residual.square().sum(dim=-1, keepdim=True) / 2
    # The best scores lie in the columns with the highest maxima. A maximum is vectorised and far faster than sorting;
    # columns and groups are those of `codec.model.quantizer.search._groups`.
    columns = (scores.amax(dim=2) - halves).flatten(1)
    best = _first(columns, min(num_kept, num_paths * size))
    if groups == 1:
        return Extension(best // size, best % size)
    best = best.sort(dim=1).values  # candidates in the order of paths and indices, for ties
    paths, column = best // size, best % size
    places = (paths * groups * size + column)[:, :, None] + torch.arange(groups, device=best.device) * size
    candidates = scores.flatten(1).gather(1, places.flatten(1)).view_as(places)
    chosen = _first((candidates - halves[:, :, 0].gather(1, paths)[:, :, None]).flatten(1), num_kept)
    of_column = chosen // groups
    return Extension(paths.gather(1, of_column), column.gather(1, of_column) * groups + chosen % groups)


def keep_unless(active: Tensor, extension: Extension) -> Extension:
    """Replace the extension by code 0, the codeword of zeros, for vectors that do not use this level.

    Their paths keep their order, so the first stays the best.

    Args:
        active: Which vectors use this level, bool `[M]`.
        extension: The extension of all vectors; it keeps at most as many paths as the level before.
    """
    same = torch.arange(extension.paths.shape[1], device=active.device)
    return Extension(
        torch.where(active[:, None], extension.paths, same), torch.where(active[:, None], extension.indices, 0)
    )


def trace_back(extensions: Sequence[Extension]) -> Tensor:
    """Codes `[K, M]` of the best path, from the `Extension` of every level."""
    path = torch.zeros_like(extensions[-1].paths[:, :1])
    codes = []
    for paths, indices in reversed(extensions):
        codes.append(indices.gather(1, path))
        path = paths.gather(1, path)
    return torch.cat(codes[::-1], dim=1).T


def _first(scores: Tensor, number: int) -> Tensor:
    """Positions of the highest float32 scores of each row `[M, n]`, highest first; the first position wins a tie.

    `topk` alone breaks ties at random. A float32 score leaves 29 bits of a float64 free, so subtracting position times
    2^-40 of the score orders equal scores and no others. The constant does the same for scores of zero.
    """
    exact = scores.double()
    step = exact.abs() * 2.0**-40 + 1e-300
    keys = exact - step * torch.arange(scores.shape[1], device=scores.device)
    return keys.topk(number, dim=1).indices
