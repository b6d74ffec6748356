"""Float32 islands: the parts of the codec whose result must not depend on autocast or TF32.

Nearest-codeword distances, STFTs and losses lose their meaning in bfloat16 (one flipped index changes every
later level of its frame), so each of them runs inside `full_precision`, whatever the caller has switched on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_backends: Any = torch.backends
_CUDA = (_backends.cuda.matmul, _backends.cudnn.conv)
_CPU = (_backends.mkldnn.matmul, _backends.mkldnn.conv)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Run a block without autocast and with matrix products in true float32 on the device's type.

    It turns off TF32 on CUDA, which convolutions use unless told not to, and its counterpart on the CPU, bfloat16
    products of float32 matrices. These settings belong to the process, not a thread; they are put back when the
    block ends. Tensors in half precision stay so: convert them inside the block.

    Args:
        device: The device of the tensors that the block works on.
    """
    settings = _CUDA if device.type == "cuda" else _CPU
    # Not `allow_tf32`, the older name of the same: it raises once anyone has used this one.
    before = [setting.fp32_precision for setting in settings]
    if not torch.is_autocast_enabled(device.type) and all(precision == "ieee" for precision in before):
        yield  # within such a block already: to set it all again would take as long as a small matrix product
        return
    with torch.autocast(device.type, enabled=False):
        try:
            for setting in settings:
                setting.fp32_precision = "ieee"
            yield
        finally:
            for setting, precision in zip(settings, before, strict=True):
                setting.fp32_precision = precision
