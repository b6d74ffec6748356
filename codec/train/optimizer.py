"""AdamW with linear warm-up and cosine decay, revived rows, and the moving average of the weights."""

import math

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.optimizer import ParamsT

from codec.recipe import OptimizerConfig


class DeviceAdamW(AdamW):
    """Fused AdamW whose learning rate, and whether it steps at all, lie on the device.

    Args:
        params: Parameters or groups of them, on one device.
        lr: Of the first step.
        betas: Decay of the moments.
        weight_decay: Of groups that have none of their own.
    """

    def __init__(
        self, params: ParamsT, *, device: torch.device, lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        on_cuda = device.type == "cuda"  # whose kernel reads a float32; on the CPU it is a number again
        rate = torch.tensor(lr, dtype=torch.float32 if on_cuda else torch.float64, device=device)
        super().__init__(params, lr=rate, betas=betas, weight_decay=weight_decay, fused=True, capturable=on_cuda)
        self.rate = rate
        # What a gradient scaler would tell the kernel: at 1 it leaves weights, moments and step count as they are.
        self.found_inf = torch.zeros((), device=device)

    def prepare(self, lr: Tensor, skip: Tensor) -> None:
        """Have the next step use this learning rate, or do nothing; both are scalars."""
        self.rate.copy_(lr)
        self.found_inf.copy_(skip)


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> DeviceAdamW | None:
    """AdamW with weight decay on matrices only: not on biases, norms, scales, activations or codebooks.

    None for a model without parameters that learn: EMA codebooks alone need no optimizer.
    """
    learned = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    decayed = {
        name
        for name, parameter in learned.items()
        if parameter.squeeze().ndim >= 2 and "codebooks" not in name  # squeezed: Snake's [C, 1] is no matrix
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


def average_share(decay: float, num_updates: int) -> float:
    """How far the EMA weights move in update number `num_updates`, 1 - decay in the long run.

    The first updates weigh more, (1 + n) / (10 + n) being the decay until it reaches `decay`, so that the random start
    is forgotten.
    """
    return 1 - min(decay, (1 + num_updates) / (10 + num_updates))


@torch.no_grad()
def average_weights(ema: list[Tensor], weights: list[Tensor], share: Tensor) -> None:
    """Move EMA parameters a share (scalar) of the way to the model's; `catch_up` does the rest of the model."""
    if ema:
        torch._foreach_lerp_(ema, weights, [share] * len(ema))


@torch.no_grad()
def catch_up(ema: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Copy what has no average into the EMA model, before it is used: buffers, and all where the decay is zero."""
    for mine, theirs in zip(ema.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)
    if decay == 0:
        for mine, theirs in zip(ema.parameters(), model.parameters(), strict=True):
            mine.copy_(theirs)


def forget_moments(optimizer: Optimizer, parameter: nn.Parameter, rows: Tensor) -> None:
    """Zero the Adam moments of the rows of a parameter that were set anew; `rows` is bool over its first axes."""
    for key in ("exp_avg", "exp_avg_sq"):
        if key in optimizer.state.get(parameter, {}):
            optimizer.state[parameter][key][rows] = 0.0
