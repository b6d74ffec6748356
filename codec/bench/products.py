"""Square matrix products, which show the peak of a machine."""

import torch

from codec.bench.timing import Task
from codec.dsp.precision import has_fast_bfloat16


def matrix_products(size: int) -> dict[str, Task]:
    """Square matrix products, 2 size^3 FLOP each: in float32, and in bfloat16 if the processor has it."""
    dtypes = [torch.float32, torch.bfloat16] if has_fast_bfloat16(torch.device("cpu")) else [torch.float32]
    return {str(dtype).removeprefix("torch."): _product(size, dtype) for dtype in dtypes}


def _product(size: int, dtype: torch.dtype) -> Task:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(size, size, generator=generator).to(dtype) for _ in range(2))
    result = torch.empty(size, size, dtype=dtype)
    return lambda: torch.mm(first, second, out=result)
