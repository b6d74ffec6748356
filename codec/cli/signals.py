"""Termination signals as exceptions: a command cleans up, then exits with the code that shells expect."""

import signal
from types import FrameType
from typing import NoReturn

NAMES = {signal.SIGTERM: "terminated"} | ({signal.SIGHUP: "hung up"} if hasattr(signal, "SIGHUP") else {})


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP was received; handled like Ctrl-C wherever that is."""

    def __init__(self, number: int) -> None:
        super().__init__(NAMES[signal.Signals(number)])
        self.number = number


def raise_on_termination() -> None:
    """Raise `Terminated` in the main thread on SIGTERM and SIGHUP; a signal that the parent ignores stays ignored."""
    for number in NAMES:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def let_termination_kill() -> None:
    """Let SIGTERM and SIGHUP end the process at once: all is written, and an exception would only leave a trace."""
    for number in NAMES:
        if signal.getsignal(number) is _raise:
            signal.signal(number, signal.SIG_DFL)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """128 plus the number of the signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT)


def _raise(number: int, _: FrameType | None) -> NoReturn:
    raise Terminated(number)
