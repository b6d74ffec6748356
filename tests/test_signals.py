"""Commands that are told to stop: what was done is kept, nothing half-written stays, the exit code names the signal."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_runs import TINY_RUN

from codec.cli.signals import Terminated, exit_code, raise_on_termination

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(main, *words, cwd, ignored=None, **how):
    """Run a command in a process of its own, where SIGINT works even if a parent of the tests ignores it."""
    ignore = "" if ignored is None else f"signal.signal({int(ignored)}, signal.SIG_IGN); "
    handle = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = f"{handle}{ignore}from codec import cli; cli.{main}()"
    command = [sys.executable, "-c", code, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, text=True, **pipes, **how)


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps_logged(folder):
    history = folder / "run/history.jsonl"
    return len(history.read_text().splitlines()) if history.exists() else 0


def stop_training(folder, number, *, ignored=None):
    words = [*TINY_RUN, "--train.steps", "1000000", "--train.log-every", "1"]
    process = start("train_main", *words, cwd=folder, ignored=ignored)
    wait_for(lambda: steps_logged(folder) >= 3, process)
    if ignored is not None:
        before = steps_logged(folder)
        process.send_signal(ignored)
        wait_for(lambda: steps_logged(folder) > before + 3, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def assert_saved(folder):
    """The last step that was logged, or one more, is saved and can be resumed."""
    index = json.loads((folder / "run/checkpoints/index.json").read_text())
    assert steps_logged(folder) - 1 <= int(index["last"].removeprefix("step-")) <= steps_logged(folder) + 1
    state = json.loads((folder / "run/checkpoints" / index["last"] / "state.json").read_text())
    resumed = start("train_main", *TINY_RUN[:5], "--resume", "--train.steps", state["step"] + 1, cwd=folder)
    _, errors = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, errors


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
def test_training_saves_and_exits_with_the_code_of_the_signal(tmp_path, number, code, word):
    returned, errors = stop_training(tmp_path, number)
    assert returned == code, errors
    assert errors.endswith(f"codec-train: {word}; go on with  codec-train quickstart --out run --resume\n")
    assert "Traceback" not in errors
    assert_saved(tmp_path)


def test_a_signal_to_the_whole_process_group_spares_the_workers(tmp_path):
    """Schedulers signal all processes of a job: the main one saves, and ends those that read ahead."""
    words = [*TINY_RUN, "--data.num-workers", "2", "--train.steps", "1000000", "--train.log-every", "1"]
    process = start("train_main", *words, cwd=tmp_path, start_new_session=True)
    wait_for(lambda: steps_logged(tmp_path) >= 3, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    assert_saved(tmp_path)


HANG_UP_ON_A_WORKER = """
import sys
from multiprocessing import resource_sharer
from multiprocessing.connection import Client
from codec.train.data.batches import _start_worker

if sys.argv[1] == "worker":
    _start_worker(0)
resource = resource_sharer.DupFd(0)
if sys.argv[2] == "fault":
    resource_sharer._resource_sharer._cache.clear()  # the thread then misses the key
    try:
        resource.detach()
    except (EOFError, OSError):
        pass
else:
    Client(resource._id[0]).close()  # before the keys are exchanged
resource_sharer.stop(timeout=30)
"""


@pytest.mark.parametrize(
    ("who", "what", "reported"),
    [
        ("worker", "hang-up", None),
        ("other", "hang-up", "Error"),
        ("worker", "fault", "KeyError"),
    ],
)
def test_a_worker_reports_faults_but_not_that_the_main_process_hung_up(who, what, reported):
    done = subprocess.run([sys.executable, "-c", HANG_UP_ON_A_WORKER, who, what], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert reported in done.stderr if reported else done.stderr == ""


def test_a_signal_that_the_parent_ignores_stays_ignored(tmp_path):
    returned, errors = stop_training(tmp_path, signal.SIGTERM, ignored=signal.SIGHUP)
    assert returned == 143, errors


def test_encoding_leaves_nothing_half_written(tmp_path):
    samples = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 600)
    soundfile.write(tmp_path / "long.wav", samples, 16_000)
    process = start("encode_main", "long.wav", cwd=tmp_path)
    wait_for(lambda: any(tmp_path.glob(".*.partial")), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors.splitlines()[-1] == "codec-encode: terminated"
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]


def test_the_exit_code_is_128_and_the_number():
    assert exit_code(KeyboardInterrupt()) == 130
    assert exit_code(Terminated(signal.SIGTERM)) == 143


def test_handlers_of_the_caller_are_kept():
    def mine(*_):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    try:
        raise_on_termination()
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
