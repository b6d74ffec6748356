"""Fair timing on a shared machine: all tasks run once in every round, and times of the same round are compared.

Other work slows such a machine down for seconds or minutes. Times taken a minute apart can't be compared; the ratio of
two times of one round hardly depends on the other work.
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
"""Stands for as many threads as there are processors."""


class Spread(NamedTuple):
    """Median and quartiles of a value over several rounds; half of the rounds lie between the quartiles."""

    median: float
    quartile_1: float
    quartile_3: float
    num_rounds: int


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of one or more values."""
    first, median, third = np.percentile(values, [25, 50, 75]).tolist()
    return Spread(median, first, third, len(values))


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Spread of `above / below`; each pair of values is from one round."""
    return spread([first / second for first, second in zip(above, below, strict=True)])


def interleave(
    tasks: Mapping[Name, Task], *, num_rounds: int, num_warm_up: int = 1, budget_s: float | None = None
) -> dict[Name, list[float]]:
    """Run every task once per round and return its times (s).

    The order is reversed in every other round, so no task always follows the same one.

    Args:
        tasks: The tasks, by name.
        num_rounds: Measured rounds.
        num_warm_up: Rounds before them, which fill caches and compile what is compiled on first use.
        budget_s: Time limit (s): rounds that would end later are left out, except for the first two.
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
    """Run a task and return the time it took (s)."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


@contextlib.contextmanager
def using_threads(num_threads: int) -> Iterator[None]:
    """Make torch compute with this number of threads, and restore the number before."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count_threads(words: Sequence[str]) -> list[int]:
    """Numbers of threads from words such as "1" and "all", each once.

    Raises:
        ConfigError: A word is neither "all" nor a number from 1 to the number of processors.
    """
    available = num_processors()
    counts = []
    for word in words:
        count = available if word == ALL else int(word) if word.isdecimal() else 0
        if not 1 <= count <= available:
            raise ConfigError(f"threads {word!r}: give a number in 1 .. {available}, or {ALL}")
        counts.append(count)
    return list(dict.fromkeys(counts))


def describe_threads(num_threads: int) -> str:
    """Write "1 thread" or "2 threads"."""
    return f"{num_threads} thread{'s' if num_threads > 1 else ''}"
