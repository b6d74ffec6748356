"""Gradient estimators: the value is exactly the codeword, the gradient the identity or a scaled rotation."""

import pytest
import torch
from einops import rearrange
from models import make_codebooks, noise, seeded, tiny_config

from codec.config import QuantizerConfig
from codec.model.builder import build_codec
from codec.model.quantizer.estimators import ESTIMATORS, rotation_trick, straight_through
from codec.model.quantizer.initialization import Initialization
from codec.model.quantizer.residual import ResidualQuantizer

SHAPES = [(3,), (50, 1), (4, 50, 2), (2, 3, 4, 7)]
SCALES = [(1.0, 1.0), (1e-6, 1e6), (1e6, 1e-6), (1e15, 1e15), (1e-15, 1e-15), (1e15, 1e-15)]


@pytest.fixture(params=ESTIMATORS)
def estimator(request):
    return ESTIMATORS[request.param]


def pairs(number, dim, *, seed=0):
    """Vectors and codewords `[number, dim]` in float64."""
    return noise(number, dim, seed=seed).double(), noise(number, dim, seed=seed + 1).double()


def gradient(estimator, vectors, quantized, weight):
    """Gradient for `vectors` of a loss whose gradient for the estimator's value is `weight`."""
    vectors = vectors.detach().requires_grad_()
    (to_vectors,) = torch.autograd.grad((estimator(vectors, quantized) * weight).sum(), vectors)
    return to_vectors


def jacobian(estimator, vector, codeword):
    """Derivative of the value by one vector `[d]`, `[d, d]`."""
    return torch.autograd.functional.jacobian(lambda x: estimator(x, codeword), vector)


def plane_rotation(source, target):
    """The rotation from the direction of `source` to that of `target`, in their plane, from its angle."""
    u = source / source.norm()
    v = target - (target @ u) * u
    v = v / v.norm()
    cosine = target @ u / target.norm()
    sine = target @ v / target.norm()
    in_plane = torch.outer(u, u) + torch.outer(v, v)
    return torch.eye(len(u)).double() + sine * (torch.outer(v, u) - torch.outer(u, v)) + (cosine - 1) * in_plane


def fitted(estimator, num_quantizers, *, batch=3, num_frames=20):
    """A residual quantizer on the latents themselves, initialised on these, and the latents."""
    codebooks = make_codebooks(num_quantizers=num_quantizers, codebook_size=8, codebook_dim=6)
    quantizer = ResidualQuantizer(codebooks, latent_dim=6, codebook_dim=None, estimator=estimator)
    latents = noise(batch, 6, num_frames)
    quantizer.initialize(latents, initialization=Initialization(iterations=5), generator=seeded(0))
    return quantizer, latents


# ---- Forward


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scales", SCALES)
def test_the_value_is_exactly_the_codeword(estimator, shape, scales):
    vectors, quantized = noise(*shape, scale=scales[0]), noise(*shape, seed=1, scale=scales[1])
    for differentiable in (False, True):
        assert torch.equal(estimator(vectors.requires_grad_(differentiable), quantized), quantized)
    assert torch.equal(estimator(vectors.double(), quantized.double()), quantized.double())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_codeword_gets_no_gradient(estimator, shape):
    vectors, quantized = noise(*shape).requires_grad_(), noise(*shape, seed=1).requires_grad_()
    found = torch.autograd.grad(estimator(vectors, quantized).sum(), (vectors, quantized), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None


# ---- Straight-through


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scales", SCALES)
def test_the_straight_through_gradient_is_the_identity(shape, scales):
    vectors, quantized, weight = noise(*shape, scale=scales[0]), noise(*shape, seed=1, scale=scales[1]), noise(*shape)
    assert torch.equal(gradient(straight_through, vectors, quantized, weight), weight)


# ---- Rotation


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_the_jacobian_is_a_rotation_times_the_ratio_of_the_norms(dim):
    for vector, codeword in zip(*pairs(10, dim), strict=True):
        rotation = jacobian(rotation_trick, vector, codeword) / (codeword.norm() / vector.norm())
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(dim).double())
        torch.testing.assert_close(torch.linalg.det(rotation), torch.tensor(1.0).double())
        torch.testing.assert_close(rotation @ (vector / vector.norm()), codeword / codeword.norm())


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_the_rotation_is_in_the_plane_of_both_vectors(dim):
    for vector, codeword in zip(*pairs(10, dim), strict=True):
        expected = codeword.norm() / vector.norm() * plane_rotation(vector, codeword)
        torch.testing.assert_close(jacobian(rotation_trick, vector, codeword), expected)


def test_a_quarter_turn_worked_by_hand():
    """x = (2, 0, 0) and q = (0, 6, 0): R turns x to y and y to -x, the gain is 3."""
    found = jacobian(rotation_trick, torch.tensor([2.0, 0, 0]), torch.tensor([0.0, 6, 0]))
    torch.testing.assert_close(found, 3 * torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))


def test_gradients_keep_their_angles():
    """The angle to the vector and the angle between two gradients. Lengths scale with the ratio of the norms."""
    vectors, quantized = pairs(30, 5)
    first, second = pairs(30, 5, seed=7)
    turned = [gradient(rotation_trick, vectors, quantized, weight) for weight in (first, second)]
    ratio = quantized.norm(dim=-1) / vectors.norm(dim=-1)
    torch.testing.assert_close((turned[0] * vectors).sum(-1), (first * quantized).sum(-1))
    torch.testing.assert_close((turned[0] * turned[1]).sum(-1), ratio**2 * (first * second).sum(-1))
    torch.testing.assert_close(turned[0].norm(dim=-1), ratio * first.norm(dim=-1))


@pytest.mark.parametrize("shape", [(3,), (4, 5, 3), (2, 3, 4, 3)])
def test_every_vector_has_a_rotation_of_its_own(shape):
    vectors, quantized, weight = (noise(*shape, seed=seed).double() for seed in range(3))
    together = gradient(rotation_trick, vectors, quantized, weight)
    rows = [tensor.reshape(-1, 3) for tensor in (vectors, quantized, weight)]
    for row, found in zip(zip(*rows, strict=True), together.reshape(-1, 3), strict=True):
        torch.testing.assert_close(gradient(rotation_trick, *row), found)


@pytest.mark.parametrize("scales", [scales for scales in SCALES if scales != (1e15, 1e-15)])
def test_scales_change_the_gain_of_the_gradient_alone(scales):
    vectors, quantized, weight = noise(20, 4), noise(20, 4, seed=1), noise(20, 4, seed=2)
    gain = scales[1] / scales[0]
    scaled = gradient(rotation_trick, scales[0] * vectors, scales[1] * quantized, weight)
    torch.testing.assert_close(
        scaled / gain, gradient(rotation_trick, vectors, quantized, weight), rtol=1e-4, atol=1e-5
    )


def test_a_vector_on_its_codeword_is_not_turned():
    vectors, weight = noise(20, 4), noise(20, 4, seed=1)
    torch.testing.assert_close(gradient(rotation_trick, vectors, vectors, weight), weight)
    torch.testing.assert_close(gradient(rotation_trick, vectors, 3 * vectors, weight), 3 * weight)


@pytest.mark.parametrize("direction", [-1.0, -2.0, -1e-3])
def test_opposite_vectors_pass_the_gradient_straight_through(direction):
    """Half a turn is possible in every plane, so none is preferred."""
    vectors, weight = noise(20, 4), noise(20, 4, seed=1)
    assert torch.equal(gradient(rotation_trick, vectors, direction * vectors, weight), weight)
    nearly = direction * (vectors + 1e-5 * noise(20, 4, seed=2))
    assert torch.equal(rotation_trick(vectors, nearly), nearly)
    assert torch.equal(gradient(rotation_trick, vectors, nearly, weight), weight)


@pytest.mark.parametrize("angle", [1e-7, 1e-4, 1.0, 3.0, 3.13, 3.141])
def test_the_length_of_the_gradient_is_right_at_any_angle(angle):
    angle = torch.tensor(angle)
    vector, codeword = torch.tensor([1.0, 0, 0]), 2 * torch.stack([angle.cos(), angle.sin(), torch.tensor(0.0)])
    weight = noise(3)
    found = gradient(rotation_trick, vector, codeword, weight).norm()
    gain = 2.0 if angle < 3.14 else 1.0
    torch.testing.assert_close(found, gain * weight.norm(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 3.9, 4.0, 100.0, 1e15])
def test_with_a_zero_vector_the_gradient_passes_straight_through(estimator, size):
    zeros, others, weight = torch.zeros(20, 4), noise(20, 4, scale=1.0, seed=1), noise(20, 4, seed=2)
    others = size * others / others.norm(dim=-1, keepdim=True)
    for vectors, quantized in ((zeros, others), (others, zeros)):
        assert torch.equal(estimator(vectors, quantized), quantized)
        assert torch.equal(gradient(estimator, vectors, quantized, weight), weight)


@pytest.mark.parametrize(
    "scales", [(1e-30, 1.0), (1e-30, 10.0), (1e-19, 1e20), (1e25, 1.0), (1e25, 1e25), (1.0, 1e30), (1.0, 1e-30)]
)
def test_gradients_are_finite_at_any_scale(estimator, scales):
    """Norms or their ratio overflow or vanish in float32."""
    vectors, quantized, weight = noise(20, 4), noise(20, 4, seed=1), noise(20, 4, seed=2)
    vectors, quantized = scales[0] * vectors, scales[1] * quantized
    assert torch.equal(estimator(vectors, quantized), quantized)
    assert gradient(estimator, vectors, quantized, weight).isfinite().all()


def test_one_zero_vector_does_not_change_the_gradients_of_others():
    vectors, quantized, weight = noise(20, 4), noise(20, 4, seed=1, scale=10.0), noise(20, 4, seed=2)
    others = torch.arange(20) != 7
    expected = gradient(rotation_trick, vectors[others], quantized[others], weight[others])
    vectors[7] = 0.0
    found = gradient(rotation_trick, vectors, quantized, weight)
    assert torch.equal(found[others], expected)
    assert torch.equal(found[7], weight[7])


# ---- Inside a quantizer


@pytest.mark.parametrize("num_quantizers", [1, 4, 12])
def test_the_estimator_is_applied_once_for_any_number_of_levels(estimator, num_quantizers):
    quantizer, latents = fitted(estimator, num_quantizers)
    weight = noise(3, 6, 20, seed=1)
    for num_active in (None, torch.tensor([1, num_quantizers, (num_quantizers + 1) // 2])):
        variable = latents.clone().requires_grad_()
        output = quantizer(variable, num_active=num_active)
        (found,) = torch.autograd.grad((output.quantized * weight).sum(), variable)
        vectors, quantized, weights = (
            rearrange(tensor.detach(), "b d f -> b f d") for tensor in (latents, output.quantized, weight)
        )
        expected = gradient(estimator, vectors, quantized, weights)
        torch.testing.assert_close(found, rearrange(expected, "b f d -> b d f"))
        codes = output.codes if num_active is None else output.codes[:, :1]
        assert torch.equal(output.quantized[:1], quantizer.decode(codes[:1]))


def test_the_gradient_does_not_grow_with_the_levels(estimator):
    """With more levels the codeword approaches its vector, and any estimator the identity."""
    weight = noise(3, 6, 20, seed=1)
    errors = []
    for num_quantizers in (1, 4, 12):
        quantizer, latents = fitted(estimator, num_quantizers)
        latents.requires_grad_()
        (found,) = torch.autograd.grad((quantizer(latents).quantized * weight).sum(), latents)
        errors.append((found - weight).norm() / weight.norm())
    assert errors[1] <= errors[0] < 1.5
    assert errors[2] < 0.02


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_builder_takes_the_estimator_of_the_configuration(name):
    quantizer = QuantizerConfig(estimator=name, num_quantizers=2, codebook_size=4)
    assert build_codec(tiny_config(quantizer=quantizer)).quantizer.estimator is ESTIMATORS[name]
    default = build_codec(tiny_config(quantizer=QuantizerConfig(num_quantizers=2, codebook_size=4)))
    assert default.quantizer.estimator is straight_through
