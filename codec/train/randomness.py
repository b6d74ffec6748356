"""Everything random in training is a function of numbers such as (seed, purpose, step): no generator lives on."""

import numpy as np
import torch


def generator_of(*key: int) -> torch.Generator:
    """CPU generator that depends on the key alone: the same on every process, and after resuming."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))
