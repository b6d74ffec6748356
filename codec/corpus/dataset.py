"""Tokens for the training of a language model: a PyTorch data set over the shards of a corpus.

tokens-*.parquet --Channels--> codes [K, F] --crop--> [K, F] --Pattern.to_tokens--> tokens --collate--> batch
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from codec.corpus.channels import Channels
from codec.corpus.interleaving import PATTERNS, PatternName
from codec.corpus.shards import shard_paths
from codec.errors import ConfigError


class TokenItem(NamedTuple):
    """The tokens of one channel of a recording, or of a part of it."""

    tokens: Tensor
    """int64 `[K, L]`, or `[L]` for the flat pattern."""
    path: str
    """Name of the recording within its corpus: the key to its text or speaker."""
    channel: int
    """Number of the channel in the recording, from 0."""
    first_frame: int
    """Frame of the recording that the tokens start with."""


class TokenBatch(NamedTuple):
    """Items of a batch, padded to the longest."""

    tokens: Tensor
    """int64 `[B, K, L]`, or `[B, L]` for the flat pattern."""
    mask: Tensor
    """bool `[B, L]`: False where the batch was padded."""
    items: list[TokenItem]
    """The items without padding."""


class TokenDataset(Dataset[TokenItem]):
    """Tokens of a corpus that `codec-encode` wrote, one channel of a recording an item.

        dataset = TokenDataset("OUT", pattern="delay", crop_frames=500)
        for epoch in range(10):
            loader = DataLoader(dataset.at_epoch(epoch), batch_size=16, shuffle=True, collate_fn=dataset.collate)

    It works in the workers of a `DataLoader` and under a `DistributedSampler`: an item depends only on its index, the
    seed and the epoch. `len(dataset)` is the number of channels.

    Args:
        source: Folder of shards (`tokens-*.parquet`), or the shards themselves.
        pattern: "parallel" gives the codes as they are, "flat" one row, "delay" delayed rows:
            `codec.corpus.interleaving`.
        crop_frames: Frames of an item, from a random start that is new in every epoch; shorter recordings are whole.
            None: every recording is whole.
        seed: Of the random starts.

    Raises:
        ConfigError: There is no shard, the shards are of several models, or pyarrow is not installed.
        BitstreamError: A file can't be read, is no shard or of a later version.
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        *,
        pattern: PatternName = "parallel",
        crop_frames: int | None = None,
        seed: int = 0,
    ) -> None:
        if pattern not in PATTERNS:
            raise ConfigError(f"no pattern {pattern!r}: give one of {', '.join(PATTERNS)}")
        if crop_frames is not None and crop_frames < 1:
            raise ConfigError(f"crop_frames must be at least 1, not {crop_frames}")
        self.channels = Channels(_find_shards(source))
        self.header = self.channels.header
        self.pattern = PATTERNS[pattern](self.header.num_quantizers, self.header.codebook_size)
        self.crop_frames = crop_frames
        self.seed = seed
        self.epoch = 0

    def at_epoch(self, epoch: int) -> "TokenDataset":
        """The same data with the crops of another epoch."""
        other = copy.copy(self)
        other.epoch = epoch
        return other

    def __len__(self) -> int:
        return len(self.channels)

    def __getitem__(self, index: int) -> TokenItem:
        """Read an item.

        Raises:
            IndexError: There is no such item.
            BitstreamError: Its shard is damaged or gone.
        """
        path, channel, codes = self.channels[index]
        first = 0
        if self.crop_frames is not None and codes.shape[1] > self.crop_frames:
            rng = np.random.default_rng((self.seed, self.epoch, index))
            first = int(rng.integers(codes.shape[1] - self.crop_frames + 1))
            codes = codes[:, first : first + self.crop_frames]
        return TokenItem(self.pattern.to_tokens(codes), path, channel, first)

    def collate(self, items: Sequence[TokenItem]) -> TokenBatch:
        """Make a batch of items, padded at the end with `pattern.pad`: the `collate_fn` of a `DataLoader`."""
        lengths = torch.tensor([item.tokens.shape[-1] for item in items])
        longest = int(lengths.max())
        tokens = torch.full((len(items), *items[0].tokens.shape[:-1], longest), self.pattern.pad)
        for row, item in zip(tokens, items, strict=True):
            row[..., : item.tokens.shape[-1]] = item.tokens
        return TokenBatch(tokens, torch.arange(longest) < lengths[:, None], list(items))


def _find_shards(source: str | Path | Sequence[str | Path]) -> list[Path]:
    if not isinstance(source, str | Path):
        paths = [Path(path) for path in source]
        if not paths:
            raise ConfigError("no shards: the list is empty")
        return paths
    path = Path(source)
    paths = shard_paths(path) if path.is_dir() else [path]
    if not paths or not paths[0].is_file():
        raise ConfigError(f"no shards at {path}: give a folder with tokens-*.parquet, which codec-encode writes")
    return paths
