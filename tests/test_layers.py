"""Layers: causality, streams, and equality with plain operations of PyTorch."""

import pytest
import torch
import torch.nn.functional as F
from messages import one_line
from models import noise

from codec.model.layers import (
    CausalConv1d,
    ConvNeXtBlock,
    Downsample,
    Snake,
    SnakeResidualUnit,
    Upsample,
    with_left_context,
)

CHANNELS = 6
LAYERS = {  # a layer, and how many of its inputs make one frame, the step of a stream
    "conv": (lambda: CausalConv1d(CHANNELS, 4, 5), 1),
    "dilated": (lambda: CausalConv1d(CHANNELS, 4, 3, dilation=4), 1),
    "grouped": (lambda: CausalConv1d(CHANNELS, 4, 3, groups=2), 1),
    "depthwise": (lambda: CausalConv1d(CHANNELS, CHANNELS, 5, groups=CHANNELS), 1),
    "depthwise_strided": (lambda: CausalConv1d(CHANNELS, CHANNELS, 5, groups=CHANNELS, stride=2, bias=False), 2),
    "pointwise": (lambda: CausalConv1d(CHANNELS, 4, 1), 1),
    "strided": (lambda: CausalConv1d(CHANNELS, 4, 7, stride=3), 3),
    "downsample": (lambda: Downsample(CHANNELS, 4, 5), 5),
    "upsample": (lambda: Upsample(CHANNELS, 4, 5), 1),
    "convnext": (lambda: ConvNeXtBlock(CHANNELS, kernel_size=7, expansion=2), 1),
    "snake_unit": (lambda: SnakeResidualUnit(CHANNELS, dilation=3), 1),
}
BLOCKS = {"1": [1] * 30, "2": [2] * 15, "3": [3] * 10, "7": [7, 7, 7, 7, 2], "ragged": [1, 12, 3, 1, 8, 5], "all": [30]}


@pytest.fixture(params=LAYERS)
def layer_and_step(request):
    make, step = LAYERS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().requires_grad_(False), step


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_a_stream_of_blocks_equals_the_whole(layer_and_step, blocks):
    layer, step = layer_and_step
    x = noise(2, CHANNELS, 30 * step)
    cache = {}
    parts = [layer(block, cache) for block in x.split([step * length for length in blocks], dim=-1)]
    torch.testing.assert_close(torch.cat(parts, dim=-1), layer(x), rtol=1e-5, atol=1e-6)


def test_nothing_depends_on_what_comes_later(layer_and_step):
    layer, step = layer_and_step
    x = noise(1, CHANNELS, 30 * step)
    before = layer(x)
    per_frame = before.shape[-1] // 30
    for at in (0, 1, step - 1, 7 * step, 11 * step + step // 2, 30 * step - 1):
        changed = x.clone()
        changed[..., at] += 1.0
        after = layer(changed)
        frame = at // step
        first, stop = frame * per_frame, (frame + 1) * per_frame
        assert torch.equal(after[..., :first], before[..., :first])
        assert not torch.equal(after[..., first:stop], before[..., first:stop])


def test_items_of_a_batch_are_independent(layer_and_step):
    layer, step = layer_and_step
    x = noise(3, CHANNELS, 10 * step)
    for item in range(3):
        torch.testing.assert_close(layer(x)[item : item + 1], layer(x[item : item + 1]), rtol=1e-5, atol=1e-6)


def test_left_context_is_zeros_at_first_and_later_the_last_inputs():
    layer, cache = Snake(1), {}
    first = with_left_context(layer, torch.tensor([[[1.0, 2, 3]]]), 2, cache)
    second = with_left_context(layer, torch.tensor([[[4.0]]]), 2, cache)
    third = with_left_context(layer, torch.tensor([[[5.0, 6]]]), 2, cache)
    assert first.tolist() == [[[0, 0, 1, 2, 3]]]
    assert second.tolist() == [[[2, 3, 4]]]
    assert third.tolist() == [[[3, 4, 5, 6]]]
    assert with_left_context(layer, torch.ones(1, 1, 2), 0, cache).shape == (1, 1, 2)
    assert with_left_context(layer, torch.ones(1, 1, 1), 2, None).tolist() == [[[0, 0, 1]]]
    assert list(cache) == [layer]


def test_a_cache_holds_the_context_and_not_the_whole_block():
    layer, cache = CausalConv1d(2, 2, 3), {}
    layer(torch.zeros(1, 2, 10_000), cache)
    assert cache[layer].untyped_storage().nbytes() == 4 * 2 * 2


def test_a_kernel_shorter_than_the_stride_is_refused():
    with pytest.raises(ValueError, match=one_line("kernel_size", 3, "dilation", 1, "stride", 4)):
        CausalConv1d(1, 1, 3, stride=4)


def test_downsample_is_the_strided_convolution_of_two_strides():
    layer = Downsample(3, 4, 5)
    strided = CausalConv1d(3, 4, 10, stride=5, bias=False)
    with torch.no_grad():
        strided.weight.copy_(layer.filters.weight.view(4, 10, 3).mT)
    x = noise(2, 3, 40)
    torch.testing.assert_close(layer(x), strided(x))


def test_upsample_is_the_transposed_convolution_trimmed_on_the_right():
    layer = Upsample(3, 4, 5)
    x = noise(2, 3, 8)
    weight = layer.conv.weight.view(4, 5, 3, 2).flip(-1).permute(2, 0, 3, 1).reshape(3, 4, 10)
    expected = F.conv_transpose1d(x, weight, stride=5)[..., : 8 * 5]
    phases = layer.conv.bias.view(1, 4, 5).repeat(1, 1, 8)
    torch.testing.assert_close(layer(x), expected + phases)


def test_snake_is_its_formula():
    layer = Snake(2)
    with torch.no_grad():
        layer.log_alpha.copy_(torch.tensor([[0.0], [1.5]]))
    x = noise(1, 2, 50, scale=2.0)
    alpha = torch.tensor([[1.0], [1.5]]).exp() / torch.tensor([[torch.e], [1.0]])
    torch.testing.assert_close(layer(x), x + torch.sin(alpha * x) ** 2 / alpha)


@pytest.mark.parametrize("make", [LAYERS["convnext"][0], LAYERS["snake_unit"][0]], ids=["convnext", "snake_unit"])
def test_a_residual_layer_keeps_the_gain_of_its_input(make):
    """With its branch switched off a residual layer is the identity: no normalisation lies on the way."""
    layer = make().requires_grad_(False)
    last = layer.contract if isinstance(layer, ConvNeXtBlock) else layer.pointwise
    last.weight.zero_()
    last.bias.zero_()
    x = noise(2, CHANNELS, 10, scale=1e4)
    assert torch.equal(layer(x), x)


def test_a_block_is_finite_in_silence():
    block = ConvNeXtBlock(6, kernel_size=3, expansion=2)
    x = torch.zeros(1, 6, 9, requires_grad=True)
    y = block(x)
    y.sum().backward()
    assert torch.isfinite(y).all() and torch.isfinite(x.grad).all()
