"""AdamW, its learning rate schedule, and the exponential moving average (EMA) of the weights."""

import math

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.optimizer import ParamsT

from codec.recipe import OptimizerConfig


class DeviceAdamW(AdamW):
    """Fused AdamW that reads its learning rate, and whether to skip a step, from tensors on the device.

    Args:
        params: Parameters or parameter groups, on one device.
        device: That device.
        lr: Learning rate of the first step.
        betas: Decay of the moments.
        weight_decay: For groups that do not set their own.
    """

    def __init__(
        self, params: ParamsT, *, device: torch.device, lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        on_cuda = device.type == "cuda"  # its kernel reads float32, the CPU kernel a Python number
        rate = torch.tensor(lr, dtype=torch.float32 if on_cuda else torch.float64, device=device)
        super().__init__(params, lr=rate, betas=betas, weight_decay=weight_decay, fused=True, capturable=on_cuda)
        self.rate = rate
        # The flag of a gradient scaler: at 1 the kernel leaves weights, moments and step count unchanged.
        self.found_inf = torch.zeros((), device=device)

    def prepare(self, lr: Tensor, skip: Tensor) -> None:
        """Set the learning rate of the next step (scalar), and whether to skip that step (bool scalar)."""
        self.rate.copy_(lr)
        self.found_inf.copy_(skip)


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> DeviceAdamW | None:
    """Build AdamW with weight decay on matrices only: not on biases, norms, scales, activations or codebooks.

    Returns None for a model without trainable parameters: EMA codebooks alone need no optimizer.
    """
    learned = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    decayed = {
        name
        for name, parameter in learned.items()
        if parameter.squeeze().ndim >= 2 and "codebooks" not in name  # squeeze: the [C, 1] of Snake is not a matrix
    }
    groups = [
        {
            "params": [p for name, p in learned.items() if name in decayed],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for name, p in learned.items() if name not in decayed], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        return None
    return DeviceAdamW(groups, device=next(model.parameters()).device, lr=config.lr, betas=config.betas)


def learning_rate(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """Learning rate of step 0 .. num_steps - 1: linear up to `lr`, then half a cosine down to `final_lr`."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(num_steps - config.warmup_steps, 1)
    return config.final_lr + (config.lr - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def ema_rate(decay: float, num_updates: int) -> float:
    """How far update number `num_updates` moves the EMA weights towards the weights, 0 .. 1; 1 - decay in the long run.

    The decay starts at (1 + n) / (10 + n), until this exceeds `decay`: the random start is forgotten quickly.
    """
    return 1 - min(decay, (1 + num_updates) / (10 + num_updates))


@torch.no_grad()
def update_ema(ema: list[Tensor], weights: list[Tensor], rate: Tensor) -> None:
    """Move EMA parameters towards those of the model by `rate` (scalar, 0 .. 1)."""
    if ema:
        torch._foreach_lerp_(ema, weights, [rate] * len(ema))


@torch.no_grad()
def copy_unaveraged(ema: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Copy what has no average into the EMA model: its buffers, and with decay 0 its parameters too."""
    for average, buffer in zip(ema.buffers(), model.buffers(), strict=True):
        average.copy_(buffer)
    if decay == 0:
        for average, weight in zip(ema.parameters(), model.parameters(), strict=True):
            average.copy_(weight)


def reset_moments(optimizer: Optimizer, parameter: nn.Parameter, rows: Tensor) -> None:
    """Zero the Adam moments of some rows of a parameter; `rows` is a bool mask over its first axes."""
    for key in ("exp_avg", "exp_avg_sq"):
        if key in optimizer.state.get(parameter, {}):
            optimizer.state[parameter][key][rows] = 0.0
