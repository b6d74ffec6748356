"""A frame without its level, and the level put back: what makes a residual branch homogeneous.

Both steps are elementwise, and on a CPU such passes over memory take as long as the matrix products between them. So
their gradients are written out: a third of the passes that autograd takes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SILENCE = 1e-10
"""Mean power of a frame below which blocks no longer normalise it: -100 dB, below the steps of 16-bit audio."""


def take_level(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Divide every frame by its level, the root of its mean square.

    Args:
        frames: `[B, F, C]`.

    Returns:
        Frames of level one `[B, F, C]`, and the levels `[B, F, 1]`.
    """
    if not torch.is_grad_enabled():
        return _take_level(frames)
    normalized, level = _TakeLevel.apply(frames)
    return normalized, level


def add_at_level(x: Tensor, branch: Tensor, scale: Tensor, level: Tensor) -> Tensor:
    """Add a branch to `x` with its scale and the level that it was computed without: x + branch * scale * level.

    Args:
        x: `[B, F, C]`.
        branch: `[B, F, C]`.
        scale: `[C]`.
        level: `[B, F, 1]`.
    """
    if not torch.is_grad_enabled():
        return torch.addcmul(x, branch, scale * level)
    result: Tensor = _AddAtLevel.apply(x, branch, scale, level)
    return result


def _take_level(frames: Tensor) -> tuple[Tensor, Tensor]:
    precise = torch.promote_types(frames.dtype, torch.float32)
    # Not by vector_norm: it adds up less precisely, and two processes and one would drift apart twice as fast.
    level = (frames.to(precise).square().mean(dim=-1, keepdim=True) + SILENCE).sqrt().to(frames.dtype)
    return frames / level, level


class _TakeLevel(torch.autograd.Function):
    """The gradient of n = x / l with l = sqrt(mean x^2 + silence), whose own gradient is n / C.

    dx = dn / l + n (dl - <dn, n> / l) / C
    """

    @staticmethod
    def forward(ctx: Any, frames: Tensor) -> tuple[Tensor, Tensor]:
        normalized, level = _take_level(frames)
        ctx.save_for_backward(normalized, level)
        return normalized, level

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_normalized: Tensor, to_level: Tensor) -> Tensor:
        normalized, level = ctx.saved_tensors
        along = (to_normalized * normalized).sum(dim=-1, keepdim=True)
        along = (to_level - along / level) / normalized.shape[-1]
        gradient: Tensor = (to_normalized / level).addcmul_(normalized, along.to(normalized.dtype))
        return gradient


class _AddAtLevel(torch.autograd.Function):
    """The gradient g of x + b s l, with t = g b: g to x, g s l to b, sum t l over frames to s, <t, s> to l."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor, scale: Tensor, level: Tensor) -> Tensor:
        ctx.save_for_backward(branch, scale, level)
        return torch.addcmul(x, branch, scale * level)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        branch, scale, level = ctx.saved_tensors
        product = (gradient * branch).flatten(0, 1).to(scale.dtype)
        to_scale = level.flatten(0, 1).mT.to(scale.dtype) @ product
        to_level = (product @ scale).view_as(level)
        to_branch = (scale * level).mul_(gradient)
        return gradient, to_branch.to(branch.dtype), to_scale[0], to_level.to(level.dtype)
