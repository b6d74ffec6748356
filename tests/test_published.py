"""The faults of the published listing, shown on its shapes and gradients, beside the right form."""

import pytest
import torch
from models import noise
from torch.nn import functional

from codec.model.quantizer.estimators import straight_through
from codec.study.published import published_loss, published_quantized


@pytest.fixture
def pair():
    """Vectors `[B, d]` and codewords `[B, 1, d]`, both with a gradient."""
    return noise(5, 3).requires_grad_(), noise(5, 1, 3, seed=1).requires_grad_()


def test_the_broadcast_compares_every_vector_with_every_codeword(pair):
    vectors, codewords = pair
    quantized = published_quantized(vectors, codewords)
    assert quantized.shape == (5, 5, 3)
    for i in range(5):
        for j in range(5):
            torch.testing.assert_close(quantized[i, j], 2 * codewords[i, 0] - vectors[j])


def test_the_published_estimator_is_not_the_codeword_and_passes_no_gradient(pair):
    vectors, codewords = pair
    quantized = published_quantized(vectors, codewords)
    to_vectors, to_codewords = torch.autograd.grad(quantized.sum(), pair, allow_unused=True)
    assert to_vectors is None
    assert (to_codewords != 0).all()
    mended = straight_through(vectors, codewords[:, 0])
    assert torch.equal(mended, codewords[:, 0])
    to_vectors, to_codewords = torch.autograd.grad(mended.sum(), pair, allow_unused=True)
    assert torch.equal(to_vectors, torch.ones(5, 3))
    assert to_codewords is None


def test_every_codeword_is_drawn_to_the_mean_of_the_batch(pair):
    """Not to the vector that chose it: its gradient is that of a distance to the mean, four times over."""
    vectors, codewords = pair
    (gradient,) = torch.autograd.grad(published_loss(vectors, codewords).total, codewords)
    # total = 3 mse(2q - x, x), and two of the three have a gradient: 2 x 2 (2q_i - 2x_j), summed over j, of 75 numbers
    expected = 2 * 2 * (2 * codewords - 2 * vectors.mean(0)) * 5 / 75
    torch.testing.assert_close(gradient, expected)
    right = functional.mse_loss(codewords[:, 0], vectors.detach())
    (gradient,) = torch.autograd.grad(right, codewords)
    torch.testing.assert_close(gradient[:, 0], 2 * (codewords[:, 0] - vectors) / 15)


def test_the_published_commitment_is_two_losses(pair):
    vectors, codewords = pair
    loss = published_loss(vectors, codewords)
    distance = sum((2 * codewords[i, 0] - 2 * vectors[j]).square().mean() for i in range(5) for j in range(5)) / 25
    torch.testing.assert_close(loss.reconstruction, distance)
    torch.testing.assert_close(loss.commitment, 2 * distance)
    torch.testing.assert_close(loss.total, 3 * distance)


def test_a_batch_of_one_hides_the_broadcast(pair):
    vectors, codewords = (tensor[:1] for tensor in pair)
    assert published_quantized(vectors, codewords).shape == (1, 1, 3)
