import pytest
import torch
from models import HOP, tiny_codec
from torch import nn

from codec.eval.inspection.operations import count_flop, count_operations, count_parameters


@pytest.fixture(scope="module")
def codec():
    return tiny_codec()


@pytest.mark.parametrize(
    ("module", "shape", "flop"),
    [
        (nn.Linear(5, 7), (3, 5), 2 * 3 * 5 * 7),
        (nn.Linear(5, 7, bias=False), (2, 3, 5), 2 * 6 * 5 * 7),
        (nn.Conv1d(4, 6, 3), (2, 4, 12), 2 * 2 * 10 * 6 * 4 * 3),
        (nn.Conv1d(4, 4, 3, groups=4), (1, 4, 12), 2 * 10 * 4 * 3),
        (nn.Conv1d(4, 6, 4, stride=2), (1, 4, 12), 2 * 5 * 6 * 4 * 4),
        (nn.GELU(), (3, 5), 0),
    ],
)
def test_flop_of_layers(module, shape, flop):
    with torch.no_grad():
        assert count_flop(lambda: module(torch.zeros(shape))) == flop


def test_flop_of_products():
    x, y, z = torch.zeros(3, 4), torch.zeros(4, 5), torch.zeros(3, 5)
    assert count_flop(lambda: torch.addmm(z, x, y)) == count_flop(lambda: x @ y) == 2 * 3 * 4 * 5


def test_operations_of_the_tiny_model_by_hand(codec):
    frames = codec.sample_rate / HOP
    block = lambda channels, kernel, hidden: kernel * channels + 2 * channels * hidden  # noqa: E731
    low, levels, high, bins, subframes = (
        4,
        14 - 4,
        4,
        9,
        4,
    )  # coefficients, levels, coefficients of a subframe, FFT bins
    analysis = 2 * 2 * HOP * low + low * 2 + 2 * low + subframes * (HOP * 2 * bins + bins * 2)
    encoder = analysis + (low + levels) * (16 + 12) + block(16, 3, _hidden(codec.encoder.blocks[0])) + 16 * 12
    search = 12 * 6 + 4 * 16 * 6  # projection; four levels of sixteen codewords of six
    lookup = 6 * 12
    controls = low + levels + subframes * 2
    carriers = 2 * (HOP // 4) * high + high * 2 + 2 * high
    synthesis = 2 * low + low * 2 * HOP + subframes * (carriers + 2 * 2 * high + high * 2 * (HOP // 4))
    decoder = 12 * (16 + controls) + block(16, 3, _hidden(codec.decoder.blocks[0])) + 16 * controls + synthesis
    encoder, search, lookup, decoder = (frames * each for each in (encoder, search, lookup, decoder))
    expected = [2 * macs for macs in (encoder, search, lookup, decoder)]
    assert list(count_operations(codec)) == pytest.approx(expected, rel=1e-12)


def test_operations_do_not_depend_on_the_length(codec):
    assert count_operations(codec, num_seconds=1) == pytest.approx(count_operations(codec, num_seconds=3), rel=1e-12)


def _hidden(block):
    return block.expand.out_features


def test_parameters_are_those_of_the_model(codec):
    parameters = count_parameters(codec)
    assert parameters.codebooks == 4 * 16 * 6 + 2 * 12 * 6
    learned = sum(parameter.numel() for parameter in codec.parameters())
    assert sum(parameters) == learned + 4 * 16 * 6  # EMA codewords are buffers
