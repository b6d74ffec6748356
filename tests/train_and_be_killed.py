"""Kills training by `kill -9` at random moments: `train_and_be_killed.py RECIPE RUNS NUMBER SEED`.

Runs the command in forked processes, which share the imports: once undisturbed in RUNS/whole, then so often in RUNS/0,
RUNS/1, ..., where each run is killed and resumed. Prints the last checkpoint of each run when it was killed.
"""

import io
import json
import os
import random
import shutil
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import codec.cli.train
import codec.experiment  # noqa: F401  # what the command imports, before the forks
from codec.cli import train_main
from codec.train.checkpoint import read_index


def train(recipe, run):
    """Start the command in a child; returns its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with redirect_stderr(io.StringIO()) as errors, redirect_stdout(io.StringIO()):
            train_main([str(recipe), "--out", str(run), "--resume", "--device", "cpu"])
    except SystemExit as end:
        code = end.code
    finally:
        if code:
            print(errors.getvalue(), file=sys.stderr)
        os._exit(code)


def wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(recipe, runs, number, seed):
    began = time.monotonic()
    assert wait(train(recipe, runs / "whole")) == 0
    duration = time.monotonic() - began
    moments, steps = random.Random(seed), []
    while len(steps) < number:
        run = runs / str(len(steps))
        child = train(recipe, run)
        moment = moments.uniform(0, duration)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        code = wait(child)
        if code != -signal.SIGKILL:  # it had ended: the first run was disturbed by other work
            assert code == 0
            duration = moment
            shutil.rmtree(run)
            continue
        steps.append(read_index(run).get("last"))
        assert wait(train(recipe, run)) == 0
    print(json.dumps(steps))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
