"""Notes and warnings of a command on standard error, by way of `logging`: a caller can take them elsewhere."""

import contextlib
import logging
import sys
from collections.abc import Iterator

LOGGER = logging.getLogger("codec")
"""Parent of the loggers of all our modules. INFO is a note, WARNING a warning."""


class NoteHandler(logging.Handler):
    """Prints a note as `note: ...`, and a warning as `codec-encode: warning: ...`."""

    def __init__(self, prog: str) -> None:
        super().__init__(logging.INFO)
        self.prog = prog

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        kind = f"{self.prog}: warning" if record.levelno >= logging.WARNING else "note"
        print(f"{kind}: {record.getMessage()}", file=sys.stderr)


@contextlib.contextmanager
def notes_printed(prog: str) -> Iterator[None]:
    """Print what our modules log while a command runs, unless a level that is set for them keeps it back."""
    handler, level = NoteHandler(prog), LOGGER.level
    LOGGER.addHandler(handler)
    if level == logging.NOTSET:
        LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
