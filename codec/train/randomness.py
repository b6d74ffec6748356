"""Randomness of training as a function of a key such as (seed, purpose, step): no generator keeps a state."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from codec.config import FSQConfig, QuantizerConfig


def generator_of(*key: int) -> torch.Generator:
    """CPU generator seeded by a key: the same in every process and after resuming."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


def draw_num_active(quantizer: QuantizerConfig | FSQConfig, numbers: Iterable[int], *, seed: int) -> Tensor | None:
    """Draw the number of levels of each item for quantizer dropout (SoundStream, arXiv:2107.03312, section III-C).

    Args:
        quantizer: Gives the probability that an item uses a uniform number of levels instead of all.
        numbers: Numbers of the items since the start of training.
        seed: Seed of the run.

    Returns:
        int64 `[B]`, 1 .. K; None without quantizer dropout.
    """
    if quantizer.quantizer_dropout == 0:
        return None
    num_active = []
    for number in numbers:
        rng = np.random.default_rng((seed, 2, number))
        drop = rng.random() < quantizer.quantizer_dropout
        num_active.append(int(rng.integers(1, quantizer.num_quantizers + 1)) if drop else quantizer.num_quantizers)
    return torch.tensor(num_active)
