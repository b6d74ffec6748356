"""Signals between steps: a step runs completely or not at all, so the state that is saved can be resumed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def interrupt_deferred() -> Iterator[None]:
    """Delay Ctrl-C and the signals of schedulers (SIGTERM, SIGHUP) until the end of the block.

    Ignored signals stay ignored. Does nothing outside the main thread: only that one receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    deferred = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    for number in deferred:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield
    finally:
        for number, handler in deferred.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])
