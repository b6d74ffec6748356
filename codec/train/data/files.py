"""The audio files of a run, checked by their headers before anything is trained."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from codec.audio.headers import read_headers
from codec.audio.manifest import Item, list_items
from codec.recipe import DataConfig
from codec.train.data.segments import data_root


class AudioFiles(NamedTuple):
    """Files of a recipe, with their seconds."""

    train: list[Item]
    valid: list[Item]
    """Empty if the recipe has no held-out files."""


def list_split(config: DataConfig, split: Literal["train", "valid"]) -> list[Item]:
    """List the files that a recipe trains on, or those that it holds out; empty if it holds out none.

    Raises:
        AudioError: A folder holds no audio file.
        ConfigError: A list is missing or wrong, see `codec.audio.manifest.list_items`.
    """
    source = config.train if split == "train" else config.valid
    if source is None:
        return []
    return list_items(data_root(config), source, split=split, kinds=config.kinds, download=config.download)


def find_audio(config: DataConfig) -> AudioFiles:
    """List the files of a recipe and read all their headers.

    Raises:
        ConfigError: A list is missing or wrong.
        AudioError: Files of either list can't be used; one error for all.
    """
    train, valid = list_split(config, "train"), list_split(config, "valid")
    found = with_seconds([*train, *valid])
    return AudioFiles(found[: len(train)], found[len(train) :])


def with_seconds(items: Sequence[Item]) -> list[Item]:
    """Read the header of every file, each once, and fill in the seconds that are unknown.

    Raises:
        AudioError: Files can't be used; one error for all.
    """
    paths = list(dict.fromkeys(item.path for item in items))
    infos = dict(zip(paths, read_headers(paths), strict=True))
    return [
        item._replace(seconds=infos[item.path].num_samples / infos[item.path].sample_rate)
        if item.seconds is None
        else item
        for item in items
    ]
