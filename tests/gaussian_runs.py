"""Short runs of the Gaussian recipes: the shipped ones, with fewer and shorter vectors."""

import json
from pathlib import Path

import tiny_runs

from codec.cli.command_line import override
from codec.cli.train import parse_training
from codec.recipe import load_recipe
from codec.train.rundir import record_run

# 16 dimensions at 6 bits: Shannon's bound is 2^(-12/16) = 0.5946
SHORT = [
    *("--codec.latent-dim", "16", "--codec.quantizer.codebook-size", "64"),
    *("--data.num-vectors", "2000", "--data.num-held-out", "50000"),
    *("--train.epochs", "15", "--train.batch-size", "100"),
    *("--train.init-batches", "20", "--train.validate-every", "100"),
]
SHANNON_BOUND = 2 ** (-12 / 16)


def short_recipe(name, *words):
    """A shipped recipe made short; further words as on the command line."""
    short = SHORT if load_recipe(name).codec.quantizer.kind == "vector" else [*SHORT[:2], *SHORT[4:]]
    _, changes = parse_training([name, *short, *words])
    return override(load_recipe(name), changes)


DISTRIBUTED = ("gaussian_vq", "gaussian_vq_ema")


def distributed_recipe(name):
    """Five steps in which codewords die."""
    few = ["--data.num-vectors", "500", "--train.epochs", "1", "--train.init-batches", "5", "--train.init", "kmeans"]
    return short_recipe(name, *few, "--codec.quantizer.dead-threshold", "0.9", "--codec.quantizer.decay", "0.7")


def start(recipe, run_dir, *, pictures=False):
    """Return the trainer of a new run in this process; pictures take longer than the training."""
    record_run(Path(run_dir), recipe)
    return make_trainer(recipe, run_dir, pictures=pictures)


def make_trainer(recipe, run_dir, *, pictures=False):
    trainer = tiny_runs.make_trainer(recipe, run_dir)
    if not pictures:
        trainer.judge._figures = lambda *_: iter(())
    return trainer


def train(recipe, run_dir, *, pictures=False):
    """Run a recipe in this process and return its trainer."""
    trainer = start(recipe, run_dir, pictures=pictures)
    trainer.fit()
    return trainer


def results_of(run_dir):
    return json.loads((Path(run_dir) / "results.json").read_text(encoding="utf-8"))
