"""Causal layers with an explicit cache: the one mechanism behind offline, streaming and chunked use.

All map `[B, C, F]` to `[B, C', F']`. Linear maps are fastest when the channels of a frame are contiguous in memory, the
channels-last order. Layers that work frame by frame return this order and the others keep it, so nothing is transposed
in memory between the first layer and the last.

A layer that looks back keeps the inputs it needs in a `Cache` that the caller owns: this is the state of a stream.
`cache=None` means offline: the signal starts here, after zeros. Blocks passed with one cache give the same output as
the whole signal.
"""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Conv = TypeVar("Conv", bound=nn.Conv1d)
Cache = dict[nn.Module, Tensor]
"""Left context of each layer. Create it empty and pass it with every block of a stream; the layers fill it."""


def with_left_context(layer: nn.Module, x: Tensor, size: int, cache: Cache | None) -> Tensor:
    """Prepend the last `size` inputs of `layer` to `x`, zeros at the start of a signal.

    Args:
        layer: The layer that needs the context; its key in the cache.
        x: `[B, C, F]`.
        size: Frames of context.
        cache: The stream's cache, updated in place; None offline.

    Returns:
        `[B, C, size + F]`.
    """
    if size == 0:
        return x
    context = None if cache is None else cache.get(layer)
    if context is None:
        context = x.new_zeros(*x.shape[:-1], size)
    by_frame = x.transpose(1, 2).is_contiguous() and not x.is_contiguous()
    x = (
        torch.cat([context.transpose(1, 2), x.transpose(1, 2)], dim=-2).transpose(1, 2)
        if by_frame
        else torch.cat([context, x], dim=-1)
    )
    if cache is not None:
        cache[layer] = x[..., -size:].clone()  # not a view, which would keep the whole block in memory
    return x


def start_as_identity(conv: nn.Conv1d) -> nn.Conv1d:
    """Set a convolution of kernel size 1 to the identity on its channels; returns it."""
    nn.init.dirac_(conv.weight)
    return conv


@torch.no_grad()
def start_with_gain(conv: Conv, gain: float) -> Conv:
    """Initialise a convolution so that white input of variance 1 gives output of variance gain^2; returns it."""
    nn.init.normal_(conv.weight, std=gain / math.sqrt(conv.weight[0].numel()))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class CausalConv1d(nn.Conv1d):
    """Convolution whose output frames depend on no later input.

    Output length is exactly F / stride; F must be a multiple of the stride (EnCodec, arXiv:2210.13438, section 3.1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation=dilation, groups=groups, bias=bias)
        self.context = (kernel_size - 1) * dilation + 1 - stride
        if self.context < 0:
            raise ValueError(f"kernel_size {kernel_size} with dilation {dilation} is shorter than the stride {stride}")

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, C, F]` to `[B, C', F / stride]`."""
        x = with_left_context(self, x, self.context, cache)
        if x.shape[-1] == self.kernel_size[0] and self.groups == self.in_channels == self.out_channels:
            # One frame of a live stream: PyTorch's depthwise convolution takes twenty times as long as this sum.
            frame = (x * self.weight[:, 0]).sum(dim=-1, keepdim=True)
            return frame if self.bias is None else frame + self.bias[:, None]
        # Two-dimensional, because PyTorch keeps the channels-last order only there.
        x = x[:, :, None]
        stride, dilation = (1, *self.stride), (1, *self.dilation)
        return F.conv2d(x, self.weight[:, :, None], self.bias, stride, 0, dilation, self.groups)[:, :, 0]


class Pointwise(nn.Conv1d):
    """Linear map of the channels of every frame: a convolution of kernel size 1, computed as a matrix product."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, F]` to `[B, C', F]`."""
        return F.linear(x.transpose(1, 2), self.weight[:, :, 0], self.bias).transpose(1, 2)


class Downsample(nn.Module):
    """Strided causal convolution with a kernel of two strides and no bias, one matrix product over frames.

    Equal to `CausalConv1d(kernel_size=2 * stride, stride=stride, bias=False)`, whose weight gradient is many times as
    slow on a CPU for large strides. Filter taps are ordered by time first, then by channel.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.filters = start_with_gain(Pointwise(2 * stride * in_channels, out_channels), 1.0)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, C, F * stride]` to `[B, C', F]`."""
        batch, channels, _ = x.shape
        hops = x.transpose(1, 2).reshape(batch, -1, self.stride * channels)
        hops = with_left_context(self, hops.transpose(1, 2), 1, cache).transpose(1, 2)
        filtered: Tensor = self.filters(torch.cat([hops[:, :-1], hops[:, 1:]], dim=-1).transpose(1, 2))
        return filtered


class Upsample(nn.Module):
    """Causal transposed convolution with a kernel of two strides, computed as a convolution and a reshape.

    Every input frame contributes to the output samples of its own frame and of the next one. This equals a transposed
    convolution trimmed on the right; the cache keeps inputs where a transposed convolution would keep its tail.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = start_with_gain(CausalConv1d(in_channels, out_channels * stride, kernel_size=2), 1.0)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, C, F]` to `[B, C', F * stride]`."""
        batch, _, num_frames = x.shape
        folded: Tensor = self.conv(x, cache).reshape(batch, -1, self.stride, num_frames)
        return folded.transpose(2, 3).reshape(batch, -1, num_frames * self.stride)


class ConvNeXtBlock(nn.Module):
    """Depthwise causal convolution and a two-layer network on every frame, added to the input.

    ConvNeXt (arXiv:2201.03545), on frames of audio as in Vocos (arXiv:2306.00814, section 3.3).
    """

    def __init__(self, channels: int, *, kernel_size: int, expansion: float) -> None:
        super().__init__()
        hidden = round(channels * expansion)
        self.depthwise = CausalConv1d(channels, channels, kernel_size, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.contract = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, C, F]` to `[B, C, F]`."""
        frames = self.norm(self.depthwise(x, cache).transpose(1, 2))
        return torch.addcmul(x.transpose(1, 2), self.contract(F.gelu(self.expand(frames))), self.scale).transpose(1, 2)


class Snake(nn.Module):
    """Periodic activation x + sin^2(a x) / a with a learned per channel (arXiv:2006.08195, eq. 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, F]` to `[B, C, F]`."""
        alpha = self.log_alpha.exp()
        return x + torch.sin(alpha * x).square() / (alpha + 1e-9)


class SnakeResidualUnit(nn.Module):
    """Dilated causal convolution between Snake activations, added to the input (DAC, arXiv:2306.06546, section 3.1).

    At the start of training it adds little, so that a deep stack passes its input on.
    """

    def __init__(self, channels: int, *, dilation: int) -> None:
        super().__init__()
        self.snake_in = Snake(channels)
        self.conv = start_with_gain(CausalConv1d(channels, channels, 7, dilation=dilation), 1.0)
        self.snake_out = Snake(channels)
        self.pointwise = start_with_gain(Pointwise(channels, channels, bias=True), 0.1)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, C, F]` to `[B, C, F]`."""
        branch = self.conv(self.snake_in(x), cache)
        result: Tensor = x + self.pointwise(self.snake_out(branch))
        return result
