"""Checkpoints: a model folder with its training state. A crash at any moment loses no checkpoint.

RUN/checkpoints/index.json             {"last": "step-00002000", "previous": "step-00001000", "best": "step-00001000"}
RUN/checkpoints/step-00002000/         config.json, model.safetensors   (the EMA weights: loads as a model)
                                       training.safetensors, state.json (raw weights, optimizer, counters: resumes)
                                       checksums.json                   (SHA-256 of each of these files)

A run resumes from the newest checkpoint whose checksums are right. The index can be rebuilt from the folders.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from codec.errors import ModelError, one_line
from codec.files import new_folder, replace_text
from codec.inference.pretrained import (
    CONFIG_FILE,
    INDEX_FILE,
    WEIGHTS_FILE,
    load_index,
    load_tensors,
    save_codec,
    save_tensors,
)
from codec.jsonfile import read_json
from codec.model.codec import Codec

TRAINING_FILE = "training.safetensors"
STATE_FILE = "state.json"
CHECKSUMS_FILE = "checksums.json"
FILES = (CONFIG_FILE, WEIGHTS_FILE, TRAINING_FILE, STATE_FILE)
"""The files that every checkpoint has, besides that of their checksums."""


class Trained(NamedTuple):
    """A trained module and its optimizer, None if nothing in it has a gradient."""

    module: nn.Module
    optimizer: Optimizer | None


def save_checkpoint(
    run_dir: Path,
    *,
    step: int,
    ema: Codec,
    trained: Mapping[str, Trained],
    counters: dict[str, Any],
    best: bool,
) -> Path:
    """Write a checkpoint and name it the last one in the index; removes those that the index does not name.

    Args:
        run_dir: Directory of the run.
        step: Steps done.
        ema: The EMA codec, saved as the model.
        trained: Trained modules by name; the codec is "model".
        counters: Further state of the run, as JSON values.
        best: Name it the best one too.

    Raises:
        WriteError: It can't be written (a full disk, say); the checkpoints before it are untouched.
    """
    folder = run_dir / "checkpoints" / f"step-{step:08d}"
    with new_folder(folder) as partial:
        save_codec(ema, partial)
        save_tensors(_training_tensors(ema, trained), partial / TRAINING_FILE)
        (partial / STATE_FILE).write_text(json.dumps({"step": step, **counters}) + "\n", encoding="utf-8")
        (partial / CHECKSUMS_FILE).write_text(json.dumps(_checksums(partial), indent=2) + "\n", encoding="utf-8")
    index = read_index(run_dir)
    if index.get("last", folder.name) != folder.name:
        index["previous"] = index["last"]
    index |= {"last": folder.name} | ({"best": folder.name} if best else {})
    replace_text(run_dir / INDEX_FILE, json.dumps(index) + "\n")
    for other in folder.parent.glob("*step-*"):  # older ones, and the hidden folders of runs that were killed
        if other.name not in index.values():
            shutil.rmtree(other, ignore_errors=True)
    return folder


def load_checkpoint(
    run_dir: Path, *, ema: Codec, trained: Mapping[str, Trained], counters: Iterable[str]
) -> dict[str, Any]:
    """Restore the newest undamaged checkpoint of a run in place; returns "step" and the counters asked for.

    Warns if it is not the last one.

    Raises:
        ModelError: There is no checkpoint, or all are damaged or of another architecture.
    """
    names = list_checkpoints(run_dir)
    if not names:
        raise ModelError(f"nothing to resume in {run_dir}: it has no checkpoint")
    faults: list[str] = []
    for name in names:
        folder = run_dir / "checkpoints" / name
        try:
            _check(folder)
            values = read_json(folder / STATE_FILE)
            state = {name: values[name] for name in ("step", *counters)}
            _restore(load_tensors(folder / TRAINING_FILE), ema, trained)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:  # ModelError is a RuntimeError
            faults.append(f"can't resume from {folder}: {one_line(error)[:300]}")
            continue
        if faults:
            warnings.warn(f"{faults[0]}; resumed from {name}", stacklevel=2)
        return state
    raise ModelError(f"{faults[0]}; start a new run from the weights of a checkpoint", init_from=...)


def list_checkpoints(run_dir: Path) -> list[str]:
    """Names of the complete checkpoints of a run, the one to resume from first: the last of the index, then by step."""
    folders = (run_dir / "checkpoints").glob("step-*")
    names = sorted((path.name for path in folders if (path / CHECKSUMS_FILE).is_file()), reverse=True)
    index = _read_index_file(run_dir)
    return list(dict.fromkeys([index[role] for role in ("last", "previous") if role in index] + names))


def read_index(run_dir: Path) -> dict[str, str]:
    """Names of the last, the previous and the best checkpoint; empty before the first one.

    A missing or damaged index is rebuilt from the folders, and then knows no best checkpoint.
    """
    return _read_index_file(run_dir) or dict(zip(("last", "previous"), list_checkpoints(run_dir), strict=False))


def _read_index_file(run_dir: Path) -> dict[str, str]:
    """The index as it is in its file; empty if that is missing or damaged."""
    try:
        return load_index(run_dir)
    except (OSError, ValueError):
        return {}


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder by name."""
    sums = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def _check(folder: Path) -> None:
    """Raise ValueError unless every file of a checkpoint is as it was written."""
    expected = read_json(folder / CHECKSUMS_FILE)
    if not isinstance(expected, dict):
        raise ValueError(f"{CHECKSUMS_FILE} is damaged")
    found = _checksums(folder)
    for name in sorted({*FILES, *expected}):
        if name not in found or found[name] != expected.get(name):
            raise ValueError(f"{name} is {'damaged' if name in found else 'missing'}")


def _training_tensors(ema: Codec, trained: Mapping[str, Trained]) -> dict[str, Tensor]:
    tensors = {f"ema.{key}": tensor for key, tensor in ema.named_parameters()}
    for name, (module, optimizer) in trained.items():
        tensors |= {f"{name}.{key}": tensor for key, tensor in module.state_dict().items()}
        for key, parameter in module.named_parameters():
            state = {} if optimizer is None else optimizer.state.get(parameter, {})
            tensors |= {f"{name}_optimizer.{moment}.{key}": value for moment, value in state.items()}
    return {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}


@torch.no_grad()
def _restore(tensors: dict[str, Tensor], ema: Codec, trained: Mapping[str, Trained]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}

    for name, (module, optimizer) in trained.items():
        module.load_state_dict(part(f"{name}."))
        for key, parameter in module.named_parameters():
            for moment in ("step", "exp_avg", "exp_avg_sq"):
                saved = tensors.get(f"{name}_optimizer.{moment}.{key}")
                if saved is not None and optimizer is not None:
                    if saved.shape != (() if moment == "step" else parameter.shape):
                        raise ValueError(f"{moment} of {name}.{key} is {list(saved.shape)}")
                    # On the device of the parameter, a moment also in its memory order, as the optimizer allocates it.
                    place = torch.empty_like(saved if moment == "step" else parameter, device=parameter.device)
                    optimizer.state[parameter][moment] = place.copy_(saved)
    averaged = {key for key, _ in ema.named_parameters()}
    buffers = {key: tensor for key, tensor in part("model.").items() if key not in averaged}
    ema.load_state_dict(buffers | part("ema."))
