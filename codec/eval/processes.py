"""Files judged one after the other, or in several processes side by side.

The results are the same: those of a process with one thread. More threads may add up in another order, and change the
last digits of a score.
"""

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from codec.environment import num_processors
from codec.errors import ConfigError
from codec.eval.file_judge import FileJudge, FileResult
from codec.onnx.engine import OnnxCodec

_judge: FileJudge | None = None  # of a worker process, which gets it once, not with every file


def check_jobs(jobs: int) -> None:
    """Raise ConfigError unless `jobs` is a number of processes."""
    if jobs < 0:
        raise ConfigError(f"jobs is {jobs}, but must be at least 0")


def judge_files(judge: FileJudge, paths: Sequence[Path], jobs: int) -> Iterator[FileResult]:
    """Judge files, in their order.

    Args:
        judge: On the CPU if there are several processes.
        paths: Audio files.
        jobs: Processes, each of which computes with one thread; 1 is this process with its threads, 0 one a processor.

    Raises:
        ConfigError: The codec can't be sent to other processes: it is on another device or in mode onnx; or `jobs` is
            negative.
        CodecError: As for `FileJudge`.
    """
    check_jobs(jobs)
    jobs = min(jobs or num_processors(), len(paths))
    if jobs <= 1:
        yield from map(judge, paths)
        return
    device = judge.codec.device
    if device.type != "cpu":
        raise ConfigError(f"several processes judge on the CPU, not on {device}", device="cpu", jobs=1)
    if isinstance(judge.codec, OnnxCodec):
        raise ConfigError("a model in mode onnx can't be sent to other processes", jobs=1)
    # Not forked: a copy of a process whose threads have computed may hang as soon as it computes itself.
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (judge,))
    try:
        yield from pool.map(_judge_file, paths)
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(judge: FileJudge) -> None:
    global _judge
    _judge = judge
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process is told too, and ends the others


def _judge_file(path: Path) -> FileResult:
    assert _judge is not None
    return _judge(path)
