import subprocess
import sys
import time

import pytest

import codec.train.stopwatch as stopwatch_module
from codec.train.stopwatch import Stopwatch, process_began


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand: clock[0] is now."""
    now = [100.0]
    monkeypatch.setattr(stopwatch_module.time, "monotonic", lambda: now[0])
    return now


def test_it_does_not_count_before_it_is_started(clock):
    stopwatch = Stopwatch(5.0)
    clock[0] += 9
    assert stopwatch.seconds == 5.0
    stopwatch.start()
    clock[0] += 2
    assert stopwatch.seconds == 7.0


def test_a_pause_does_not_count(clock):
    stopwatch = Stopwatch()
    stopwatch.start()
    clock[0] += 1
    with pytest.raises(KeyError), stopwatch.paused():
        clock[0] += 10
        assert stopwatch.seconds == 1.0
        raise KeyError
    clock[0] += 2
    assert stopwatch.seconds == 3.0


def test_a_process_began_before_its_imports():
    imports = "from codec.train.stopwatch import process_began"
    code = f"import time; began = time.monotonic(); {imports}; print(began - process_began())"
    before = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert -0.02 <= float(result.stdout) <= time.monotonic() - before  # its clock has ticks of 10 ms
    assert abs(process_began() - process_began()) < 0.05
