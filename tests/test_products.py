import torch

from codec.bench.products import matrix_products
from codec.bench.timing import clock
from codec.dsp.precision import has_fast_bfloat16
from codec.eval.inspection.operations import count_flop


def test_a_matrix_product_does_its_work():
    products = matrix_products(64)
    assert set(products) == ({"float32", "bfloat16"} if has_fast_bfloat16(torch.device("cpu")) else {"float32"})
    for task in products.values():
        assert count_flop(task) == 2 * 64**3
        assert clock(task) > 0
