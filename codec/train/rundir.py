"""The run directory: the recipe, the versions and the records of a run.

RUN/recipe.json      the recipe with every default and override written out
RUN/versions.json    Python, packages, device, git commit
RUN/history.jsonl    every logged number
RUN/tensorboard/     the same numbers, with figures and audio
RUN/wandb/           the same for wandb, if it is among the trackers
RUN/checkpoints/     see codec.train.checkpoint
RUN/.lock            locked while a process trains
RUN/results.json, RUN/figures/   results of Gaussian runs, see codec.study.judge
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import filelock

from codec.config import from_dict, to_dict
from codec.environment import describe_environment
from codec.errors import ConfigError
from codec.files import replace_text
from codec.jsonfile import read_json
from codec.recipe import Recipe
from codec.train.checkpoint import list_checkpoints
from codec.train.tracking import HistoryTracker, TensorboardTracker, Tracker, WandbTracker

HISTORY_FILE = "history.jsonl"
RECIPE_FILE = "recipe.json"
VERSIONS_FILE = "versions.json"
LOCK_FILE = ".lock"


def holds_run(run_dir: Path) -> bool:
    """Whether a run has saved a checkpoint there."""
    return bool(list_checkpoints(run_dir))


def check_new(run_dir: Path) -> None:
    """Refuse a directory that holds a run: a run is never overwritten.

    Raises:
        ConfigError: The directory holds a run that has saved a checkpoint.
    """
    if holds_run(run_dir):
        raise ConfigError(f"{run_dir} already holds a run", resume=True, run_dir=...)


def lock_run(run_dir: Path) -> contextlib.AbstractContextManager[Any]:
    """Lock a run directory, which is created, until the lock is left or the process dies.

    Raises:
        ConfigError: Another process trains there, or the directory can't be written.
    """
    lock = filelock.FileLock(run_dir / LOCK_FILE)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        return lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ConfigError(f"another codec-train is at work in {run_dir}: wait for it", run_dir=...) from error
    except OSError as error:
        raise ConfigError(f"can't write to {run_dir}: {error}") from error


def record_run(run_dir: Path, recipe: Recipe) -> None:
    """Create the run directory and write the recipe and the versions.

    Raises:
        ConfigError: The directory can't be made.
        WriteError: A file in it can't be written.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"can't write to {run_dir}: {error}") from error
    replace_text(run_dir / RECIPE_FILE, json.dumps(to_dict(recipe), indent=2) + "\n")
    replace_text(run_dir / VERSIONS_FILE, json.dumps(describe_environment(), indent=2) + "\n")


def read_run(run_dir: Path) -> Recipe:
    """Read the recipe of an existing run.

    Raises:
        ConfigError: There is no run, or its recipe does not fit this version.
    """
    path = run_dir / RECIPE_FILE
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"can't resume {run_dir}, {RECIPE_FILE} is missing or damaged ({error}); start a new run from its weights",
            init_from=str(run_dir),
        ) from error
    return from_dict(Recipe, values, source=str(path))


def build_trackers(run_dir: Path, recipe: Recipe, step: int) -> list[Tracker]:
    """Open the trackers of a run that starts or resumes at `step`.

    Raises:
        ConfigError: The recipe asks for wandb, and it is not installed or can't start.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    trackers: list[Tracker] = [HistoryTracker(run_dir / HISTORY_FILE, step)]
    if "tensorboard" in recipe.train.trackers:
        trackers.append(TensorboardTracker(run_dir / "tensorboard", step))
    if "wandb" in recipe.train.trackers:
        trackers.append(WandbTracker(run_dir, name=recipe.name, config=to_dict(recipe)))
    return trackers
