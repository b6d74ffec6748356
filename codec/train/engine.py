"""Lightning Fabric, the engine of a run: device, precision and processes."""

import gc
import os

import torch
from lightning_fabric import Fabric
from torch import Tensor

from codec.dsp.precision import has_fast_bfloat16
from codec.errors import ConfigError


def build_fabric(precision: str, device: str = "auto") -> Fabric:
    """Build Fabric for this process, alone or one of those that torchrun started, and connect the processes.

    Args:
        precision: "32-true", "bf16-mixed", or "auto": bf16-mixed if the device has fast bfloat16.
        device: "auto", "cpu", "mps", "cuda", or "cuda:1" for a process alone.

    Raises:
        ConfigError: A device with a number is given to several processes.
    """
    accelerator, _, index = device.partition(":")
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    num_nodes = int(os.environ.get("WORLD_SIZE", "1")) // num_local
    if index and num_local > 1:
        raise ConfigError(f"{device} is one device, but there are {num_local} processes: give --device cuda")
    if precision == "auto":
        on_cuda = accelerator in ("auto", "cuda") and torch.cuda.is_available()
        precision = "bf16-mixed" if has_fast_bfloat16(torch.device("cuda" if on_cuda else "cpu")) else "32-true"
    strategy = "ddp" if num_local * num_nodes > 1 else "auto"
    fabric = Fabric(
        accelerator=accelerator,
        devices=[int(index)] if index else num_local,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    gc.freeze()  # imported objects live as long as the process: leave them out of every garbage collection
    if fabric.device.type == "cpu":
        # Lightning sets this on import. Without CUDA, every optimizer step then tries to load the driver's library,
        # which takes half a millisecond.
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    return fabric


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a new host tensor to the device without waiting for the device."""
    if device.type != "cuda" or tensor.device == device:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # pinned memory is kept until it was read
