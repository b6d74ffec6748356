"""How long training itself took, without what is judged and saved in between; and when the process began."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def process_began() -> float:
    """When this process began, by `time.monotonic`: before its imports. Now, if the system does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, IndexError, ValueError):
        return time.monotonic()


class Stopwatch:
    """Stands still until it is started.

    Args:
        seconds: What it shows at first.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._shown = seconds
        self._started_at: float | None = None

    @property
    def seconds(self) -> float:
        """What it shows now."""
        return self._shown + (0.0 if self._started_at is None else time.monotonic() - self._started_at)

    def start(self) -> None:
        """Go on counting."""
        self._started_at = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still while a block runs."""
        self._shown, self._started_at = self.seconds, None
        try:
            yield
        finally:
            self.start()
