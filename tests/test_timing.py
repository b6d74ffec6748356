import os
import time

import pytest
import torch
from messages import one_line

from codec.bench.timing import Spread, clock, count_threads, interleave, ratios, spread, using_threads
from codec.environment import num_processors
from codec.errors import ConfigError


def test_spread_is_median_and_quartiles():
    assert spread([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0, 1)


def test_ratios_are_of_pairs():
    # The median of the pairs, not the ratio of the medians, 2 / 4.
    assert ratios([2.0, 2.0, 9.0], [1.0, 8.0, 4.0]).median == 2.0


def test_every_task_runs_once_a_round_and_every_other_round_backwards():
    ran = []
    tasks = {name: lambda name=name: ran.append(name) for name in "abc"}
    times = interleave(tasks, num_rounds=3, num_warm_up=2)
    assert "".join(ran) == "abcabc" + "abc" + "cba" + "abc"
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_times_are_of_their_task():
    times = interleave({"long": lambda: _busy(0.02), "short": lambda: None}, num_rounds=2)
    assert min(times["long"]) >= 0.02 > min(times["short"])


def test_a_budget_leaves_two_rounds():
    assert len(interleave({"a": lambda: _busy(0.01)}, num_rounds=50, budget_s=0.0)["a"]) == 2
    assert len(interleave({"a": lambda: _busy(0.01)}, num_rounds=3, budget_s=60.0)["a"]) == 3


def test_the_clock_measures_the_seconds_of_a_task():
    assert clock(lambda: _busy(0.01)) >= 0.01


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_count_threads():
    assert count_threads(["1", "all", "1"]) == list(dict.fromkeys([1, num_processors()]))
    assert 1 <= num_processors() <= os.cpu_count()


@pytest.mark.parametrize("word", ["0", "-1", "two", "1.5", "100000"])
def test_a_wrong_number_of_threads_is_refused(word):
    with pytest.raises(ConfigError, match=one_line("threads", f"'{word}'", "1 ..", "all")):
        count_threads([word])


def _busy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
