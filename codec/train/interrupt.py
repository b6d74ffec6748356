"""Ctrl-C at a moment that suits the loop: a step is done whole or not at all, so that what is saved can be resumed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupt_deferred() -> Iterator[None]:
    """Hold an interrupt (SIGINT) back until the block is done, then raise the KeyboardInterrupt.

    Only the main thread of a process receives signals; elsewhere the block runs as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt
