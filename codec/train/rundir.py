"""The run directory: what was run, with which versions, and where its records are.

RUN/recipe.json      the recipe with every default and override written out
RUN/versions.json    Python, packages, device, git commit
RUN/history.jsonl    every logged number
RUN/tensorboard/     the same with pictures and audio
RUN/checkpoints/     see codec.train.checkpoint
"""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from codec.config import Recipe, from_dict, to_dict
from codec.errors import ConfigError
from codec.train.tracking import HistoryTracker, TensorboardTracker, Tracker

RECIPE_FILE = "recipe.json"
VERSIONS_FILE = "versions.json"
_PACKAGES = ("codec", "torch", "torchaudio", "numpy", "soundfile", "soxr", "lightning-fabric", "safetensors")


def create_run(run_dir: Path, recipe: Recipe) -> None:
    """Make a new run directory and record what it will run.

    Raises:
        ConfigError: The directory holds a run already, which is never overwritten.
    """
    if (run_dir / RECIPE_FILE).exists():
        raise ConfigError(
            f"{run_dir} already holds a run: continue it with --resume, or give another folder with --out"
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / VERSIONS_FILE).write_text(json.dumps(describe_environment(), indent=2) + "\n", encoding="utf-8")
        (run_dir / RECIPE_FILE).write_text(json.dumps(to_dict(recipe), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't write to {run_dir}: {error}") from error


def read_run(run_dir: Path) -> Recipe:
    """The recipe of an existing run.

    Raises:
        ConfigError: There is no run, or its recipe does not fit this version.
    """
    path = run_dir / RECIPE_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"no run to resume at {run_dir}: {error}") from error
    return from_dict(Recipe, values, source=str(path))


def describe_environment() -> dict[str, Any]:
    """Versions, device and git commit (with a mark if the checkout has changes)."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
    }


def open_trackers(run_dir: Path, step: int) -> list[Tracker]:
    """Trackers of a run that starts, or goes on, at `step`."""
    purge_step = step + 1 if step else None
    return [
        TensorboardTracker(run_dir / "tensorboard", purge_step),
        HistoryTracker(run_dir / "history.jsonl", step),
    ]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():  # installed, maybe inside the checkout of something else
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None
