"""Make a release of a trained model: a folder that loads by its name once it lies in `codec/weights`.

    weights --round--> model.safetensors --train split--> entropy.safetensors --> fingerprint.json --> README.md

Weights are rounded to float16 first. Identity, tables, fingerprint and card belong to the rounded model, which is the
one that users load. A released model is never replaced: files name it by its identity and must always decode.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from codec.errors import ConfigError, ModelError
from codec.files import new_folder
from codec.inference.compression import compress_source
from codec.inference.fingerprint import measure_deviation, sign_model, take_fingerprint
from codec.inference.pretrained import ENTROPY_FILE, WEIGHTS_FILE, find_model, load_codec, save_codec, save_tensors
from codec.model.codec import Codec
from codec.model.digest import model_identity, with_identity
from codec.progress import progress_bar
from codec.recipe import DataConfig, Recipe
from codec.release.card import CARD_FILE, describe_model, read_figures
from codec.release.entropy_learning import learn_tables
from codec.release.metadata import metadata_block
from codec.train.data.files import list_split

MAX_ROUNDING = 1e-2
"""Largest change of latents and decoded samples by rounding, relative to their size (-40 dB)."""
SHARES = (1.0, 0.5, 0.75, 0.25, 0.35)
"""Shares of the levels that files are encoded with to learn the entropy tables of a model with variable bitrate. There
the codes of the first levels depend on the number of levels."""


class Released(NamedTuple):
    """Result of `release_codec`."""

    identity: bytes
    num_bytes: int
    """Size of all files."""
    rounding: float
    """Largest change of latents or decoded samples by rounding, relative to their size."""


def release_codec(
    model: str | Path,
    folder: Path,
    recipe: Recipe,
    *,
    about: str,
    figures: Path | None = None,
    device: str | torch.device = "cpu",
) -> Released:
    """Write the release of a model into a new folder; it appears complete or not at all.

    Args:
        model: Any form that `load_codec` takes.
        folder: A new folder; its name becomes the model's name.
        recipe: The recipe of the training; the entropy tables are learned on the train split of its data.
        about: Data sources and licences for the card (Markdown).
        figures: Report of codec-eval on this model before or after rounding, for the card (JSON).
        device: Device that encodes the data.

    Raises:
        ConfigError: The folder exists, the data is missing, or the figures are of another model.
        ModelError: The model can't be loaded or rounded.
        WriteError: The folder can't be written.
        AudioError: A file of the data can't be read.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already, and a released model is never replaced: give another name")
    paths = _train_files(recipe)
    source = find_model(model)
    with new_folder(folder) as partial:
        original = load_codec(source)
        save_rounded(original, partial)
        rounding = check_rounding(original, load_codec(partial))
        _add_tables(partial, paths, device)
        codec = load_codec(partial)
        sign_model(codec, partial)
        found = None if figures is None else read_figures(figures, codec, original)
        head = metadata_block(codec, folder.name, found)
        card = describe_model(codec, folder.name, partial, recipe=recipe, source=source, about=about, figures=found)
        (partial / CARD_FILE).write_text(head + card, encoding="utf-8")
        for path in partial.iterdir():
            path.chmod(0o644)  # safetensors lets only the owner read its files
        num_bytes = sum(path.stat().st_size for path in partial.iterdir())
    return Released(model_identity(codec), num_bytes, rounding)


def save_rounded(codec: Codec, folder: Path) -> None:
    """Write a model as `save_codec` does, with weights in float16.

    Raises:
        ModelError: A weight exceeds the range of float16.
        WriteError: The folder can't be written.
    """
    save_codec(codec, folder)
    path = folder / WEIGHTS_FILE
    save_tensors({name: _rounded(name, tensor) for name, tensor in load_file(path).items()}, path)


def check_rounding(original: Codec, rounded: Codec) -> float:
    """Largest change of latents or decoded samples of the test signal by rounding, relative to their size.

    Raises:
        ModelError: It exceeds `MAX_ROUNDING`.
    """
    deviation = measure_deviation(rounded, take_fingerprint(original))
    largest = max(deviation.latents, deviation.audio)
    if not largest <= MAX_ROUNDING:
        raise ModelError(
            f"float16 changes the model by {largest:.1e} of its latents or samples, more than {MAX_ROUNDING:.0e}: "
            f"train it with more optimizer.weight_decay"
        )
    return largest


def encode_files(codec: Codec, paths: Sequence[Path]) -> Iterator[npt.NDArray[np.int64]]:
    """Codes `[k, F]` of every channel of every file; with variable bitrate the files take turns in `SHARES` of levels.

    Raises:
        AudioError: A file can't be read.
    """
    shares = SHARES if codec.allocation is not None else (1.0,)
    counts = [max(1, round(share * codec.quantizer.num_quantizers)) for share in shares]
    for number, path in enumerate(progress_bar(paths, desc="encoding", unit="file", delay=2, leave=False)):
        yield from compress_source(codec, path, num_quantizers=counts[number % len(counts)]).codes


def _train_files(recipe: Recipe) -> list[Path]:
    data = recipe.data
    if not isinstance(data, DataConfig):
        raise ConfigError(f"{recipe.name} codes random vectors, not audio: it makes no model to release")
    return [item.path for item in list_split(data, "train")]


def _add_tables(folder: Path, paths: Sequence[Path], device: str | torch.device) -> None:
    """Learn entropy tables on the codes of the rounded model, and add them to its folder."""
    codec = with_identity(load_codec(folder, device=device))
    tables = learn_tables(list(encode_files(codec, paths)), codec.quantizer.codebook_size)
    save_tensors(tables.tensors(), folder / ENTROPY_FILE)


def _rounded(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not half.isfinite().all():
        raise ModelError(
            f"float16 ends at 65504 and {name} reaches {float(tensor.abs().max()):g}: "
            f"train it with more optimizer.weight_decay"
        )
    return half
