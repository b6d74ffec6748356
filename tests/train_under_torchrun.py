"""What each process of the tests with two processes runs: `train_under_torchrun.py MODE ...`, see `test_ranks.py`."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import gaussian_runs
from tiny_runs import distributed_recipe, make_trainer, tiny_recipe

from codec.cli import train_main
from codec.model.quantizer.codebooks import EMACodebooks
from codec.train.rundir import holds_run

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
    updates = {name: distributed_recipe(clips, name) for name in ("ema", "gradient", "adversarial")}
    return updates | {
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


def fail(clips, run_dir, failing_rank):
    """Train with a checkpoint after every second step; one process raises before the sixth."""
    trainer = make_trainer(tiny_recipe(clips, train__steps=1000, train__checkpoint_every=2), run_dir)
    assert trainer.fabric.world_size == 2
    step = trainer._step

    def step_or_fail(batch, bar):
        if (trainer.fabric.global_rank, trainer.progress.step) == (failing_rank, 5):
            raise RuntimeError("a process fails on purpose")
        return step(batch, bar)

    trainer._step = step_or_fail
    trainer.fit()


def be_killed(recipe, run_dir):
    """The command, with --resume; `kill -9` of the second process, when all have half done the fourth update."""
    if RANK == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        follow, calls = EMACodebooks.follow, []

        def killed(codebooks, statistics):
            calls.append(None)
            if len(calls) == 3:  # the first step has no codebooks
                os.kill(os.getpid(), signal.SIGKILL)
            return follow(codebooks, statistics)

        EMACodebooks.follow = killed
    sys.argv[1:] = [recipe, "--out", run_dir, "--resume", "--device", "cpu"]
    train_main()


if __name__ == "__main__":
    mode, *words = sys.argv[1:]
    if mode == "all":
        train_all(*map(Path, words))
    elif mode == "fail":
        fail(*words[:2], int(words[2]))
    else:
        be_killed(*words)
