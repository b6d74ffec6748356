"""Pairs of input and output files, planned before anything is read or written, and the loop over them (no torch)."""

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from codec.cli.messages import message
from codec.cli.output import Emit, FileError, print_nothing
from codec.errors import CodecError, ConfigError, DiskFullError
from codec.progress import progress_bar

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class Job(NamedTuple):
    """An input file and the output file to make of it."""

    source: Path
    target: Path


class Outcome(NamedTuple):
    """Report of a job."""

    line: str
    """Describes the file that was written."""
    lost: str = ""
    """Names the parts of a damaged file that could not be decoded."""
    objects: Sequence[Mapping[str, Any]] = ()
    """What --json prints of it: an object for each file that was written or could not be."""


def failure(error: CodecError) -> Outcome:
    """Report of a job, or of a part of it, that failed."""
    return Outcome("", message(error), [{"error": message(error)}])


def plan(
    inputs: Sequence[Path],
    output: str | None,
    readable: Collection[str],
    formats: Sequence[str],
    *,
    mark: str = "",
    overwrite: bool = False,
    skip: bool = False,
) -> list[Job]:
    """Pair every input file with its output.

    Without `output` a file's result lies beside it, `a/talk.wav` -> `a/talk.codec`. An `output` that is a folder, ends
    with a slash, or serves several inputs or a folder takes all results, and the tree below an input folder is kept.
    Otherwise it is the name of the one result, and its suffix decides the format. Inputs whose results would have the
    same name keep their suffix in it: `talk.wav` beside `talk.mp3` -> `talk.wav.codec` and `talk.mp3.codec`.

    Args:
        inputs: Files, and folders, which are searched for readable files (hidden ones are skipped).
        output: As the user wrote it; a slash at the end makes it a folder.
        readable: Suffixes to look for in folders, in lower case.
        formats: Suffixes that a result may have; the first is the default.
        mark: Comes before the suffix in derived names, like ".decoded".
        overwrite: Existing results may be replaced, but symbolic links only where `output` names them.
        skip: Results may exist: `leave_done` looks at them later.

    Raises:
        ConfigError: An input is missing, a folder holds nothing readable, two sources have the same result, a source is
            a result, or results exist already. Nothing has been written then.
    """
    check_inputs(inputs)
    if output is not None and not _is_folder(output, inputs):
        jobs = [Job(inputs[0], _named(output, formats))]
    else:
        sources = list(_sources(inputs, readable, formats))
        jobs = _with_distinct_names(sources, None if output is None else Path(output), f"{mark}{formats[0]}")
        linked = next((target for _, target in jobs if target.is_symlink()), None)
        if linked is not None and overwrite:
            raise ConfigError(f"{linked} is a symbolic link and is not replaced: remove it, or name it with -o")
    _check_distinct(jobs)
    check_outputs([job.target for job in jobs], overwrite or skip)
    return jobs


def visible_files(folder: Path) -> list[Path]:
    """Files below a folder, relative to it and sorted; hidden ones, and those in hidden folders, are left out."""
    inner = [path.relative_to(folder) for path in sorted(folder.rglob("*"))]
    visible = [path for path in inner if not any(part.startswith(".") for part in path.parts)]
    return [path for path in visible if (folder / path).is_file()]


def leave_done(prog: str, jobs: Sequence[Job], is_done: Callable[[Job], bool], emit: Emit = print_nothing) -> list[Job]:
    """The jobs without those whose result exists and is good; prints how many those are.

    Args:
        prog: The command.
        jobs: All of them.
        is_done: Whether the existing result of a job is complete. An error means that it is not.
        emit: Prints an object for each that is left out.
    """
    left = []
    for job in jobs:
        if job.target.exists() and attempt(is_done, job) is True:
            emit({"path": job.source, "output": job.target, "skipped": True})
        else:
            left.append(job)
    if len(left) < len(jobs):
        print(f"{prog}: {len(jobs) - len(left)} of {len(jobs)} files are done already", file=sys.stderr)
    return left


def run_jobs(prog: str, jobs: Sequence[Job], work: Callable[[Job], Outcome], emit: Emit = print_nothing) -> int:
    """Do every job and report it, see `report`."""
    return report(prog, jobs, ((number, attempt(work, job)) for number, job in enumerate(jobs)), emit)


def attempt(work: Callable[..., T], *given: Any) -> T | CodecError:
    """Result of the work, or its error: a bad file among several does not stop the others, whatever the error is."""
    try:
        return work(*given)
    except CodecError as error:
        return error
    except BrokenPipeError:  # nobody reads the results any more
        raise
    except Exception as error:
        unexpected = CodecError(f"unexpected {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        unexpected.__cause__ = error
        return unexpected


def report(
    prog: str,
    jobs: Sequence[Job],
    results: Iterable[tuple[int, Outcome | CodecError]],
    emit: Emit = print_nothing,
) -> int:
    """Print the line of every job to standard output, or its error to standard error, while the results come in.

    Args:
        prog: The command.
        jobs: All of them.
        results: Number of a job and its result, each job once, in any order. They are printed in the order of the jobs,
            as soon as all before them are known. The first full disk ends them.
        emit: Prints the objects of every job, for --json.

    Returns:
        Exit code: 0, or 1 if a file failed or is incomplete.

    Raises:
        FileError: The only job failed.
    """
    num_good = num_printed = 0
    known: dict[int, Outcome | CodecError] = {}
    untried = set(range(len(jobs)))
    # None: no bar unless standard error is a terminal. tqdm.write would draw the bar before its delay is over.
    hidden = len(jobs) == 1 or None
    with progress_bar(total=len(jobs), desc=prog, unit="file", delay=2, leave=False, hidden=hidden) as bar:
        for number, result in results:
            known[number] = result
            untried.discard(number)
            bar.update()
            bar.clear()
            while num_printed in known:
                num_good += _print(prog, jobs[num_printed], known.pop(num_printed), emit, alone=len(jobs) == 1)
                num_printed += 1
            if isinstance(result, DiskFullError):  # the jobs after it would fail too
                break
    num_good += sum(_print(prog, jobs[number], known[number], emit) for number in sorted(known))
    for number in sorted(untried):
        emit({"path": jobs[number].source, "error": "not tried: the disk is full"})
    num_bad = len(jobs) - num_good
    if num_bad and len(jobs) > 1:
        print(f"{prog}: {num_bad} of {len(jobs)} files failed, are incomplete or were not tried", file=sys.stderr)
    return 1 if num_bad else 0


def _print(prog: str, job: Job, result: Outcome | CodecError, emit: Emit, *, alone: bool = False) -> bool:
    """Print the result of a job; True if it succeeded."""
    if isinstance(result, CodecError):
        if alone:
            raise FileError(job.source, _about(job.source, message(result))) from result
        result = failure(result)
    if result.line:
        print(result.line, flush=True)
    for values in result.objects:
        emit({"path": job.source, **values})
    if result.lost:
        print(f"{prog}: {_about(job.source, result.lost)}", file=sys.stderr)
    return not result.lost


def _about(source: Path, reason: str) -> str:
    """The reason, preceded by the name of the file unless it contains it."""
    named = re.search(rf"(^|\s){re.escape(str(source))}($|[\s:;,])", reason)
    return reason if named else f"{source}: {reason}"


def check_inputs(inputs: Sequence[Path]) -> None:
    """Raise ConfigError unless there are inputs and all exist."""
    if not inputs:
        raise ConfigError("nothing to do: give files or folders, or --help")
    for path in inputs:
        if not path.exists():
            raise ConfigError(f"no file or folder {path}")


def check_outputs(targets: Sequence[Path], overwrite: bool) -> None:
    """Raise ConfigError if a target is a folder, or exists (a dangling link too) and may not be replaced."""
    for target in targets:
        if target.is_dir():
            raise ConfigError(f"{target} is a folder, but a file of that name is to be written")
    existing = [target for target in targets if os.path.lexists(target)]
    if existing and not overwrite:
        others = f" ({len(existing)} of {len(targets)} files are)" if len(targets) > 1 else ""
        raise ConfigError(f"{existing[0]} is already there{others}: give --overwrite or another name with -o")


def _is_folder(output: str, inputs: Sequence[Path]) -> bool:
    separators = (os.sep, os.altsep or os.sep)
    return Path(output).is_dir() or output.endswith(separators) or len(inputs) > 1 or inputs[0].is_dir()


def _named(output: str, formats: Sequence[str]) -> Path:
    target = Path(output)
    if target.suffix.lower() not in formats:
        raise ConfigError(f"{output} must end with {' or '.join(formats)}, or with / if it is to be a folder")
    return target


def _sources(
    inputs: Sequence[Path], readable: Collection[str], formats: Collection[str]
) -> Iterator[tuple[Path, Path]]:
    """Every source, with its folder relative to the input folder; a note tells of other files in input folders."""
    others: Counter[str] = Counter()
    for path in inputs:
        if not path.is_dir():
            yield path, Path()
            continue
        files = visible_files(path)
        found = [file for file in files if file.suffix.lower() in readable]
        if not found:
            raise ConfigError(f"nothing to do in {path}: it holds no {' '.join(readable)}")
        others.update(file.suffix.lower() for file in files if file.suffix.lower() not in (*readable, *formats))
        yield from ((path / file, file.parent) for file in found)
    if others:
        suffixes = " ".join(sorted(suffix or "no suffix" for suffix in others))
        files_of = "1 file of another type" if others.total() == 1 else f"{others.total()} files of other types"
        _logger.info("%s left out: %s", files_of, suffixes)


def _with_distinct_names(sources: Sequence[tuple[Path, Path]], output: Path | None, ending: str) -> list[Job]:
    """Derive a target for each source; where several have the same, the name of the source keeps its suffix."""
    targets = [(source.parent if output is None else output / inner) / source.stem for source, inner in sources]
    uses = Counter(target.resolve() for target in targets)
    clashing = [uses[target.resolve()] > 1 for target in targets]
    return [
        Job(source, target.with_name(f"{source.name if clashes else source.stem}{ending}"))
        for (source, _), target, clashes in zip(sources, targets, clashing, strict=True)
    ]


def _check_distinct(jobs: Sequence[Job]) -> None:
    source_of: dict[Path, Path] = {}
    for source, target in jobs:
        other = source_of.setdefault(target.resolve(), source)
        if other is not source:
            raise ConfigError(f"{other} and {source} would both become {target}: give them in separate runs")
    for source, _ in jobs:
        if source.resolve() in source_of:
            raise ConfigError(f"{source} would be overwritten by its own run: give another name with -o")
