"""Frames without their level, and branches with it: what autograd says of the formulas is what the steps say."""

import pytest
import torch
from models import noise

from codec.model.level import add_at_level, take_level


def inputs(dtype=torch.float64):
    frames = noise(2, 5, 7, seed=1).to(dtype)
    frames[0, 1] *= 1e-3
    frames[1, 2] = 0.0  # silence
    return frames.requires_grad_()


def test_a_frame_has_level_one_and_times_its_level_is_what_it_was():
    frames = inputs().detach()
    normalized, level = take_level(frames)
    power = normalized.square().mean(-1)
    assert power[1, 2] == 0
    power[1, 2] = 1
    torch.testing.assert_close(power, torch.ones_like(power), rtol=2e-2, atol=0)  # the quiet one is near silence
    torch.testing.assert_close(normalized * level, frames)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_are_the_same_with_and_without_gradients(dtype):
    frames, x, branch = inputs(dtype).detach(), *(noise(2, 5, 7, seed=seed).to(dtype) for seed in (2, 3))
    scale = noise(7, seed=4).to(dtype)
    with torch.no_grad():
        plain = take_level(frames)
        added = add_at_level(x, branch, scale, plain[1])
    for ours, theirs in zip(take_level(frames.requires_grad_()), plain, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(add_at_level(x.requires_grad_(), branch, scale, plain[1]), added)


def test_gradients_of_taking_the_level_are_those_of_the_formula():
    torch.autograd.gradcheck(take_level, inputs())


def test_gradients_of_adding_at_a_level_are_those_of_the_formula():
    x, branch = (noise(2, 5, 7, seed=seed).double().requires_grad_() for seed in (1, 2))
    scale, level = noise(7, seed=3).double().requires_grad_(), noise(2, 5, 1, seed=4).double().requires_grad_()
    torch.autograd.gradcheck(add_at_level, (x, branch, scale, level))


def test_half_precision_branches_on_a_float32_path_get_gradients_of_their_own_kind():
    """Under autocast linear layers give bfloat16, and what they are added to is float32."""
    x, scale = noise(2, 5, 7).requires_grad_(), noise(7).requires_grad_()
    branch, level = noise(2, 5, 7).bfloat16().requires_grad_(), noise(2, 5, 1).bfloat16().requires_grad_()
    result = add_at_level(x, branch, scale, level)
    assert result.dtype == torch.float32
    result.sum().backward()
    for tensor in (x, branch, scale, level):
        assert tensor.grad.dtype == tensor.dtype
    torch.testing.assert_close(scale.grad, (branch * level).float().sum((0, 1)), rtol=2e-2, atol=2e-2)
