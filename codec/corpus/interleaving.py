"""Patterns that turn codes into the tokens of a language model, and their exact inverses.

    codes [..., K, F] --to_tokens--> tokens [..., L] or [..., K, L] --to_codes--> codes [..., K, F]

K levels, F frames, N codewords of a codebook. The three patterns are named and drawn in MusicGen (Copet et al., 2023,
arXiv:2306.05284, section 2.2). With K = 2, and `-` for the pad:

    parallel   level 1:  a1 a2 a3        flat   a1 b1 a2 b2 a3 b3        delay   level 1:  a1 a2 a3 -
               level 2:  b1 b2 b3                                                level 2:  -  b1 b2 b3
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.errors import BitstreamError, ConfigError

Integers = Tensor | npt.NDArray[Any]
"""A tensor or an array of any integer type."""
_INTEGER_TYPES = (torch.uint8, torch.uint16, torch.uint32, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Pattern(ABC):
    """Order in which a language model sees the codes of all levels.

    `to_codes(to_tokens(codes))` equals `codes`, and so does the start of `codes` where tokens were cut off: `to_codes`
    drops the last frames of which a level is missing.
    """

    num_quantizers: int
    """Levels K of the codes."""
    codebook_size: int
    """Codewords N of each codebook."""

    def __post_init__(self) -> None:
        if self.num_quantizers < 1 or self.codebook_size < 1:
            raise ConfigError(f"a pattern needs levels and codewords, not {self.num_quantizers}, {self.codebook_size}")

    @property
    def pad(self) -> int:
        """The id that stands for no code. It is the last one, and free to mark the start and the end as well."""
        return self.codebook_size

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, the pad included. Patterns of K rows have so many ids in each row."""
        return self.pad + 1

    def to_tokens(self, codes: Integers) -> Tensor:
        """Interleave codes `[..., K, F]`, each in 0 .. N - 1; returns int64 tokens.

        Raises:
            BitstreamError: Another shape, no integers, or a code out of range; the message names its position.
        """
        codes = self._rows(codes, "codes")
        _check_range(codes, 0, self.codebook_size - 1, "codes")
        return self._interleave(codes)

    @abstractmethod
    def to_codes(self, tokens: Integers) -> Tensor:
        """Codes of tokens, such as a language model generates: int64 `[..., K, F]`, complete frames only.

        Raises:
            BitstreamError: Another shape, no integers, or a token out of place, a pad among them; the message names its
                position.
        """

    @abstractmethod
    def _interleave(self, codes: Tensor) -> Tensor:
        """Tokens of codes that were checked."""

    def _rows(self, values: Integers, name: str) -> Tensor:
        """The values as int64 `[..., K, L]`."""
        rows = _integers(values, name)
        if rows.ndim < 2 or rows.shape[-2] != self.num_quantizers:
            raise BitstreamError(f"{name} of shape {list(rows.shape)}: expected [..., {self.num_quantizers}, length]")
        return rows


class ParallelPattern(Pattern):
    """K rows of F tokens: all levels of a frame in one step. The tokens are the codes."""

    def to_codes(self, tokens: Integers) -> Tensor:
        """See `Pattern.to_codes`; the tokens are `[..., K, F]`."""
        tokens = self._rows(tokens, "tokens")
        _check_range(tokens, 0, self.codebook_size - 1, "tokens")
        return tokens

    def _interleave(self, codes: Tensor) -> Tensor:
        return codes


class FlatPattern(Pattern):
    """One row of K * F tokens: the levels of frame 1, then those of frame 2, and so on.

    A code of level k (1 .. K) has the id code + (k - 1) * N, so that each level has its own ids.
    """

    @property
    def pad(self) -> int:
        """The id that stands for no code: K * N."""
        return self.num_quantizers * self.codebook_size

    def to_codes(self, tokens: Integers) -> Tensor:
        """See `Pattern.to_codes`; the tokens are `[..., L]`, and the last L mod K are dropped."""
        tokens = _integers(tokens, "tokens")
        if tokens.ndim < 1:
            raise BitstreamError("tokens of shape []: expected [..., length]")
        num_frames = tokens.shape[-1] // self.num_quantizers
        tokens = tokens[..., : num_frames * self.num_quantizers]
        lowest = self._offsets(tokens).repeat(num_frames)
        _check_range(tokens, lowest, lowest + self.codebook_size - 1, "tokens")
        return (tokens - lowest).reshape(*tokens.shape[:-1], num_frames, self.num_quantizers).transpose(-1, -2)

    def _interleave(self, codes: Tensor) -> Tensor:
        return (codes.transpose(-1, -2) + self._offsets(codes)).flatten(-2)

    def _offsets(self, values: Tensor) -> Tensor:
        """First id of each level, `[K]`."""
        return torch.arange(self.num_quantizers, device=values.device) * self.codebook_size


class DelayPattern(Pattern):
    """K rows of F + K - 1 tokens: level k (1 .. K) comes k - 1 steps late, with pads where it has no code.

    So each level of a frame is predicted when the levels above it are known, in F + K - 1 steps instead of K * F.
    """

    def to_codes(self, tokens: Integers) -> Tensor:
        """See `Pattern.to_codes`; the tokens are `[..., K, L]`, and hold L - K + 1 complete frames."""
        tokens = self._rows(tokens, "tokens")
        num_frames = max(tokens.shape[-1] - self.num_quantizers + 1, 0)
        steps = torch.arange(tokens.shape[-1], device=tokens.device)
        level = torch.arange(self.num_quantizers, device=tokens.device)[:, None]
        is_code, is_early = (level <= steps) & (steps < level + num_frames), steps < level
        _check_range(tokens, torch.where(is_early, self.pad, 0), torch.where(is_code, self.pad - 1, self.pad), "tokens")
        return torch.stack([tokens[..., k, k : k + num_frames] for k in range(self.num_quantizers)], dim=-2)

    def _interleave(self, codes: Tensor) -> Tensor:
        num_frames = codes.shape[-1]
        tokens = codes.new_full((*codes.shape[:-1], num_frames + self.num_quantizers - 1), self.pad)
        for k in range(self.num_quantizers):
            tokens[..., k, k : k + num_frames] = codes[..., k, :]
        return tokens


PatternName = Literal["parallel", "flat", "delay"]
PATTERNS: dict[PatternName, type[Pattern]] = {"parallel": ParallelPattern, "flat": FlatPattern, "delay": DelayPattern}


def _integers(values: Integers, name: str) -> Tensor:
    """The values as int64; an array is copied, since torch warns of one that can't be written."""
    if isinstance(values, np.ndarray):
        is_integer = values.dtype.kind in "iu"
    else:
        is_integer = isinstance(values, Tensor) and values.dtype in _INTEGER_TYPES
    if not is_integer:
        kind = getattr(values, "dtype", type(values).__name__)
        raise BitstreamError(f"{name} must be integers in a tensor or an array, not {kind}")
    return torch.from_numpy(values.astype(np.int64)) if isinstance(values, np.ndarray) else values.long()


def _check_range(values: Tensor, lowest: int | Tensor, highest: int | Tensor, name: str) -> None:
    """Refuse values outside `lowest` .. `highest`; the error names the first one as Python indexes it."""
    wrong = ((values < lowest) | (values > highest)).nonzero()
    if not len(wrong):
        return
    position = tuple(wrong[0].tolist())
    low, high = (int(torch.as_tensor(bound).expand(values.shape)[position]) for bound in (lowest, highest))
    wanted = f"{low} .. {high}" if low < high else str(low)
    index = ", ".join(map(str, position))
    raise BitstreamError(f"{name}[{index}] is {int(values[position])}, but must be {wanted} there")
