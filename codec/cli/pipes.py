"""Pipes as input and output, by way of temporary files: audio and codes need files that can seek."""

import contextlib
import dataclasses
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from codec.cli.messages import message
from codec.cli.options import DecodeOptions, EncodeOptions
from codec.cli.output import Emit, FileError
from codec.errors import CodecError, ConfigError

Options = TypeVar("Options", EncodeOptions, DecodeOptions)

STANDARD_OUTPUT = ("-", "/dev/stdout")
MAGIC = {b"CODC": ".codec", b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"{": ".jsonl"}
"""Suffixes of files of codes by their first bytes; other files are audio."""


@contextlib.contextmanager
def piped(options: Options, default: str, emit: Emit) -> Iterator[tuple[Options, Emit]]:
    """Yield the options with temporary files in place of pipes, and `emit` with the names of pipes in place of files.

    At the end the output is copied to standard output, if that was named, or if the input is a pipe and no output was
    named. Nothing else is printed there: lines of results go to standard error.

    Args:
        options: Those of the command.
        default: Format of the output (a suffix without its dot) where none is given.
        emit: Prints the objects of --json.

    Raises:
        ConfigError: A pipe is one of several inputs, standard output serves several files, or JSON too, or it is a
            terminal.
    """
    inputs = tuple(map(Path, options.inputs))
    reads = any(map(_is_pipe, inputs))
    writes = options.output in STANDARD_OUTPUT or (reads and options.output is None)
    if not reads and not writes:
        yield options, emit
        return
    if writes and options.json:
        raise ConfigError("--json prints to standard output, and so would the result go there: name a file with -o")
    if len(inputs) != 1 or inputs[0].is_dir():
        raise ConfigError("a pipe takes one file: give one input, and no folder")
    if writes and sys.stdout.isatty():
        raise ConfigError("standard output is a terminal: name a file with -o")
    with tempfile.TemporaryDirectory(prefix="codec-") as folder:
        target = Path(folder, f"stdout.{options.format or default}")
        with _plain_names(folder, inputs[0]), contextlib.ExitStack() as stack:
            lines = stack.enter_context(contextlib.redirect_stdout(io.StringIO())) if writes else None
            spooled = dataclasses.replace(
                options,
                inputs=(str(_spool(inputs[0], Path(folder))),) if reads else options.inputs,
                output=str(target) if writes else options.output,
            )
            yield spooled, _with_name(emit, inputs[0], folder)
        if lines is not None:
            if not target.exists():
                raise ConfigError("there are several results: name a folder for them with -o")
            print(lines.getvalue().replace(f"{folder}/", ""), end="", file=sys.stderr)
            with target.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _is_pipe(path: Path) -> bool:
    return str(path) == "-" or path.parts[:2] == ("/", "dev") or path.is_fifo()


def _spool(path: Path, folder: Path) -> Path:
    """Copy a pipe to a file in a folder, whose suffix says which codes it holds."""
    spooled = folder / "stdin"
    try:
        with contextlib.ExitStack() as stack:
            pipe = sys.stdin.buffer if str(path) == "-" else stack.enter_context(path.open("rb"))
            shutil.copyfileobj(pipe, stack.enter_context(spooled.open("wb")))
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    with spooled.open("rb") as file:
        start = file.read(64).lstrip()
    suffix = next((suffix for magic, suffix in MAGIC.items() if start.startswith(magic)), "")
    return spooled.rename(spooled.with_suffix(suffix))


@contextlib.contextmanager
def _plain_names(folder: str, pipe: Path) -> Iterator[None]:
    """Leave the temporary folder out of errors."""
    try:
        yield
    except FileError as error:
        raise FileError(pipe, message(error).replace(f"{folder}/", "")) from error
    except CodecError as error:
        raise CodecError(message(error).replace(f"{folder}/", "")) from error


def _with_name(emit: Emit, pipe: Path, folder: str) -> Emit:
    """Print objects with the name of a pipe in place of that of its temporary file."""

    def emit_named(values: Mapping[str, Any]) -> None:
        error = (values.get("error") or "").replace(f"{folder}/", "")
        emit({**values, "path": pipe, "error": error or None})

    return emit_named
