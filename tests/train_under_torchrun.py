"""What each process of the tests with two processes runs: `train_under_torchrun.py CLIPS RUNS [FAILING_RANK]`."""

import sys
from pathlib import Path

import gaussian_runs
from tiny_runs import distributed_recipe, make_trainer, tiny_recipe


def train_all(clips, runs):
    for update in ("ema", "gradient", "adversarial"):
        trainer = make_trainer(distributed_recipe(clips, update), runs / update)
        assert trainer.fabric.world_size == 2
        trainer.fit()
    for name in gaussian_runs.DISTRIBUTED:
        gaussian_runs.make_trainer(gaussian_runs.distributed_recipe(name), runs / name).fit()


def fail_in_the_middle(clips, run_dir, failing_rank):
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


if __name__ == "__main__":
    clips, runs = map(Path, sys.argv[1:3])
    if len(sys.argv) > 3:
        fail_in_the_middle(clips, runs, int(sys.argv[3]))
    else:
        train_all(clips, runs)
