import math

import torch

from codec.config import QuantizerConfig
from codec.train.randomness import draw_num_active, generator_of


def test_quantizer_dropout_depends_on_the_number_of_an_item_alone():
    quantizer = QuantizerConfig(num_quantizers=3, quantizer_dropout=0.4)
    num_active = draw_num_active(quantizer, range(4000), seed=0)
    assert torch.equal(num_active[[5, 1700, 3]], draw_num_active(quantizer, [5, 1700, 3], seed=0))
    # 0.6 use all levels; 0.4 are spread evenly over 1 .. 3
    for level, share in ((1, 0.4 / 3), (2, 0.4 / 3), (3, 0.6 + 0.4 / 3)):
        count = int((num_active == level).sum())
        assert abs(count - 4000 * share) < 4 * math.sqrt(4000 * share * (1 - share))
    assert not torch.equal(num_active, draw_num_active(quantizer, range(4000), seed=1))
    assert draw_num_active(QuantizerConfig(quantizer_dropout=0), range(4), seed=0) is None  # all of them


def test_a_generator_depends_on_its_key_alone():
    draws = [torch.rand(4, generator=generator_of(*key)) for key in ((0, 1), (0, 1), (0, 2))]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
