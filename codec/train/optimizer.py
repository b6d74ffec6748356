"""AdamW with linear warm-up and cosine decay, revived rows, and the moving average of the weights."""

import math

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from codec.recipe import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> AdamW | None:
    """AdamW with weight decay on matrices only: not on biases, norms, scales, activations or codebooks.

    None for a model without parameters: EMA codebooks alone learn without an optimizer.
    """
    decayed = {
        name
        for name, parameter in model.named_parameters()
        if parameter.squeeze().ndim >= 2 and "codebooks" not in name  # squeezed: Snake's [C, 1] is no matrix
    }
    groups = [
        {
            "params": [p for name, p in model.named_parameters() if name in decayed],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for name, p in model.named_parameters() if name not in decayed], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return AdamW(groups, lr=config.lr, betas=config.betas, fused=True) if groups else None


def learning_rate(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """Learning rate of step 0 .. num_steps - 1: linear up to `lr`, then half a cosine down to `final_lr`."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(num_steps - config.warmup_steps, 1)
    return config.final_lr + (config.lr - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@torch.no_grad()
def average_weights(averaged: list[Tensor], weights: list[Tensor], *, decay: float, num_updates: int) -> None:
    """Move averaged parameters towards those of the model; what has no average, `catch_up` brings up to date.

    The first updates weigh more, (1 + n) / (10 + n) being the decay until it reaches `decay`, so that the random start
    is forgotten.
    """
    decay = min(decay, (1 + num_updates) / (10 + num_updates))
    if averaged and decay > 0:
        torch._foreach_lerp_(averaged, weights, 1 - decay)


@torch.no_grad()
def catch_up(averaged: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Copy what has no average into the averaged model, before it is used: buffers, and all where the decay is zero."""
    for mine, theirs in zip(averaged.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)
    if decay == 0:
        for mine, theirs in zip(averaged.parameters(), model.parameters(), strict=True):
            mine.copy_(theirs)


def forget_moments(optimizer: Optimizer, parameter: nn.Parameter, rows: Tensor) -> None:
    """Zero the Adam moments of the rows of a parameter that were set anew; `rows` is bool over its first axes."""
    for key in ("exp_avg", "exp_avg_sq"):
        if key in optimizer.state.get(parameter, {}):
            optimizer.state[parameter][key][rows] = 0.0
