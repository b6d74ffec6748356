"""Runs tasks on Ray: on the processors of this machine, or on those of a cluster.

Ray Data passes the tasks to actors, each of which loads the model once. An actor that dies is started again, and Ray
repeats its task.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence

from codec.corpus.shards import Table
from codec.corpus.tokenizer import Settings, Tokenizer
from codec.errors import ConfigError, one_line, require
from codec.model.audio_codec import AudioCodec

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",
}
"""Nothing is reported to anybody, and nothing is logged that this program reports itself. Workers are not put behind
other programs: Ray gives them the niceness 15, and on a busy machine they took ten times as long."""
CONNECT_S = 10.0
"""Longest wait for a cluster to answer (s)."""
MAX_RETRIES = 3
"""Times that a task is repeated whose worker dies."""


class RayEngine:
    """Encodes on the workers of a Ray cluster, which lives until `close`, or which others have started.

    Args:
        address: Of a running cluster; None starts one on this machine.
        workers: Processes; None takes one for each GPU, or for each processor where the device is the CPU.
        device: "cpu" or "cuda"; "auto" is cuda if the cluster has GPUs.

    Raises:
        ConfigError: Ray is not installed, the cluster does not answer, or has not that many processors or GPUs.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, device: str = "auto") -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)  # before ray is imported: it reads some of them then
        if address is not None and address != "auto":
            _check_answers(address)
        self._ray = require("ray", "cluster")
        self._data = require("ray.data", "cluster")
        with _own_signals(), _quiet_start():
            self._start(address, workers)
        resources = self._ray.cluster_resources()
        self._on_gpu = device.startswith("cuda") or (device == "auto" and resources.get("GPU", 0) >= 1)
        kind = "GPU" if self._on_gpu else "CPU"
        available = int(resources.get(kind, 0))
        self.num_workers = workers or available
        if not 1 <= self.num_workers <= available:
            self.close()
            raise ConfigError(
                f"{workers or 'all'} workers, but the cluster has {available} of kind {kind}", workers=...
            )

    def _start(self, address: str | None, workers: int | None) -> None:
        logging.getLogger("ray").setLevel(logging.ERROR)
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
        try:
            if address is None:
                self._ray.init(num_cpus=workers, include_dashboard=False, **quiet)
            else:
                self._ray.init(address=address, **quiet)
        except Exception as error:  # Ray's are of many classes
            raise ConfigError(
                f"can't start Ray, or reach it at {address or 'this machine'}: {one_line(error)}"
            ) from error
        context = self._data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # a task whose worker died each time; the others go on
        logging.getLogger("ray.data").setLevel(logging.ERROR)

    def __call__(self, tasks: Sequence[Table], codec: AudioCodec, settings: Settings) -> Iterator[Table]:
        """Yield the results of tasks as they come in."""
        pool = self._data.ActorPoolStrategy(size=self.num_workers, max_tasks_in_flight_per_actor=1)
        with warnings.catch_warnings():  # Ray deprecates max_task_retries and has nothing else that bounds them
            warnings.simplefilter("ignore", DeprecationWarning)
            results = self._data.from_blocks(list(tasks)).map_batches(
                Tokenizer,
                fn_constructor_args=(codec, settings, "cuda" if self._on_gpu else "cpu"),
                batch_size=None,  # a task is a block, and a batch
                batch_format="pyarrow",
                compute=pool,
                max_task_retries=MAX_RETRIES,
                **({"num_gpus": 1} if self._on_gpu else {"num_cpus": 1}),
            )
        yield from results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)

    def close(self) -> None:
        """Leave the cluster, and end it if this process has started it."""
        self._ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise ConfigError unless something listens at an address: Ray would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Ray cluster answers at {address} ({error}): start it with  ray start --head") from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this program's answer to SIGTERM, which Ray replaces."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Drop what is written to standard error: Ray says there at which level it logs, whatever the level is."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no path
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
