"""What each process of the two-process test runs: `train_under_torchrun.py CLIPS RUN UPDATE`."""

import sys
from pathlib import Path

from runs import distributed_recipe, make_trainer

if __name__ == "__main__":
    clips, run_dir, update = sys.argv[1:]
    trainer = make_trainer(distributed_recipe(Path(clips), update), run_dir)
    assert trainer.fabric.world_size == 2
    trainer.fit()
