"""The nearest-codeword search against brute force in float64, and sums over what was found against loops."""

import numpy as np
import pytest
import torch
from models import noise, seeded

from codec.model.quantizer.search import count_and_sum, nearest


def brute_force(vectors, codebook, *, normalize):
    """Index of the nearest codeword, from all distances in float64."""
    vectors, codebook = vectors.double(), codebook.double()
    if normalize:
        vectors, codebook = (rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-300) for rows in (vectors, codebook))
    return (vectors[:, None] - codebook).square().sum(-1).argmin(-1)


# ---- The search


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dim", [1, 8, 64])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(("num_vectors", "num_codewords"), [(200, 64), (300, 256)])
def test_the_nearest_codeword_is_found_at_any_scale(normalize, dim, scale, num_vectors, num_codewords):
    vectors, codebook = noise(num_vectors, dim, seed=1), noise(num_codewords, dim, seed=2)
    if normalize and dim == 1:  # two directions only: all else is a tie
        codebook = torch.tensor([[3.0], [-2.0]])
    expected = brute_force(vectors, codebook, normalize=normalize)
    assert torch.equal(nearest(scale * vectors, scale * codebook, normalize=normalize), expected)


def test_every_codeword_finds_itself():
    codebook = noise(64, 8)
    assert torch.equal(nearest(codebook, codebook), torch.arange(64))
    assert torch.equal(nearest(codebook, codebook, normalize=True), torch.arange(64))


def test_the_search_by_direction_ignores_all_gains():
    vectors, codebook = noise(500, 8, seed=1), noise(64, 8, seed=2)
    gains = 2.0 ** torch.randint(-8, 9, (500, 1), generator=seeded(0))
    sizes = 2.0 ** torch.randint(-8, 9, (64, 1), generator=seeded(1))
    expected = nearest(vectors, codebook, normalize=True)
    assert torch.equal(nearest(gains * vectors, sizes * codebook, normalize=True), expected)
    assert not torch.equal(nearest(gains * vectors, sizes * codebook), nearest(vectors, codebook))


@pytest.mark.parametrize("normalize", [False, True])
def test_equal_codewords_and_the_zero_vector_give_the_lowest_index(normalize):
    codebook = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]).repeat(2, 1)
    vectors = torch.tensor([[0.0, 0], [3, 0], [0, 2], [-1, 0], [0, -5], [1, 1]])
    assert nearest(vectors, codebook, normalize=normalize).tolist() == [0, 0, 1, 2, 3, 0]


@pytest.mark.parametrize("num_codewords", [128, 256, 1000, 1024])
def test_many_vectors_in_a_large_codebook_find_the_lowest_of_the_nearest(num_codewords):
    """Every codeword is there four times; all numbers are small integers, so that no rounding breaks a tie."""
    places = torch.arange(num_codewords // 4)
    order = torch.randperm(num_codewords, generator=seeded(1)) % len(places)
    codebook, vectors = (torch.stack([each - 100.0, torch.zeros(len(each))], dim=1) for each in (order, places))
    expected = (order == places[:, None]).int().argmax(-1)
    assert torch.equal(nearest(vectors.repeat(12, 1), codebook), expected.repeat(12))


def test_a_codeword_of_zero_is_no_direction():
    codebook = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    vectors = torch.tensor([[0.1, 0], [0, 0.1]])
    assert nearest(vectors, codebook).tolist() == [0, 0]
    assert nearest(vectors, codebook, normalize=True).tolist() == [1, 2]


@pytest.mark.parametrize("normalize", [False, True])
def test_the_search_is_float32_whatever_it_is_given(normalize):
    """Rounded to bfloat16 within the search, many of these vectors would find another codeword."""
    vectors, codebook = noise(2000, 16, seed=1), noise(256, 16, seed=2)
    half = vectors.bfloat16(), codebook.bfloat16()
    expected = nearest(vectors, codebook, normalize=normalize)
    from_half = nearest(*(tensor.float() for tensor in half), normalize=normalize)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest(vectors, codebook, normalize=normalize), expected)
        assert torch.equal(nearest(*half, normalize=normalize), from_half)
    assert not torch.equal(expected, from_half)


def test_indices_are_int64_and_hold_no_gradient():
    found = nearest(noise(5, 3).requires_grad_(), noise(4, 3, seed=1).requires_grad_())
    assert found.dtype == torch.int64
    assert not found.requires_grad
    assert nearest(noise(0, 3), noise(4, 3)).shape == (0,)


def test_reduced_matmul_precision_of_the_caller_does_not_change_the_search():
    vectors, codebook = noise(2000, 16, seed=1), noise(256, 16, seed=2)
    expected = nearest(vectors, codebook)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(nearest(vectors, codebook), expected)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("size", [2, 3, 5, 16, 33])
@pytest.mark.parametrize("num_vectors", [1, 2, 7, 50])
def test_the_lowest_index_wins_a_tie(num_vectors, size):
    """Small integers, for which every product and sum is exact, so that a tie is a tie."""
    generator = seeded(size)
    vectors = torch.randint(-2, 3, (num_vectors, 3), generator=generator).float()
    codebook = torch.randint(-1, 2, (size, 3), generator=generator).float()
    distances = (vectors[:, None] - codebook).square().sum(-1).numpy()
    np.testing.assert_array_equal(nearest(vectors, codebook).numpy(), distances.argmin(-1))
    gains = torch.tensor([4.0, 1.0, 2.0])[torch.arange(size) % 3]
    axes = gains[:, None] * torch.eye(3)[torch.arange(size) // 3 % 3]  # directions tie, gains differ
    similarity = (vectors @ (axes / gains[:, None]).T).numpy()
    np.testing.assert_array_equal(nearest(vectors, axes, normalize=True).numpy(), similarity.argmax(-1))


# ---- Counts and sums


@pytest.mark.parametrize("num_vectors", [0, 1, 100])
def test_counts_and_sums_are_those_of_a_loop(num_vectors):
    vectors = noise(num_vectors, 3)
    indices = torch.randint(0, 8, (num_vectors,), generator=seeded(0)) // 2  # the upper four are never chosen
    counts, sums = count_and_sum(vectors, indices, 8)
    expected_counts, expected_sums = torch.zeros(8), torch.zeros(8, 3).double()
    for vector, index in zip(vectors, indices, strict=True):
        expected_counts[index] += 1
        expected_sums[index] += vector
    assert torch.equal(counts, expected_counts)
    torch.testing.assert_close(sums, expected_sums.float())
    assert counts.dtype == sums.dtype == torch.float32


def test_sums_of_half_precision_vectors_are_float32():
    """2048 + 1 is 2048 in float16 and in bfloat16."""
    for dtype in (torch.float16, torch.bfloat16):
        vectors = torch.ones(3000, 1, dtype=dtype)
        counts, sums = count_and_sum(vectors, torch.zeros(3000, dtype=torch.int64), 2)
        assert counts.tolist() == [3000, 0]
        assert sums.flatten().tolist() == [3000, 0]
