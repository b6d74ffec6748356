"""The engine of a run, Lightning Fabric: device, precision, and one process or those that torchrun started."""

import gc
import os

import torch
from lightning_fabric import Fabric
from torch import Tensor

from codec.dsp.precision import has_fast_bfloat16


def build_fabric(precision: str, accelerator: str = "auto") -> Fabric:
    """One process, or one of those that torchrun started, ready to talk to the others."""
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    num_nodes = int(os.environ.get("WORLD_SIZE", "1")) // num_local
    if precision == "auto":
        on_cuda = accelerator != "cpu" and torch.cuda.is_available()
        precision = "bf16-mixed" if has_fast_bfloat16(torch.device("cuda" if on_cuda else "cpu")) else "32-true"
    strategy = "ddp" if num_local * num_nodes > 1 else "auto"
    fabric = Fabric(
        accelerator=accelerator,
        devices=num_local,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    gc.freeze()  # what the imports left lives as long as the process: a collection need not look at it again
    if fabric.device.type == "cpu":
        # Lightning sets this on import; where there is no CUDA, every optimizer step then loads the driver's library in
        # vain to ask for devices, half a millisecond each time.
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    return fabric


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor that the host has just made, if it is not there; a GPU is not waited for."""
    if device.type != "cuda" or tensor.device == device:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # memory that stays in place until it is read
