"""The audio files of a run, checked by their headers before anything is trained."""

from collections.abc import Sequence
from typing import NamedTuple

from codec.audio.headers import read_headers
from codec.audio.manifest import Item, list_items
from codec.recipe import DataConfig
from codec.train.data.segments import data_root


class AudioFiles(NamedTuple):
    """Files of a recipe, with their seconds."""

    train: list[Item]
    valid: list[Item]
    """Empty if the recipe has no held-out files."""


def find_audio(config: DataConfig) -> AudioFiles:
    """List the files of a recipe and read all their headers.

    Raises:
        ConfigError: A list is missing or wrong, see `codec.audio.manifest.list_items`.
        AudioError: Files of either list can't be used; one error for all.
    """
    root = data_root(config)
    train = list_items(root, config.train, split="train", kinds=config.kinds)
    valid = [] if config.valid is None else list_items(root, config.valid, split="valid", kinds=config.kinds)
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
