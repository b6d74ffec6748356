"""Full float32 precision where autocast or TF32 would change results, and whether a device is fast in bfloat16.

Nearest-codeword search, STFTs and losses must not run in bfloat16: one flipped index changes every later level of its
frame. Each of them runs inside `full_precision`, whatever the caller has switched on.
"""

import threading
from collections.abc import Sequence
from typing import Any

import torch


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware; without that, bfloat16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class full_precision:
    """Context manager: matrix products and convolutions in true float32, and no autocast.

    On CUDA it turns off TF32, which convolutions use by default; on the CPU it turns off bfloat16 products of float32
    matrices. These settings belong to the process, not to a thread: the first thread that enters saves and sets them,
    and the last that leaves restores them. A nested use in the same thread only looks at autocast. Tensors in half
    precision are not converted: convert them inside the block.

    Args:
        device: The device of the tensors in the block.
    """

    def __init__(self, device: torch.device) -> None:
        self.device_type = device.type
        self.settings = _SETTINGS["cuda" if device.type == "cuda" else "cpu"]

    def __enter__(self) -> None:
        self.settings.enter()
        self.autocast: torch.autocast | None = None
        if torch.is_autocast_enabled(self.device_type):
            self.autocast = torch.autocast(self.device_type, enabled=False)
            self.autocast.__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *raised: Any) -> None:
        if self.autocast is not None:
            self.autocast.__exit__(*raised)
        self.settings.leave()


class _Settings:
    """The settings of the process for one type of device, and how many threads need them at full precision.

    `allow_tf32` is the older name of `fp32_precision` and raises once the newer one has been used.
    """

    def __init__(self, *settings: Any) -> None:
        self.settings = settings
        self.before: list[str] = []
        self.num_threads = 0
        self.lock = threading.Lock()
        self.depth = threading.local()

    def enter(self) -> None:
        depth: int = getattr(self.depth, "value", 0)
        self.depth.value = depth + 1
        if depth:
            return
        with self.lock:
            if self.num_threads == 0:
                self.before = [setting.fp32_precision for setting in self.settings]
                self._set(["ieee"] * len(self.settings))
            self.num_threads += 1

    def leave(self) -> None:
        self.depth.value -= 1
        if self.depth.value:
            return
        with self.lock:
            self.num_threads -= 1
            if self.num_threads == 0:
                self._set(self.before)

    def _set(self, precisions: Sequence[str]) -> None:
        for setting, precision in zip(self.settings, precisions, strict=True):
            setting.fp32_precision = precision


_backends: Any = torch.backends
_SETTINGS = {
    "cuda": _Settings(_backends.cuda.matmul, _backends.cudnn.conv),
    "cpu": _Settings(_backends.mkldnn.matmul, _backends.mkldnn.conv),
}
