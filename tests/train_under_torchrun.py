"""What each process of the tests with two processes runs: `train_under_torchrun.py MODE ...`, see `test_ranks.py`."""

import hashlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

import gaussian_runs
from tiny_runs import distributed_recipe, make_trainer, tiny_recipe

from codec.cli import train_main
from codec.model.quantizer.codebooks import EMACodebooks
from codec.train.rundir import holds_run
from codec.train.trainer import Trainer

RANK = int(os.environ.get("RANK", "0"))
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link"}


def train_all(clips, runs):
    written = watch_files(runs)
    for name, recipe in recipes(clips).items():
        trainer = make_trainer(recipe, runs / name)
        assert trainer.fabric.world_size == 2
        if holds_run(runs / name):
            trainer.resume()
        numbers = record_numbers(trainer, last_step=3 if name == "to_one" else None)
        if name == "to_one":
            try:
                trainer.fit()
            except KeyboardInterrupt:
                assert trainer.saved_step == 3
        else:
            trainer.fit()
        evidence = {"numbers": numbers, "digests": digests(trainer), "written": written}
        (runs / f"{name}-{RANK}.json").write_text(json.dumps(evidence))
    for name in gaussian_runs.DISTRIBUTED:
        gaussian_runs.make_trainer(gaussian_runs.distributed_recipe(name), runs / name).fit()


def recipes(clips):
    """Recipes by the name of their run."""
    return {
        "ema": distributed_recipe(clips, "ema"),
        "gradient": distributed_recipe(clips, "gradient"),
        "adversarial": distributed_recipe(clips, "adversarial", train__checkpoint_every=1),
        "in_parts": distributed_recipe(clips, "adversarial", train__gradient_accumulation=2),
        "to_two": distributed_recipe(clips, "adversarial"),  # one process began it
        "to_one": distributed_recipe(clips, "adversarial", train__checkpoint_every=3),  # one process goes on
    }


def watch_files(folder):
    """List of the paths within the runs of a folder that this process writes, creates or removes from now on."""
    written = []

    def see(event, arguments):
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if (event == "open" or event in CHANGES) and str(arguments[0]).startswith(f"{folder}/"):
            inside = Path(str(arguments[0])).relative_to(folder)
            if len(inside.parts) > 1:
                written.append(str(inside))

    sys.addaudithook(see)
    return written


def record_numbers(trainer, last_step):
    """List of the numbers of the items of each step, filled as they run; stops before `last_step`."""
    numbers, step = [], trainer._step

    def recorded(batch, bar):
        if trainer.progress.step == last_step:
            raise KeyboardInterrupt
        numbers.append(batch.number.tolist())
        return step(batch, bar)

    trainer._step = recorded
    return numbers


def digests(trainer):
    """SHA-256 of every tensor that is trained, by name."""
    learner = trainer.learner
    models = {"codec": learner.codec, "ema": learner.ema}
    if learner.adversary is not None:
        models["discriminators"] = learner.adversary.discriminators
    return {
        f"{role}.{name}": hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for role, model in models.items()
        for name, tensor in model.state_dict().items()
    }


def be_killed(recipe, run_dir):
    """The command, with --resume; the second process dies by `kill -9` in its first and in its second attempt.

    First when all have done half of the fourth update, which no checkpoint may hold, then before the fifth step.
    """
    if RANK == 1:
        attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
        if attempt == 0:
            EMACodebooks.follow = dying(EMACodebooks.follow, 3)  # the first step has no codebooks
        else:
            Trainer._step = dying(Trainer._step, 3)
    sys.argv[1:] = [recipe, "--out", run_dir, "--resume", "--device", "cpu"]
    train_main()


def dying(function, number):
    """A function whose call of this number, from 1, kills the process."""
    calls = []

    def called(*arguments):
        calls.append(None)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)

    return called


def lose_processes(clips, runs):
    """Two runs of two processes that no launcher watches: in the first, process 0 fails, in the second process 1."""
    for failing in range(2):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        children = []
        for rank in range(2):
            children.append(os.fork())  # what is imported is shared
            if not children[-1]:
                os.environ.update(shared, LOCAL_RANK=str(rank))
                fail(clips, runs / str(failing), failing, rank)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert codes == [1, 1], codes


def fail(clips, run_dir, failing, rank):
    """Train with a checkpoint after every second step; one process raises before the sixth."""
    try:
        trainer = make_trainer(tiny_recipe(clips, train__steps=1000, train__checkpoint_every=2), run_dir)
        assert (trainer.fabric.global_rank, trainer.fabric.world_size) == (rank, 2)
        step = trainer._step

        def step_or_fail(batch, bar):
            if (rank, trainer.progress.step) == (failing, 5):
                raise RuntimeError("a process fails on purpose")
            return step(batch, bar)

        trainer._step = step_or_fail
        trainer.fit()
    except Exception as error:
        (run_dir / f"error-{rank}").write_text(f"{type(error).__name__}: {error}")
    finally:
        os._exit(1)


if __name__ == "__main__":
    mode, *words = sys.argv[1:]
    if mode == "kill":
        be_killed(*words)
    else:
        {"all": train_all, "lose": lose_processes}[mode](*map(Path, words))
