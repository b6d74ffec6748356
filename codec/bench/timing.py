"""Time things beside each other: rounds in which each runs once, so that what slows the machine down slows all.

A shared machine is slow at times, for seconds or minutes. What was measured a minute apart can't be compared; what ran
in one round can, and the ratio of two times of the same round hardly depends on the machine.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from codec.environment import num_processors
from codec.errors import ConfigError

Task = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)
ALL = "all"
"""The word for as many threads as there are processors."""


class Spread(NamedTuple):
    """What several rounds gave: the median, and the quartiles between which half of them lie."""

    median: float
    quartile_1: float
    quartile_3: float
    num_rounds: int


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of at least one value."""
    first, median, third = np.percentile(values, [25, 50, 75]).tolist()
    return Spread(median, first, third, len(values))


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Spread of `above / below`, each pair from one round."""
    return spread([first / second for first, second in zip(above, below, strict=True)])


def interleave(
    tasks: Mapping[Name, Task], *, num_rounds: int, num_warm_up: int = 1, budget_s: float | None = None
) -> dict[Name, list[float]]:
    """Run every task once a round, and measure how long each takes (s).

    Every other round goes backwards, so that no task always follows the same one. The rounds before the first measured
    one fill caches and compile what is compiled late.

    Args:
        tasks: What to run, by name.
        num_rounds: Measured rounds.
        num_warm_up: Rounds before them.
        budget_s: Leave out rounds that would end later than that, but not the first two.
    """
    for _, task in itertools.product(range(num_warm_up), tasks.values()):
        task()
    seconds: dict[Name, list[float]] = {name: [] for name in tasks}
    start = time.perf_counter()
    for index in range(num_rounds):
        spent = time.perf_counter() - start
        if budget_s is not None and index >= 2 and spent * (index + 1) / index > budget_s:
            break
        for name in list(tasks)[:: 1 if index % 2 == 0 else -1]:
            seconds[name].append(clock(tasks[name]))
    return seconds


def clock(task: Task) -> float:
    """How long a task takes (s)."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


@contextlib.contextmanager
def using_threads(num_threads: int) -> Iterator[None]:
    """Let torch compute in so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count_threads(words: Sequence[str]) -> list[int]:
    """Numbers of threads from words like 1 and all, each once.

    Raises:
        ConfigError: A word is neither a number that this machine has processors for, nor "all".
    """
    available = num_processors()
    counts = []
    for word in words:
        count = available if word == ALL else int(word) if word.isdecimal() else 0
        if not 1 <= count <= available:
            raise ConfigError(f"threads {word!r}: give a number in 1 .. {available}, or {ALL}")
        counts.append(count)
    return list(dict.fromkeys(counts))
