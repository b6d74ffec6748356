"""Checkpoints: a model folder with its training state. A crash at any moment loses no checkpoint.

RUN/checkpoints/index.json             {"last": "step-00002000", "best": "step-00001500"}, replaced atomically
RUN/checkpoints/step-00002000/         config.json, model.safetensors   (the EMA weights: loads as a model)
                                       training.safetensors, state.json (raw weights, optimizer, counters: resumes)
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from codec.errors import ModelError
from codec.files import new_folder, replace_text
from codec.inference.pretrained import INDEX_FILE, save_codec, save_tensors
from codec.model.codec import Codec

TRAINING_FILE = "training.safetensors"
STATE_FILE = "state.json"


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
        ModelError: The index is damaged.
    """
    folder = run_dir / "checkpoints" / f"step-{step:08d}"
    with new_folder(folder) as partial:
        save_codec(ema, partial)
        save_tensors(_training_tensors(ema, trained), partial / TRAINING_FILE)
        (partial / STATE_FILE).write_text(json.dumps({"step": step, **counters}) + "\n", encoding="utf-8")
    index = read_index(run_dir) | {"last": folder.name} | ({"best": folder.name} if best else {})
    replace_text(run_dir / INDEX_FILE, json.dumps(index) + "\n")
    for other in folder.parent.glob("*step-*"):  # older ones, and the hidden folders of runs that were killed
        if other.name not in index.values():
            shutil.rmtree(other, ignore_errors=True)
    return folder


def load_checkpoint(
    run_dir: Path, *, ema: Codec, trained: Mapping[str, Trained], counters: Iterable[str]
) -> dict[str, Any]:
    """Restore the last checkpoint of a run in place; returns "step" and the counters asked for.

    Raises:
        ModelError: There is no checkpoint, or it is damaged or of another architecture.
    """
    name = read_index(run_dir).get("last")
    if name is None:
        raise ModelError(f"nothing to resume in {run_dir}: it has no checkpoint")
    folder = run_dir / "checkpoints" / name
    try:
        tensors = load_file(folder / TRAINING_FILE)
        values = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        state = {name: values[name] for name in ("step", *counters)}
        _restore(tensors, ema, trained)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"can't resume from {folder}: {' '.join(str(error).split())[:300]}") from error
    return state


def read_index(run_dir: Path) -> dict[str, str]:
    """Names of the last and the best checkpoint; empty before the first one.

    Raises:
        ModelError: The index is damaged.
    """
    path = run_dir / INDEX_FILE
    try:
        index = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {str(role): str(name) for role, name in index.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error


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
                    # On the device of the parameter, a moment also in its memory order, as the optimizer allocates it.
                    place = torch.empty_like(saved if moment == "step" else parameter, device=parameter.device)
                    optimizer.state[parameter][moment] = place.copy_(saved)
    averaged = {key for key, _ in ema.named_parameters()}
    buffers = {key: tensor for key, tensor in part("model.").items() if key not in averaged}
    ema.load_state_dict(buffers | part("ema."))
