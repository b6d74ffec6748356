"""Everything random in training is a function of numbers such as (seed, purpose, step): no generator lives on."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from codec.config import FSQConfig, QuantizerConfig


def generator_of(*key: int) -> torch.Generator:
    """CPU generator that depends on the key alone: the same on every process, and after resuming."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


def draw_levels(quantizer: QuantizerConfig | FSQConfig, numbers: Iterable[int], *, seed: int) -> Tensor | None:
    """Quantizer dropout: with its probability an item uses a uniform number of levels, else all; `[B]`.

    None where all items use all. `numbers` are those of the items since the start of training.
    """
    if quantizer.quantizer_dropout == 0:
        return None
    levels = []
    for number in numbers:
        rng = np.random.default_rng((seed, 2, number))
        drop = rng.random() < quantizer.quantizer_dropout
        levels.append(int(rng.integers(1, quantizer.num_quantizers + 1)) if drop else quantizer.num_quantizers)
    return torch.tensor(levels)
