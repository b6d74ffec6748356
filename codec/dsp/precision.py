"""Where bfloat16 is fast, and float32 islands: parts whose result must not depend on autocast or TF32.

Nearest-codeword distances, STFTs and losses lose their meaning in bfloat16 (one flipped index changes every
later level of its frame), so each of them runs inside `full_precision`, whatever the caller has switched on.
"""

from typing import Any

import torch

_backends: Any = torch.backends
_CUDA = (_backends.cuda.matmul, _backends.cudnn.conv)
_CPU = (_backends.mkldnn.matmul, _backends.mkldnn.conv)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices of bfloat16 in hardware; elsewhere they are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class full_precision:
    """Run a block without autocast and with matrix products in true float32 on the device's type.

    It turns off TF32 on CUDA, which convolutions use unless told not to, and its counterpart on the CPU, bfloat16
    products of float32 matrices. These settings belong to the process, not a thread; they are put back when the
    block ends. Tensors in half precision stay so: convert them inside the block. Within such a block another one costs
    next to nothing: to set it all again would take as long as a small matrix product.

    Args:
        device: The device of the tensors that the block works on.
    """

    def __init__(self, device: torch.device) -> None:
        self.device_type = device.type
        self.settings = _CUDA if device.type == "cuda" else _CPU

    def __enter__(self) -> None:
        # Not `allow_tf32`, the older name of the same: it raises once anyone has used this one.
        self.before = [setting.fp32_precision for setting in self.settings]
        self.autocast: torch.autocast | None = None
        if self.before == ["ieee", "ieee"] and not torch.is_autocast_enabled(self.device_type):
            return
        self.autocast = torch.autocast(self.device_type, enabled=False)
        self.autocast.__enter__()  # type: ignore[no-untyped-call]
        for setting in self.settings:
            setting.fp32_precision = "ieee"

    def __exit__(self, *raised: Any) -> None:
        if self.autocast is None:
            return
        for setting, precision in zip(self.settings, self.before, strict=True):
            setting.fp32_precision = precision
        self.autocast.__exit__(*raised)
