"""Nearest-codeword search, and counts and sums over its result: used by quantizers and by k-means."""

import torch
from einops import rearrange
from torch import Tensor, nn

from codec.dsp.precision import full_precision


def energies(codebooks: Tensor) -> Tensor:
    """Squared norms `[..., N]` of codewords `[..., N, d]`, in one pass over them."""
    norms: Tensor = torch.linalg.vector_norm(codebooks, dim=-1)
    return norms.square()


@torch.no_grad()
def nearest(vectors: Tensor, codebook: Tensor, *, normalize: bool = False) -> Tensor:
    """Index of the nearest codeword of each vector; the lowest index wins a tie.

    Two equal codewords may round differently inside the matrix product, so either may be chosen.

    Args:
        vectors: `[M, d]`.
        codebook: `[N, d]`.
        normalize: Compare by cosine similarity. Codewords are not normalized by it; they keep their gain.

    Returns:
        int64 `[M]`.
    """
    with full_precision(vectors.device):
        codebook = codebook.float()
        return match(vectors.float(), codebook, energies(codebook), normalize=normalize)


def match(vectors: Tensor, codebook: Tensor, energy: Tensor, *, normalize: bool) -> Tensor:
    """As `nearest`, with the energies computed before; call it within `full_precision`.

    Args:
        vectors: float32 `[M, d]`, without gradient.
        codebook: float32 `[N, d]`, without gradient.
        energy: Its `energies`, `[N]`.
        normalize: See `nearest`.
    """
    groups = _groups(len(vectors), len(codebook), vectors.device)
    if groups > 1:
        codebook = rearrange(codebook, "(n g) d -> (g n) d", g=groups)
        energy = rearrange(energy, "(n g) -> (g n)", g=groups)
    if normalize:
        scores = vectors @ nn.functional.normalize(codebook, dim=-1).T
    else:
        # argmin |x - c|^2 = argmax x.c - |c|^2 / 2: one matrix product, no [M, N, d] tensor
        scores = torch.addmm(energy, vectors, codebook.T, beta=-0.5)
    if groups == 1:
        return scores.argmax(dim=-1)
    grouped = rearrange(scores, "m (g n) -> m g n", g=groups)
    column: Tensor = grouped.amax(dim=1).argmax(dim=-1)
    group = grouped[torch.arange(len(column)), :, column].argmax(dim=-1)
    return column * groups + group


def _groups(num_vectors: int, num_codewords: int, device: torch.device) -> int:
    """Number of groups that the codewords are searched in; 1 is a plain argmax over all of them.

    On a CPU argmax is not vectorised and costs almost as much as the matrix product; a maximum is vectorised. So
    codeword n goes into column n // 8 of group n mod 8. The maximum over groups gives the best column, and argmax
    searches the columns and then the groups of the best one; the lowest index still wins a tie. With 500 vectors and
    1024 codewords of 32 elements the search takes 1.2 ms instead of 1.8; a few vectors gain nothing.
    """
    worthwhile = device.type == "cpu" and num_vectors >= 256 and num_codewords % 8 == 0 and num_codewords >= 128
    return 8 if worthwhile else 1


def count_and_sum(
    vectors: Tensor, indices: Tensor, num_clusters: int, counted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Count the uses of each index, `[N]`, and sum its vectors, `[N, d]`, in float32.

    Vectors that are not `counted` (bool `[M]`) go to an extra cluster that is dropped: boolean indexing would make the
    host wait for a GPU.
    """
    if counted is not None:
        indices = torch.where(counted, indices, num_clusters)
    size = num_clusters if counted is None else num_clusters + 1
    counts = vectors.new_zeros(size, dtype=torch.float32)
    counts.index_add_(0, indices, counts.new_ones(()).expand(len(indices)))
    sums = vectors.new_zeros(size, vectors.shape[-1], dtype=torch.float32).index_add_(0, indices, vectors.float())
    return counts[:num_clusters], sums[:num_clusters]
