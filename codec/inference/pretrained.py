"""Load and save models: a folder with `config.json` and `model.safetensors`, for releases, runs and checkpoints alike.

A model with entropy tables has `entropy.safetensors` too, a released one `fingerprint.json`. No code in the files is
executed. A model of the Hugging Face hub is such a folder in the cache of `huggingface_hub`.
"""

import json
import re
import reprlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from codec.config import CodecConfig, from_dict, shipped, to_dict
from codec.errors import ConfigError, ModelError, WriteError, one_line
from codec.files import replace_text
from codec.inference.fingerprint import FINGERPRINT_FILE, check_fingerprint, check_identity
from codec.inference.hub import NESTED_CONFIG, TRANSFORMERS_PREFIX, download, how_to_renew, parse_name
from codec.jsonfile import read_json
from codec.model.builder import SizeLimit, build_codec
from codec.model.codec import Codec
from codec.model.digest import inference_tensors
from codec.model.entropy_tables import EntropyTables

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
ENTROPY_FILE = "entropy.safetensors"
INDEX_FILE = "checkpoints/index.json"
_CHECKPOINT = re.compile(r"step-\d{1,20}")
# Elements of the tensors that building a model makes: at most so many, and so many times those of its weights.
_FREE_ELEMENTS, _MAX_OVERHEAD = 2**24, 2


def load_codec(name: str | Path, *, device: str | torch.device = "cpu") -> Codec:
    """Load a model for inference.

    Args:
        name: A shipped model, a model folder, a checkpoint, a run directory (its best checkpoint, else its last), or
            `owner/name[@revision]` of the Hugging Face hub; only a string is looked for there.
        device: Device of the weights.

    Raises:
        ModelError: There is no such model, its files are damaged or of another architecture, or a released model is not
            the one that was released or gives other results here.
    """
    folder = find_model(name)
    codec = read_codec(folder).to(device)
    check_fingerprint(codec, folder)
    return codec


def read_codec(name: str | Path) -> Codec:
    """Load a model on the CPU without running it, if only its tensors are needed; otherwise as `load_codec`."""
    folder = find_model(name)
    config = load_config(folder)
    tables = _load_tables(folder / ENTROPY_FILE)
    weights = load_tensors(folder / WEIGHTS_FILE)
    num_elements = sum(tensor.numel() for tensor in weights.values())
    try:
        with SizeLimit(_FREE_ELEMENTS + _MAX_OVERHEAD * num_elements):
            codec = build_codec(config, tables)
    except ConfigError as error:
        raise ModelError(f"can't build the model of {folder}: {one_line(error)}") from error
    if tables is not None:
        tables.check(codec.quantizer.num_quantizers, codec.quantizer.codebook_size)
    set_weights(codec, weights, source=str(folder / WEIGHTS_FILE))
    check_identity(codec, folder)
    return codec.eval().requires_grad_(False)


def load_config(folder: Path) -> CodecConfig:
    """Read the configuration of the model in a folder.

    Raises:
        ModelError: It is missing or damaged.
    """
    path = folder / CONFIG_FILE
    try:
        values = read_json(path)
        if isinstance(values, dict) and "model_type" in values:  # a configuration of transformers, maybe around ours
            if NESTED_CONFIG not in values:
                raise ConfigError(
                    f"it is of transformers, {values['model_type']!r}: give {TRANSFORMERS_PREFIX}{folder}"
                )
            values = values[NESTED_CONFIG]
        return from_dict(CodecConfig, values, source=str(path))
    except (OSError, ValueError) as error:  # ConfigError is a ValueError
        raise ModelError(f"can't read the configuration of {folder}: {one_line(error)}") from error


def save_codec(codec: Codec, folder: str | Path) -> None:
    """Write `config.json`, `model.safetensors` and the entropy tables, if any, into `folder`, which is created.

    Raises:
        ModelError: The model is in bfloat16.
        WriteError: The folder can't be written (a full disk, say).
    """
    folder = Path(folder)
    if not codec.is_float32:
        raise ModelError("a model in bfloat16 has lost precision: save the one that it was made from")
    replace_text(folder / CONFIG_FILE, json.dumps(to_dict(codec.config), indent=2) + "\n")
    for other in (ENTROPY_FILE, FINGERPRINT_FILE):  # of the model that was here before
        (folder / other).unlink(missing_ok=True)
    save_tensors(inference_tensors(codec), folder / WEIGHTS_FILE)
    if codec.entropy is not None:
        save_tensors(codec.entropy.tensors(), folder / ENTROPY_FILE)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a `.safetensors` file.

    Raises:
        WriteError: It can't be written.
    """
    try:
        save_file(tensors, path)
    except (OSError, SafetensorError) as error:
        raise WriteError(f"can't write {path}: {one_line(error)}") from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a `.safetensors` file.

    Raises:
        ModelError: It can't be read, or is damaged.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except Exception as error:  # OSError, SafetensorError, and those of PyTorch for an odd type or shape
        what = "entropy tables" if path.name == ENTROPY_FILE else "weights"
        raise ModelError(f"can't read the {what} {path}: {one_line(error)}{how_to_renew(path.parent)}") from error
    return tensors


def set_weights(codec: Codec, tensors: dict[str, Tensor], *, source: str) -> None:
    """Set all tensors that encoding and decoding need; the codebook statistics restart from the codewords.

    Raises:
        ModelError: The tensors are not exactly those of this architecture; the message names their `source`.
    """
    expected = inference_tensors(codec)
    for key in sorted(expected.keys() | tensors.keys()):
        have, want = tensors.get(key), expected.get(key)
        if have is None or want is None or have.shape != want.shape:
            theirs, ours = ("absent" if tensor is None else list(tensor.shape) for tensor in (have, want))
        elif have.is_floating_point() != want.is_floating_point():
            theirs, ours = str(have.dtype), str(want.dtype)
        elif not want.is_floating_point() and not torch.equal(have.to(want.dtype), want):
            theirs, ours = have.tolist(), want.tolist()
        else:
            continue
        raise ModelError(f"{source} is of another architecture: {key} is {theirs} in the file, {ours} in the model")
    codec.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, strict=False)
    codec.quantizer.restart_statistics()


def _load_tables(path: Path) -> EntropyTables | None:
    if not path.exists():
        return None
    try:
        return EntropyTables(**load_tensors(path))
    except TypeError as error:
        raise ModelError(f"can't read the entropy tables {path}: {one_line(error)}") from error


def find_model(name: str | Path) -> Path:
    """Find the folder of a model; `name` as for `load_codec`.

    Raises:
        ModelError: There is none; the message lists what can be given.
    """
    if str(name).startswith(TRANSFORMERS_PREFIX):
        raise ModelError(f"{name} is a codec of another library: this takes a model of this toolkit only")
    for folder in (Path(name), shipped("weights") / str(name)):
        if (folder / WEIGHTS_FILE).is_file():
            return folder
        if (folder / INDEX_FILE).is_file():
            try:
                index = load_index(folder)
            except (OSError, ValueError) as error:
                raise ModelError(f"{folder / INDEX_FILE} is damaged: {one_line(error)}") from error
            return folder / "checkpoints" / index.get("best", index["last"])
    on_hub = parse_name(name) if isinstance(name, str) else None
    if on_hub is not None and not Path(on_hub.repository).parent.is_dir():  # a mistyped run of ours is not looked for
        return download(on_hub, config=CONFIG_FILE, weights=WEIGHTS_FILE, others=(ENTROPY_FILE, FINGERPRINT_FILE))
    known = sorted(path.parent.name for path in shipped("weights").glob(f"[!.]*/{WEIGHTS_FILE}"))
    names = f"one of {', '.join(known)}, " if known else ""
    raise ModelError(
        f"no model {str(name)!r}: give {names}a run directory of codec-train, a checkpoint, a folder with "
        f"{WEIGHTS_FILE}, or owner/name[@revision] of the Hugging Face hub where owner is no folder here"
    )


def load_index(run_dir: Path) -> dict[str, str]:
    """Read the names of the checkpoints of a run by their role: "last", and "previous" and "best" if there are any.

    Raises:
        OSError: It can't be read.
        ValueError: It is damaged.
    """
    index = read_json(run_dir / INDEX_FILE)
    if not isinstance(index, dict) or "last" not in index:
        raise ValueError("it names no last checkpoint")
    for name in index.values():
        if not isinstance(name, str) or not _CHECKPOINT.fullmatch(name):
            raise ValueError(f"{reprlib.repr(name)} is no name of a checkpoint")
    return index
