"""codec-train: start or resume a training run."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from codec.cli.loading import find_device
from codec.cli.options import TrainOptions, override, override_keys, parse_training
from codec.errors import ConfigError
from codec.recipe import Recipe, load_recipe

EXTENDABLE = ("train.steps", "train.epochs", "train.max_minutes")  # what may change when a run goes on


def train(argv: Sequence[str], *, owns_process: bool = False) -> int:
    """Start or resume a training run; `train.max_minutes` counts from the start of the process that it owns."""
    options, overrides = parse_training(argv)
    recipe, run_dir = _settle_run(options, overrides)
    from codec.experiment import build_trainer
    from codec.train.engine import build_fabric
    from codec.train.rundir import check_new, holds_run, record_run
    from codec.train.stopwatch import process_began

    resumes = options.resume and holds_run(run_dir)
    if not resumes:
        check_new(run_dir)
    fabric = build_fabric(recipe.train.precision, find_device(options.device))
    began = process_began() if owns_process else None
    trainer = build_trainer(recipe, run_dir, fabric, began=began)  # finds bad data before there is a run directory
    bypass, steps = recipe.train.bypass_steps, trainer.num_steps
    if bypass >= steps and not options.init_from:
        raise ConfigError(f"train.bypass_steps {bypass} must be below train.steps, {steps}: no codebook would be set")
    if options.init_from:
        trainer.start_from(options.init_from)
    if resumes:
        trainer.resume()
    if fabric.is_global_zero:
        record_run(run_dir, recipe)
    try:
        trainer.fit()
    except KeyboardInterrupt:
        print(
            f"codec-train: interrupted; go on with  codec-train {options.recipe} --out {run_dir} --resume",
            file=sys.stderr,
        )
        return 130
    if fabric.is_global_zero:
        _describe_end(run_dir)
    return 0


def _describe_end(run_dir: Path) -> None:
    """Say what a run has left, and what one can do with it."""
    from codec.study.judge import RESULTS_FILE
    from codec.train.checkpoint import read_index

    for kind, name in sorted(read_index(run_dir).items()):
        print(f"{kind} checkpoint: {run_dir / 'checkpoints' / name}")
    if not (run_dir / RESULTS_FILE).exists():
        print(f"next: codec-encode talk.wav --model {run_dir}")
        return
    results = json.loads((run_dir / RESULTS_FILE).read_text(encoding="utf-8"))
    print(
        f"held-out distortion {results['held_out_distortion']:.4f} a dimension (Shannon's bound "
        f"{results['shannon_bound']:.4f}), {results['usage']:.1%} of the codes used, perplexity "
        f"{results['perplexity']:.0f}, {results['seconds']:.1f} s of training"
    )
    print(f"results: {run_dir / RESULTS_FILE}, pictures: {run_dir / 'figures'}")


def _settle_run(options: TrainOptions, overrides: Sequence[str]) -> tuple[Recipe, Path]:
    """Recipe with its overrides, and the run directory."""
    if options.resume and options.init_from:
        raise ConfigError("a resumed run has its own weights: give --resume or --init-from, not both")
    from codec.train.rundir import holds_run, read_run

    run_dir = options.out or Path("runs", override(load_recipe(options.recipe), overrides).name)
    if not (options.resume and holds_run(run_dir)):
        return override(load_recipe(options.recipe), overrides), run_dir
    fixed = [key for key in override_keys(overrides) if key not in EXTENDABLE]
    if fixed:
        allowed = " and ".join([", ".join(EXTENDABLE[:-1]), EXTENDABLE[-1]])
        raise ConfigError(f"--resume keeps the recipe of the run: only {allowed} can be given, not {fixed[0]}")
    return override(read_run(run_dir), overrides), run_dir
