"""Judge files in this process or in several.

The results of several processes equal those of one with a single thread. With more threads, sums are added in another
order, which changes the last digits of a score.
"""

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from pathlib import Path

import torch

from codec.environment import num_processors
from codec.errors import AudioError, ConfigError
from codec.eval.file_judge import FileJudge, FileResult
from codec.eval.systems.ours import OurCodec
from codec.onnx.engine import OnnxCodec

_judge: FileJudge | None = None  # of a worker process, which receives it once instead of with every file


def check_jobs(jobs: int) -> None:
    """Raise ConfigError unless `jobs` is a number of processes."""
    if jobs < 0:
        raise ConfigError(f"jobs is {jobs}, but must be at least 0")


def judge_files(judge: FileJudge, paths: Sequence[Path], jobs: int) -> Iterator[FileResult | AudioError]:
    """Judge files; the results are in the order of the files. A file that can't be read gives its error.

    Args:
        judge: With models on the CPU if there are several processes.
        paths: Audio files.
        jobs: Processes with one thread each; 1 is this process with its threads, 0 one per processor.

    Raises:
        ConfigError: `jobs` is negative, a process was killed, or a model can't be sent to other processes because it is
            on another device or in mode onnx. Also as for `FileJudge`.
    """
    check_jobs(jobs)
    jobs = min(jobs or num_processors(), len(paths))
    if jobs <= 1:
        for path in paths:
            yield _attempt(judge, path)
        return
    for system in judge.systems:
        if isinstance(system, OurCodec):
            _check_can_be_sent(system)
    # Spawned, not forked: a fork of a process whose threads have computed may hang when it computes.
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (judge,))
    try:
        yield from pool.map(_judge_file, paths)
    except BrokenProcessPool as error:
        raise ConfigError("a process was killed, or ran out of memory: use fewer of them", jobs=1) from error
    except BaseException:  # do not wait for the files that they are at
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _check_can_be_sent(system: OurCodec) -> None:
    """Raise ConfigError unless a model can be sent to other processes."""
    if system.model.device.type != "cpu":
        raise ConfigError(f"several processes judge on the CPU, not on {system.model.device}", device="cpu", jobs=1)
    if isinstance(system.model, OnnxCodec):
        raise ConfigError("a model in mode onnx can't be sent to other processes", jobs=1)


def _start_worker(judge: FileJudge) -> None:
    global _judge
    _judge = judge
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too and ends the workers


def _judge_file(path: Path) -> FileResult | AudioError:
    assert _judge is not None
    return _attempt(_judge, path)


def _attempt(judge: FileJudge, path: Path) -> FileResult | AudioError:
    try:
        return judge(path)
    except AudioError as error:
        return error if str(path) in str(error) else AudioError(f"{path}: {error}")
