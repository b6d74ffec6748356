"""Checkpoints: a model folder with the state of its training beside it. A crash at any moment loses none of them.

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
    """Something that learns."""

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
    """Write checkpoint `step` as the last one, and as the best one if `best`; others that nothing names are removed.

    Args:
        run_dir: The run.
        step: Steps done.
        ema: The EMA codec, by itself a model.
        trained: What learns, by name; the codec is "model".
        counters: What a resumed run must know besides.
        best: Whether no checkpoint before it was as good.

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
    """Restore the last checkpoint of a run in place and return its step and counters, those asked for among them.

    Raises:
        ModelError: There is none, or it is damaged or of another architecture.
    """
    name = read_index(run_dir).get("last")
    if name is None:
        raise ModelError(f"nothing to resume in {run_dir}: it has no checkpoint")
    folder = run_dir / "checkpoints" / name
    try:
        tensors = load_file(folder / TRAINING_FILE)
        values = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        state: dict[str, Any] = {name: values[name] for name in ("step", *counters)} | values
        learned = trained["model"].optimizer is not None and values["step"] > values.get("skipped_steps", 0)
        if learned and not any(key.startswith("model_optimizer.") for key in tensors):
            raise ValueError("it is of an earlier version of codec-train; --init-from goes on from its weights")
        _restore(tensors, ema, trained)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"can't resume from {folder}: {' '.join(str(error).split())[:300]}") from error
    return state


def read_index(run_dir: Path) -> dict[str, str]:
    """Names of the last and best checkpoint; empty before the first one."""
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
            state = {
                moment: tensors[f"{name}_optimizer.{moment}.{key}"]
                for moment in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}_optimizer.{moment}.{key}" in tensors
            }
            if state and optimizer is not None:
                # As the optimizer would have made them: on its device, a moment in the memory order of its weight.
                optimizer.state[parameter] = {
                    moment: tensor.to(parameter.device)
                    if moment == "step"
                    else torch.empty_like(parameter).copy_(tensor)
                    for moment, tensor in state.items()
                }
    ema.load_state_dict(trained["model"].module.state_dict() | part("ema."))
