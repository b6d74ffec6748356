"""The files of a folder that `save_pretrained` of transformers wrote, and the identity of the model in them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from codec.errors import ModelError, one_line
from codec.jsonfile import read_json

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
NOT_THE_MODEL = {"transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype"}
"""Keys of a configuration that name the library, the place or the type in which weights are kept."""


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json`.

    Raises:
        ModelError: It is missing or damaged.
    """
    try:
        config = read_json(folder / CONFIG_FILE)
    except (OSError, ValueError) as error:
        raise ModelError(f"can't read the configuration of {folder}: {one_line(error)}") from error
    if not isinstance(config, dict):
        raise ModelError(f"can't read the configuration of {folder}: it is no object")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The `.safetensors` files of a folder: one, or those that its index names.

    Raises:
        ModelError: There are none, or the index is damaged.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if not (folder / INDEX_FILE).is_file():
        pickled = " (pickled weights are not read: they can run code)" if any(folder.glob("*.bin")) else ""
        raise ModelError(f"{folder} has no {WEIGHTS_FILE}{pickled}: write it with save_pretrained of transformers")
    try:
        names = sorted(set(read_json(folder / INDEX_FILE)["weight_map"].values()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"can't read {folder / INDEX_FILE}: {one_line(error)}") from error
    files = [folder / str(name) for name in names]
    absent = [file for file in files if file.parent != folder or not file.is_file()]
    if absent:
        raise ModelError(f"{folder / INDEX_FILE} names {absent[0].name}, which is not there")
    return files


def folder_identity(config: dict[str, Any], files: Sequence[Path]) -> bytes:
    """SHA-256 (32 bytes) over the configuration and every tensor with its name, as the files have them.

    Tensors are hashed as the files name them, because the library renames some while it loads them, each version in
    its own way.

    Raises:
        ModelError: A file can't be read.
    """
    digest = hashlib.sha256(json.dumps(_model_only(config), sort_keys=True).encode())
    try:
        places = {key: file for file in files for key in _keys(file)}
        for key, file in sorted(places.items()):
            with safe_open(file, framework="pt") as opened:
                tensor = opened.get_tensor(key).contiguous()
            digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.flatten().view(torch.uint8).numpy())
    except Exception as error:  # OSError, SafetensorError, and those of PyTorch for an odd type
        raise ModelError(f"can't read the weights {files[0]}: {one_line(error)}") from error
    return digest.digest()


def _keys(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as opened:
        return list(opened.keys())


def _model_only(value: Any) -> Any:
    """A configuration without the keys `NOT_THE_MODEL`, at any depth."""
    if isinstance(value, dict):
        return {key: _model_only(inner) for key, inner in value.items() if key not in NOT_THE_MODEL}
    return [_model_only(inner) for inner in value] if isinstance(value, list) else value
