"""Float32 islands: the parts of the codec whose result must not depend on autocast or TF32.

Nearest-codeword distances, STFTs and losses lose their meaning in bfloat16 (one flipped index changes every
later level of its frame), so each of them runs inside `full_precision`, whatever the caller has switched on.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Run a block without autocast and with matrix products in true float32 on the device's type.

    It turns off TF32 on CUDA and its counterpart on the CPU, bfloat16 products of float32 matrices, both of
    which `torch.set_float32_matmul_precision` can allow. That setting belongs to the process, not a thread;
    it is put back when the block ends. Tensors in half precision stay so: convert them inside the block.

    Args:
        device: The device of the tensors that the block works on.
    """
    on_cuda = device.type == "cuda"
    matmul = torch.backends.cuda.matmul if on_cuda else torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision  # not `allow_tf32`, which raises once anyone has used this newer setting
    with torch.autocast(device.type, enabled=False):
        matmul.fp32_precision = "ieee"
        try:
            yield
        finally:
            matmul.fp32_precision = before
