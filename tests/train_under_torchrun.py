"""What each process of the two-process test runs: `train_under_torchrun.py CLIPS RUNS`."""

import sys
from pathlib import Path

import gaussian_runs
from tiny_runs import distributed_recipe, make_trainer

if __name__ == "__main__":
    clips, runs = map(Path, sys.argv[1:])
    for update in ("ema", "gradient", "adversarial"):
        trainer = make_trainer(distributed_recipe(clips, update), runs / update)
        assert trainer.fabric.world_size == 2
        trainer.fit()
    for name in gaussian_runs.DISTRIBUTED:
        gaussian_runs.make_trainer(gaussian_runs.distributed_recipe(name), runs / name).fit()
