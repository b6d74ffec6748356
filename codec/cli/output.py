"""What a command prints: text for people, or with --json one object a line for programs."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from codec.cli.messages import message
from codec.cli.program_options import ProgramOptions
from codec.errors import CodecError
from codec.jsonfile import json_line
from codec.progress import displayed

Emit = Callable[[Mapping[str, Any]], None]
"""Prints a result as a JSON object; does nothing without --json."""


class FileError(CodecError):
    """The error of one input, where there is no other."""

    def __init__(self, path: Path, fact: str) -> None:
        super().__init__(fact)
        self.path = path


def print_nothing(_: Mapping[str, Any]) -> None:
    """The `Emit` of a command that prints text."""


@contextlib.contextmanager
def output(options: ProgramOptions) -> Iterator[Emit]:
    """Yield the function that prints results as JSON, and show progress as the options say.

    With --json nothing else gets to standard output: what is printed there meanwhile, by whatever library, is left out.
    An error that ends the command is an object too, and goes on.
    """
    with displayed(options.progress), contextlib.ExitStack() as stack:
        if not options.json:
            yield print_nothing
            return
        stream = sys.stdout

        def emit(values: Mapping[str, Any]) -> None:
            print(json_line({**values, "error": values.get("error")}), file=stream, flush=True)

        nowhere = stack.enter_context(open(os.devnull, "w", errors="replace"))  # noqa: PTH123 - no path
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            yield emit
        except BrokenPipeError:  # nobody reads the objects any more
            raise
        except (CodecError, OSError) as error:
            named = {"path": error.path} if isinstance(error, FileError) else {}
            emit({**named, "error": message(error)})
            raise
