"""Loading of models by the commands: the one asked for, in its mode on its device, or the maker of a .codec file."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.options import ModelOptions
from codec.config import shipped
from codec.errors import BitstreamError, ConfigError

if TYPE_CHECKING:
    from codec.bitstream import Header
    from codec.model.audio_codec import AudioCodec
    from codec.model.codec import Codec

_logger = logging.getLogger(__name__)


def load_model(options: ModelOptions) -> "AudioCodec":
    """Load the model asked for, or the only one that ships, in the mode asked for; see `load_original`."""
    return in_mode(load_original(options), options.mode)


def load_original(options: ModelOptions) -> "AudioCodec":
    """Load the model asked for, or the only one that ships, in float32 on a device that its mode runs on.

    Raises:
        ConfigError: No model is asked for and not exactly one ships, or the mode does not run on the device.
        ModelError: The model can't be loaded.
    """
    device = find_device("cpu" if options.mode == "onnx" and options.device == "auto" else options.device)
    if options.mode == "onnx" and device != "cpu":
        raise ConfigError(f"mode onnx runs on the CPU, not on {device}: give --device cpu")
    return _load_foreign(options.model, device) or load_ours(options.model, device)


def load_ours(name: str | None, device: str = "cpu") -> "Codec":
    """Load a model of this toolkit, or the only one that ships; errors as of `load_original`."""
    shipped_models = find_shipped()
    if name is None and len(shipped_models) != 1:
        raise ConfigError(
            "which model? give --model with a run directory of codec-train, or a folder with model.safetensors"
        )
    from codec.inference.pretrained import load_codec
    from codec.model.digest import with_identity

    return with_identity(load_codec(name or shipped_models[0], device=device))


def read_model(name: str | Path) -> "AudioCodec":
    """Load a model on the CPU where only its identity and its tables are needed."""
    from codec.inference.pretrained import read_codec
    from codec.model.digest import with_identity

    return _load_foreign(name, "cpu") or with_identity(read_codec(name))


def _load_foreign(name: str | Path | None, device: str) -> "AudioCodec | None":
    """Load a model of another library; None if the name has no prefix of one."""
    from codec.inference.hub import TRANSFORMERS_PREFIX

    if not str(name).startswith(TRANSFORMERS_PREFIX):
        return None
    from codec.adapters.transformers_codec import load_transformers

    return load_transformers(str(name).removeprefix(TRANSFORMERS_PREFIX), device=device)


def find_shipped() -> list[Path]:
    """Folders of the models that ship."""
    return sorted(path.parent for path in shipped("weights").glob("[!.]*/model.safetensors"))


def in_mode(codec: "AudioCodec", mode: str) -> "AudioCodec":
    """Put the model in a mode; print a note if the mode is slow on this processor."""
    from codec.dsp.precision import has_fast_bfloat16
    from codec.inference.modes import speed_up

    if mode.startswith("bf16") and not has_fast_bfloat16(codec.device):
        _logger.info("mode %s is slow here: this processor has no bfloat16 instructions", mode)
    return speed_up(codec, mode)


def find_device(name: str) -> str:
    """Name of the device in torch.

    Raises:
        ConfigError: There is no such device here.
    """
    import torch

    kind, _, index = name.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no CUDA device here: give --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("there is no MPS device here: give --device cpu")
    if index and int(index) >= (count := torch.cuda.device_count()):
        raise ConfigError(f"there is no {name} here: the last of {count} CUDA devices is cuda:{count - 1}")
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def load_maker(header: "Header", name: str | None) -> "AudioCodec":
    """Load the model that made the codes of a file: the one asked for, else one of those that ship.

    Raises:
        BitstreamError: Another model made the codes.
        ModelError: The model asked for can't be loaded.
    """
    for candidate in [name] if name else find_shipped():
        codec = read_model(candidate)
        if codec.identity == header.model_id:
            return codec
    what = f"not of {name}" if name else "which does not ship"
    raise BitstreamError(f"the codes are of model {header.model_id.hex()[:12]}, {what}: give their model with --model")
