"""codec-train: start or resume a training run."""

import contextlib
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec.cli.command_line import HELP, Changes, override, parse_with_recipe, print_help
from codec.cli.loading import find_device
from codec.cli.options import TrainOptions
from codec.cli.output import Emit, output
from codec.cli.signals import exit_code
from codec.config import shipped
from codec.errors import ConfigError
from codec.jsonfile import read_json
from codec.recipe import Recipe, load_recipe, with_absolute_root

if TYPE_CHECKING:
    from codec.train.trainer import Trainer

CHANGEABLE = (
    *("train.steps", "train.epochs", "train.max_minutes", "train.gradient_accumulation"),
    *("data.root", "data.train", "data.valid", "data.download", "data.num_workers"),
)
"""Values that may change when a run is resumed: its length, how a batch is run, and where the data lies."""


def train(argv: Sequence[str], *, owns_process: bool = False) -> int:
    """Start or resume a training run; `train.max_minutes` counts from the start of the process if it owns it."""
    options, changes = parse_training(argv)
    with output(options) as emit:
        return _train(options, changes, emit, owns_process)


def _train(options: TrainOptions, changes: Changes, emit: Emit, owns_process: bool) -> int:
    if options.resume and options.init_from:
        raise ConfigError("a resumed run has its own weights: give --resume or --init-from, not both")
    recipe, run_dir, resumes = _settle_run(options, changes)
    from codec.experiment import build_trainer
    from codec.train.engine import build_fabric
    from codec.train.rundir import check_new, lock_run, record_run
    from codec.train.stopwatch import process_began

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
    with lock_run(run_dir) if fabric.is_global_zero else contextlib.nullcontext():
        if resumes:
            trainer.resume()
        if fabric.is_global_zero:
            record_run(run_dir, recipe)
        try:
            trainer.fit()
        except KeyboardInterrupt as interrupt:
            what, resume = str(interrupt) or "interrupted", f"codec-train {options.recipe} --out {run_dir} --resume"
            print(f"codec-train: {what}; go on with  {resume}", file=sys.stderr)
            if options.json:
                emit(_result(run_dir, trainer) | {"error": what})
            return exit_code(interrupt)
    if fabric.is_global_zero:
        _describe_end(run_dir)
        if options.json:
            emit(_result(run_dir, trainer))
    return 0


def _result(run_dir: Path, trainer: "Trainer") -> dict[str, Any]:
    """What --json prints of a run."""
    from codec.model.digest import model_identity
    from codec.study.judge import RESULTS_FILE
    from codec.train.checkpoint import read_index
    from codec.train.rundir import HISTORY_FILE
    from codec.train.tracking import read_history
    from codec.train.validation import REPORT_FOLDER

    history = run_dir / HISTORY_FILE
    records = list(read_history(history)) if history.exists() else []
    checkpoints = {kind: run_dir / "checkpoints" / name for kind, name in read_index(run_dir).items()}
    results, report = run_dir / RESULTS_FILE, run_dir / REPORT_FOLDER / "index.html"
    return {
        "run_dir": run_dir,
        "step": trainer.progress.step,
        "num_steps": trainer.num_steps,
        "seconds": trainer.stopwatch.seconds,
        "checkpoints": checkpoints,
        "losses": _last(records, "loss/"),
        "validation": _last(records, "valid/"),
        "model": {"identity": model_identity(trainer.learner.current_ema()).hex()},
        "report": report if report.exists() else None,
        "results": read_json(results) if results.exists() else None,
    }


def _last(records: Sequence[Mapping[str, Any]], group: str) -> dict[str, Any]:
    """The last numbers of a group that a run recorded, by name."""
    for record in reversed(records):
        if found := {name.removeprefix(group): record[name] for name in record if name.startswith(group)}:
            return found
    return {}


def _describe_end(run_dir: Path) -> None:
    """Print the checkpoints and results of a run, and what to do next."""
    from codec.study.judge import RESULTS_FILE
    from codec.train.checkpoint import read_index
    from codec.train.validation import REPORT_FOLDER

    for kind, name in sorted(read_index(run_dir).items()):
        print(f"{kind} checkpoint: {run_dir / 'checkpoints' / name}")
    if (run_dir / REPORT_FOLDER).is_dir():
        print(f"report: {run_dir / REPORT_FOLDER / 'index.html'}, to look at and listen to")
    if not (run_dir / RESULTS_FILE).exists():
        print(f"next: codec-encode talk.wav --model {run_dir}")
        return
    results = read_json(run_dir / RESULTS_FILE)
    print(
        f"held-out distortion {results['held_out_distortion']:.4f} a dimension (Shannon's bound "
        f"{results['shannon_bound']:.4f}), {results['usage']:.1%} of the codes used, perplexity "
        f"{results['perplexity']:.0f}, {results['seconds']:.1f} s of training"
    )
    print(f"results: {run_dir / RESULTS_FILE}, pictures: {run_dir / 'figures'}")


def parse_training(argv: Sequence[str]) -> tuple[TrainOptions, Changes]:
    """Read the command line of codec-train: its own options, and the words that change values of the recipe.

    Raises:
        ConfigError: As for `parse`; or the recipe is missing.
    """
    asked = [word for word in argv if word not in HELP]
    wants_help = len(asked) < len(argv) or not argv
    if wants_help and (not asked or asked[0].startswith("-")):
        print_help(TrainOptions, "codec-train", description=_describe_training())
    if asked[0].startswith("-"):
        raise ConfigError("the recipe comes first: codec-train RECIPE [options]; codec-train --help lists the recipes")
    options, changes = parse_with_recipe(TrainOptions, asked, "codec-train")
    if wants_help:
        print_help(Recipe, f"codec-train {options.recipe}", default=load_recipe(options.recipe))
    return options, changes


def _describe_training() -> str:
    folder = shipped("recipes")
    recipes = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.toml"))}
    width = max(map(len, recipes), default=0)
    about = [f"  {name:<{width}}  {_first_sentence(path)}" for name, path in recipes.items()]
    return "\n".join(
        [
            "Train a codec from a recipe, in one process or in those that torchrun starts.",
            "\nShipped recipes:",
            *about,
            "\nEvery value of a recipe is an option too; codec-train RECIPE --help lists them all. For example:",
            "  codec-train quickstart --data.root ~/speech --data.train . --train.steps 1000",
        ]
    )


def _first_sentence(path: Path) -> str:
    """The comment at the head of a recipe, up to its first stop or colon."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8-sig").splitlines())
    return re.split(r"[.:](?:\s|$)", " ".join(line.lstrip("# ") for line in lines))[0]


def _settle_run(options: TrainOptions, changes: Changes) -> tuple[Recipe, Path, bool]:
    """The recipe with its changes, the run directory, and whether the run in it is resumed."""
    from codec.train.rundir import holds_run

    if options.out and options.resume and holds_run(options.out):
        return _resumed(options.out, changes), options.out, True
    recipe = with_absolute_root(override(load_recipe(options.recipe), changes))
    run_dir = options.out or Path("runs", recipe.name)
    if options.resume and holds_run(run_dir):
        return _resumed(run_dir, changes), run_dir, True
    return recipe, run_dir, False


def _resumed(run_dir: Path, changes: Changes) -> Recipe:
    """The recipe of a run to resume, with its changes."""
    from codec.train.rundir import read_run

    fixed = [key for key in changes if key not in CHANGEABLE]
    if fixed:
        allowed = " and ".join([", ".join(CHANGEABLE[:-1]), CHANGEABLE[-1]])
        raise ConfigError(f"--resume keeps the recipe of the run: only {allowed} can be given, not {fixed[0]}")
    return with_absolute_root(override(read_run(run_dir), changes))
