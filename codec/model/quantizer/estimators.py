"""Gradient estimators: the forward pass returns exactly the codeword, the backward pass a gradient for the vector.

Both take vectors and their codewords `[..., d]`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Estimator = Callable[[Tensor, Tensor], Tensor]


def straight_through(vectors: Tensor, quantized: Tensor) -> Tensor:
    """Return exactly `quantized`, with the gradient of `vectors` (arXiv:1308.3432; arXiv:1711.00937, section 3.2).

    The bracket matters: x - x is exactly zero, but (q + x) - x is not exactly q in floating point.
    """
    return quantized.detach() + (vectors - vectors.detach())


def rotation_trick(vectors: Tensor, quantized: Tensor) -> Tensor:
    """Return exactly `quantized`, with the gradient turned and scaled as x is turned and scaled into q.

    q = (|q| / |x|) R x with the rotation R in the plane of x and q; R and the ratio are constants in the backward pass
    (Fifty et al., arXiv:2410.06424, section 4.2). With unit vectors x' and q', and r the unit vector of x' + q',
    R x = x - 2 r r.x + 2 q' x'.x. The gradient is the straight-through one where x or q is zero, and where they are
    opposite, because then the rotation is not unique.
    """
    tiny = torch.finfo(vectors.dtype).tiny
    with torch.no_grad():
        norm = vectors.norm(dim=-1, keepdim=True)
        ratio = quantized.norm(dim=-1, keepdim=True) / norm.clamp_min(tiny)
        source = vectors / norm.clamp_min(tiny)
        target = quantized / (norm * ratio).clamp_min(tiny)
        middle = source + target
        length = middle.norm(dim=-1, keepdim=True)
        middle = middle / length.clamp_min(tiny)
        possible = (length > 1e-3) & (norm > 0) & (ratio > 0) & ratio.isfinite()
        # The values not chosen by `where` must be finite too: the backward pass multiplies them by zero.
        ratio, source, target, middle = (torch.where(possible, x, 0.0) for x in (ratio, source, target, middle))
    reflected = vectors - 2 * middle * (middle * vectors).sum(dim=-1, keepdim=True)
    turned = ratio * (reflected + 2 * target * (source * vectors).sum(dim=-1, keepdim=True))
    turned = torch.where(possible, turned, vectors)
    return quantized.detach() + (turned - turned.detach())


ESTIMATORS: dict[str, Estimator] = {"straight_through": straight_through, "rotation": rotation_trick}
