"""Nearest-codeword search and the sums over what was found: what codebooks and their initialisation share."""

import torch
from torch import Tensor, nn

from codec.precision import full_precision


def nearest(vectors: Tensor, codebook: Tensor, *, normalize: bool = False) -> Tensor:
    """Index of the nearest codeword of each vector; the lowest index wins a tie.

    Two equal codewords may round differently inside the matrix product: to choose either is a near-tie, not an error.

    Args:
        vectors: `[M, d]`.
        codebook: `[N, d]`.
        normalize: Compare directions only (cosine similarity); codewords keep their gain all the same.

    Returns:
        int64 `[M]`.
    """
    with full_precision(vectors.device), torch.no_grad():
        codebook = codebook.float()
        if normalize:
            return (vectors.float() @ nn.functional.normalize(codebook, dim=-1).T).argmax(dim=-1)
        # argmin |x - c|^2 = argmax x.c - |c|^2 / 2: one matrix product, no [M, N, d] tensor
        return torch.addmm(codebook.square().sum(-1), vectors.float(), codebook.T, beta=-0.5).argmax(dim=-1)


def count_and_sum(vectors: Tensor, indices: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Uses of each index `[N]` and sum of its vectors `[N, d]`, in float32."""
    counts = torch.bincount(indices, minlength=num_clusters).float()
    sums = vectors.new_zeros(num_clusters, vectors.shape[-1], dtype=torch.float32)
    return counts, sums.index_add_(0, indices, vectors.float())
