"""The commands: codec-train, -encode, -decode, -eval, -inspect, -compare, -bench, -export and -release.

Results go to standard output, notes and progress to standard error. Exit codes: 0 success; 1 some files failed or are
incomplete, and are named; 2 failure, with the reason in one line; 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP, 141 nobody
reads standard output any more. Each entry point loads only the module of its command, and modules that need torch are
imported where they are used: --help and errors in options are fast.
"""

import functools
import io
import itertools
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from codec.cli.messages import message
from codec.cli.notes import LOGGER, notes_printed
from codec.cli.signals import exit_code, let_termination_kill, raise_on_termination
from codec.errors import CodecError


def train_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-train."""
    from codec.cli.train import train

    _run("codec-train", functools.partial(train, owns_process=argv is None), argv)


def encode_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-encode."""
    from codec.cli.encode import encode

    _run("codec-encode", encode, argv)


def decode_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-decode."""
    from codec.cli.decode import decode

    _run("codec-decode", decode, argv)


def eval_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-eval."""
    from codec.cli.evaluate import evaluate

    _run("codec-eval", evaluate, argv)


def inspect_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-inspect."""
    from codec.cli.inspect import inspect

    _run("codec-inspect", inspect, argv)


def compare_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-compare."""
    from codec.cli.compare import compare

    _run("codec-compare", compare, argv)


def bench_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-bench."""
    from codec.cli.bench import bench

    _run("codec-bench", bench, argv)


def export_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-export."""
    from codec.cli.export import export

    _run("codec-export", export, argv)


def release_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-release."""
    from codec.cli.release import release

    _run("codec-release", release, argv)


def _run(prog: str, command: Callable[[Sequence[str]], int], argv: Sequence[str] | None) -> NoReturn:
    """Run a command and exit; an error that a user can cause is one line, with options as remedies."""
    if argv is None:  # the command owns the process
        raise_on_termination()
        _set_up_streams()
        _silence_tensorboard()
    words = sys.argv[1:] if argv is None else argv
    try:
        try:
            with notes_printed(prog):
                code = command(words) if (answer := _about(prog, words)) is None else answer
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has left, as `head` does: end as quietly as SIGPIPE ends others
        code = 141
        if argv is None:  # else Python complains when it flushes the stream at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (CodecError, OSError) as error:  # OSError: not foreseen by any module, such as a full disk under a log
        print(f"{prog}: {message(error)}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt as interrupt:
        print(f"{prog}: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        code = exit_code(interrupt)
    let_termination_kill()
    sys.exit(code)


def _about(prog: str, words: Sequence[str]) -> int | None:
    """Answer a question about the command itself, by --version or --completion SHELL; None if there is none."""
    own = list(itertools.takewhile(lambda word: word != "--", words))
    if "--version" in own:
        print(f"{prog} {metadata.version('codec')}")
    elif "--completion" in own:
        from codec.cli.completion import completion_script

        print(completion_script(prog, "".join(own[own.index("--completion") + 1 :][:1])), end="")
    else:
        return None
    return 0


def _silence_tensorboard() -> None:
    """Print no trace of an error in the thread of tensorboard: the next call of tensorboard raises it again."""
    show = threading.excepthook

    def show_others(args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith("tensorboard"):
            show(args)

    threading.excepthook = show_others


def _set_up_streams() -> None:
    """Print names that the terminal can't encode with escapes, and log our own warnings."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    show = warnings.showwarning
    package = str(Path(__file__).parents[1])

    def show_ours(text: Warning | str, category: type[Warning], filename: str, *where: Any) -> None:
        if filename.startswith(package) and issubclass(category, UserWarning):
            LOGGER.warning("%s", text)
        else:
            show(text, category, filename, *where)

    warnings.showwarning = show_ours  # type: ignore[assignment]
