"""Lightning Fabric, the engine of a run: device, precision and processes."""

import contextlib
import gc
import os
import warnings
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from codec.dsp.precision import has_fast_bfloat16
from codec.errors import ConfigError, ModelError

PATIENCE = timedelta(minutes=30)
"""How long a process waits for another one that is alive and silent; the first one validates and saves meanwhile."""


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
    fabric = Fabric(
        accelerator=accelerator,
        devices=[int(index)] if index else num_local,
        num_nodes=num_nodes,
        strategy=_DataParallel(timeout=PATIENCE) if num_local * num_nodes > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
    )
    # Strides of axes of length 1 differ, which is no fault.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    fabric.launch()
    gc.freeze()  # imported objects live as long as the process: leave them out of every garbage collection
    if fabric.device.type == "cpu":
        # Lightning sets this on import. Without CUDA, every optimizer step then tries to load the driver's library,
        # which takes half a millisecond.
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    return fabric


class _DataParallel(DDPStrategy):
    """Averages gradients over processes, and nothing else; connects them also after a restart by torchrun."""

    def setup_environment(self) -> None:
        """Connect the processes.

        After a restart, the store that torchrun lends them holds the addresses of dead processes under the same keys
        (github.com/pytorch/pytorch/issues/135712), and some would connect to these. So each attempt has its own keys.
        Agents of several nodes count restarts differently: there, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 helps.
        """
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        if attempt != "0" and self.num_nodes == 1:
            store, rank, world_size = next(rendezvous("env://", timeout=PATIENCE))
            store = dist.PrefixStore(f"attempt_{attempt}", store)  # type: ignore[attr-defined]
            backend = self._get_process_group_backend()
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=PATIENCE)
        super().setup_environment()

    def setup_module(self, module: nn.Module) -> DistributedDataParallel:
        """Wrap a module.

        By default every forward pass would copy the buffers of the first process to the others. Among them are EMA
        codebooks, which all processes move by the same sums: the copy costs time and would hide a fault.
        """
        wrapped = super().setup_module(module)
        wrapped.broadcast_buffers = False  # as an argument it warns from PyTorch 2.14 on, whose new name 2.11 lacks
        return wrapped


@contextlib.contextmanager
def lost_process_reported() -> Iterator[None]:
    """Turn the error of a collective operation whose other processes are gone into one line.

    Raises:
        ModelError: Another process died, or was silent for longer than `PATIENCE`.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):  # Gloo raises no class of its own
            raise ModelError(
                "lost another process of this run, whose own message says why; go on from the last checkpoint",
                resume=True,
            ) from error
        raise


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a new host tensor to the device without waiting for the device."""
    if device.type != "cuda" or tensor.device == device:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # pinned memory is kept until it was read
