"""The time that training takes without validation and saving, and the time at which the process started."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def process_began() -> float:
    """Start of this process before its imports, by `time.monotonic`; the present time if the system is not Linux."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, IndexError, ValueError):
        return time.monotonic()


class Stopwatch:
    """A clock that can be paused; it stands still until it is started.

    Args:
        seconds: Time it shows at first.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._shown = seconds
        self._started_at: float | None = None

    @property
    def seconds(self) -> float:
        """Time it shows now."""
        return self._shown + (0.0 if self._started_at is None else time.monotonic() - self._started_at)

    def start(self) -> None:
        """Start or continue to count."""
        self._started_at = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop while the block runs."""
        self._shown, self._started_at = self.seconds, None
        try:
            yield
        finally:
            self.start()
