"""Full float32 precision where autocast or TF32 would change results, and whether a device is fast in bfloat16.

Nearest-codeword search, STFTs and losses must not run in bfloat16: one flipped index changes every later level of its
frame. Each of them runs inside `full_precision`, whatever the caller has switched on.
"""

from typing import Any

import torch

_backends: Any = torch.backends
_CUDA = (_backends.cuda.matmul, _backends.cudnn.conv)
_CPU = (_backends.mkldnn.matmul, _backends.mkldnn.conv)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware; without that, bfloat16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class full_precision:
    """Context manager: matrix products and convolutions in true float32, and no autocast.

    On CUDA it turns off TF32, which convolutions use by default; on the CPU it turns off bfloat16 products of float32
    matrices. These settings belong to the process, not to a thread, and are restored at the end. A nested use does
    nothing and costs next to nothing. Tensors in half precision are not converted: convert them inside the block.

    Args:
        device: The device of the tensors in the block.
    """

    def __init__(self, device: torch.device) -> None:
        self.device_type = device.type
        self.settings = _CUDA if device.type == "cuda" else _CPU

    def __enter__(self) -> None:
        # `allow_tf32` is the older name of this setting and raises once the newer one has been used.
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
