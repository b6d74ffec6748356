"""Learn the entropy coding tables of a model from its codes; `codec.bitstream.rans` explains the contexts.

For every level, from counts of codes c in the context of the previous frame's code and of the code one level below:

1. Context codes with similar distributions P(c | code) are merged into classes by k-means. Its distance is the
   Kullback-Leibler divergence, the bits lost by coding with the wrong distribution.
2. The distribution of a pair of classes a (previous) and b (below) is
   P(c | a, b) ~ P(c) (P(c | a) P(c | b) / P(c)^2)^s, where P(c | a) and P(c | b) are smoothed towards P(c) according to
   their counts. s = 1 holds if a and b are independent given c; s < 1 discounts what both of them tell. This needs far
   fewer counts than the pairs themselves.
3. Pairs with similar distributions share a row of the table, again by k-means.

The numbers of classes, s and the weight of P(c) are those with the fewest bits on a tenth of the recordings, which is
held out from the counts; then all recordings are counted. A level that gains nothing by its context has one row, P(c).
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from codec.errors import ConfigError
from codec.model.entropy_tables import TOTAL, EntropyTables
from codec.progress import progress_bar

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_CODEBOOK_SIZE = 4096
"""Counts of pairs of codes take 16 N^2 bytes per level."""
NUM_ROWS = (120, 120, 100)
"""Rows of the first levels, which gain most from their context."""
NUM_ROWS_ABOVE = 40
"""Rows of every other level. At 12 levels of 1024 codewords all rows together take 1.5 MB."""
NUM_CLASSES = 32
"""Classes of the previous code and of the code below, if both are used."""
FRAMES_PER_CHUNK = 200
"""Assumed length of a chunk, whose first frame has no previous frame (4 s at 50 frames per second)."""
WEIGHTS = (10.0, 100.0, 300.0, 1000.0)
"""Weights of P(c) to try, in codes."""
SHARPNESSES = (0.6, 0.75, 0.9)
"""Values of s to try."""
MIN_GAIN = 0.005
"""Least saving by contexts that is worth more than one row (bits per code)."""
_HELD_OUT = 10  # every tenth recording
_ITERATIONS = 20


class _Counts(NamedTuple):
    """Codes of a level in their contexts."""

    previous: Ints
    """Counts `[N + 1, N]` of codes (columns) by the previous code (rows; row N: no previous frame)."""
    below: Ints
    """Counts `[N + 1, N]` of codes (columns) by the code of the level below (rows; row N: no level below)."""
    pairs: Ints
    """Previous code, code of the level below, and code, for every frame `[3, n]`."""


class _Choice(NamedTuple):
    """Parameters of a level."""

    num_previous: int
    """Classes of the previous code."""
    num_below: int
    """Classes of the code below."""
    weight: float
    """Weight of P(c), in codes."""
    sharpness: float
    """s."""


class _Level(NamedTuple):
    """Tables of a level."""

    shares: Floats
    """Distributions `[R, N]`; every row sums to 1."""
    previous: Ints
    """Class of every previous code `[N + 1]`."""
    below: Ints
    """Class of every code below `[N + 1]`."""
    rows: Ints
    """Row of every pair of classes."""


def learn_tables(codes: Sequence[npt.NDArray[np.integer]], codebook_size: int, *, seed: int = 0) -> EntropyTables:
    """Learn entropy tables from the codes of recordings, reproducibly.

    Args:
        codes: `[k, F]` of each channel of each recording, 0 <= code < N, some hours of speech. k is the number of
            levels that the recording was encoded with; with variable bitrate the codes depend on it. At least two
            recordings must have all levels.
        codebook_size: N, 2 .. `MAX_CODEBOOK_SIZE`.
        seed: Of the initial clusters of k-means.

    Raises:
        ConfigError: Fewer than two recordings have all levels, codes are empty or out of range, or N is.
    """
    _check(codes, codebook_size)
    num_quantizers = max(len(recording) for recording in codes)
    levels = []
    for level in progress_bar(
        range(num_quantizers), desc="learning entropy tables", unit="level", delay=2, leave=False
    ):
        present = [recording for recording in codes if len(recording) > level]
        counted = [recording for number, recording in enumerate(present) if number % _HELD_OUT]
        counts, held_out = _count(counted, level, codebook_size), _count(present[::_HELD_OUT], level, codebook_size)
        num_rows = NUM_ROWS[level] if level < len(NUM_ROWS) else NUM_ROWS_ABOVE
        choice = _choose(counts, held_out, num_rows, seed)
        levels.append(_fit(_count(present, level, codebook_size), choice, num_rows, seed))
    tables = _join(levels)
    return replace(tables, bits_per_frame=torch.from_numpy(_measure_bits(tables, codes)))


def _measure_bits(tables: EntropyTables, codes: Sequence[npt.NDArray[np.integer]]) -> npt.NDArray[np.float32]:
    """Mean bits per frame with the first k levels `[K]`, interpolated between the numbers of levels that occur."""
    tensors = {name: tensor.long().numpy() for name, tensor in tables.tensors().items()}
    num_quantizers, size = len(tensors["rows"]), tensors["frequencies"].shape[1]
    bits: dict[int, Floats] = defaultdict(lambda: np.zeros(num_quantizers))
    frames: dict[int, int] = defaultdict(int)
    for recording in codes:
        levels = np.arange(len(recording))[:, np.newaxis]
        before, lower = np.full(recording.shape, size), np.full(recording.shape, size)
        before[:, 1:], lower[1:] = recording[:, :-1], recording[:-1]
        rows = tensors["rows"][levels, tensors["previous"][levels, before], tensors["below"][levels, lower]]
        costs = -np.log2(tensors["frequencies"][rows, recording] / TOTAL)
        bits[len(recording)][: len(recording)] += costs.sum(axis=1)
        frames[len(recording)] += recording.shape[1]
    if len(frames) == 1:  # a file of fewer levels holds the first levels of these
        return np.cumsum(bits[num_quantizers] / frames[num_quantizers]).astype(np.float32)
    known = sorted(frames)
    mean = [float(bits[count].sum()) / frames[count] for count in known]
    return np.interp(np.arange(1, num_quantizers + 1), [0, *known], [0.0, *mean]).astype(np.float32)


def _check(codes: Sequence[npt.NDArray[np.integer]], codebook_size: int) -> None:
    if not 2 <= codebook_size <= MAX_CODEBOOK_SIZE:
        raise ConfigError(f"entropy tables are for 2 .. {MAX_CODEBOOK_SIZE} codewords, not for {codebook_size}")
    if len(codes) < 2:
        raise ConfigError(f"entropy tables are learned from two recordings or more, not from {len(codes)}")
    lengths = sorted(len(recording) for recording in codes)
    if lengths[-2] < lengths[-1]:
        raise ConfigError(f"one recording alone has {lengths[-1]} levels: tables are learned from two or more")
    for recording in codes:
        if recording.ndim != 2 or 0 in recording.shape:
            raise ConfigError(f"codes must be [k, F] and not empty, not {list(recording.shape)}")
        if recording.min() < 0 or recording.max() >= codebook_size:
            raise ConfigError(f"codes must be in 0 .. {codebook_size - 1}")


def _count(codes: Sequence[npt.NDArray[np.integer]], level: int, size: int) -> _Counts:
    here = [recording[level].astype(np.int64) for recording in codes]
    before = [np.concatenate([[size], recording[:-1]]) for recording in here]
    lower = [
        recording[level - 1].astype(np.int64) if level else np.full(recording.shape[1], size) for recording in codes
    ]
    pairs = np.stack([np.concatenate(parts) for parts in (before, lower, here)])
    previous, below = (np.bincount(context * size + pairs[2], minlength=(size + 1) * size) for context in pairs[:2])
    counts = _Counts(previous.reshape(-1, size), below.reshape(-1, size), pairs)
    # A chunk may start anywhere in a recording, so any code may be without a previous one.
    counts.previous[size] = counts.previous.sum(axis=0) // FRAMES_PER_CHUNK
    return counts


def _choose(counts: _Counts, held_out: _Counts, num_rows: int, seed: int) -> _Choice:
    """Find the parameters with the fewest bits on held-out recordings."""
    best, fewest = _Choice(1, 1, WEIGHTS[-1], 1.0), np.inf
    for num_previous, num_below in ((1, 1), (num_rows, 1), (1, num_rows), (NUM_CLASSES, NUM_CLASSES)):
        classes = _classes(counts, num_previous, num_below, seed)
        sharpnesses = SHARPNESSES if num_previous == num_below > 1 else (1.0,)
        tried = {}
        for weight, sharpness in itertools.product(WEIGHTS, sharpnesses):
            choice = _Choice(num_previous, num_below, weight, sharpness)
            level = _pair_up(counts, classes, choice)
            tried[_cost(level, held_out)] = choice, level
        choice, level = tried[min(tried)]
        bits = _cost(_merge(level, counts, num_rows, seed), held_out)
        if bits < fewest - (MIN_GAIN if (best.num_previous, best.num_below) == (1, 1) else 0):
            best, fewest = choice, bits
    return best


def _fit(counts: _Counts, choice: _Choice, num_rows: int, seed: int) -> _Level:
    """Tables of a level with the chosen parameters."""
    classes = _classes(counts, choice.num_previous, choice.num_below, seed)
    return _merge(_pair_up(counts, classes, choice), counts, num_rows, seed)


def _classes(counts: _Counts, num_previous: int, num_below: int, seed: int) -> tuple[Ints, Ints]:
    """Step 1: the class of every previous code and of every code below, `[N + 1]` each."""
    marginal = _marginal(counts)
    return (
        _cluster(counts.previous.astype(np.float64), num_previous, marginal, seed),
        _cluster(counts.below.astype(np.float64), num_below, marginal, seed),
    )


def _pair_up(counts: _Counts, classes: tuple[Ints, Ints], choice: _Choice) -> _Level:
    """Step 2: a distribution for every pair of classes."""
    marginal = _marginal(counts)
    previous, below = (
        _shares(_sums(table.astype(np.float64), of_code), marginal, choice.weight)
        for table, of_code in zip((counts.previous, counts.below), classes, strict=True)
    )
    shares = marginal * (previous[:, np.newaxis] * below / marginal**2) ** choice.sharpness
    shares = (shares / shares.sum(axis=-1, keepdims=True)).reshape(-1, len(marginal))
    return _Level(shares, *classes, np.arange(len(shares)).reshape(len(previous), len(below)))


def _merge(level: _Level, counts: _Counts, num_rows: int, seed: int) -> _Level:
    """Step 3: merge the distributions into at most `num_rows` rows."""
    before, lower, _ = counts.pairs
    uses = np.bincount(level.rows[level.previous[before], level.below[lower]], minlength=len(level.shares))
    expected = level.shares * (uses + 1e-3)[:, np.newaxis]
    marginal = _marginal(counts)
    row = _cluster(expected, num_rows, marginal, seed, weight=1.0)
    return level._replace(shares=_shares(_sums(expected, row), marginal, 1.0), rows=row[level.rows])


def _cost(level: _Level, counts: _Counts) -> float:
    """Mean cost of a code (bits)."""
    before, lower, here = counts.pairs
    return float(-np.log2(level.shares[level.rows[level.previous[before], level.below[lower]], here]).mean())


def _cluster(counts: Floats, num_clusters: int, marginal: Floats, seed: int, *, weight: float = 100.0) -> Ints:
    """Cluster rows `[M, N]` of counts so that coding each row with the distribution of its cluster costs few bits.

    Returns:
        Cluster of each row `[M]`, 0 .. n - 1 with n at most `num_clusters`, none of them empty.
    """
    totals = counts.sum(axis=1)
    known = np.flatnonzero(totals)
    if num_clusters == 1 or len(known) <= 1:
        return np.zeros(len(counts), np.int64)
    if len(counts) <= num_clusters:
        return np.arange(len(counts))
    generator = np.random.default_rng(seed)
    starts = generator.choice(known, min(num_clusters, len(known)), replace=False, p=totals[known] / totals.sum())
    shares = _shares(counts[starts], marginal, weight)
    clusters = np.full(len(counts), -1)
    for _ in range(_ITERATIONS):
        nearest = (counts @ np.log2(shares).T).argmax(axis=1)
        if (nearest == clusters).all():
            break
        clusters = nearest
        shares = _shares(_sums(counts, clusters, len(starts)), marginal, weight)
    return np.unique(clusters, return_inverse=True)[1].astype(np.int64)


def _marginal(counts: _Counts) -> Floats:
    """P(c), from counts to which 1/2 is added."""
    seen = np.bincount(counts.pairs[2], minlength=counts.below.shape[1]) + 0.5
    return np.asarray(seen / seen.sum())


def _sums(counts: Floats, clusters: Ints, num_clusters: int = 0) -> Floats:
    """Sum of the rows `[M, N]` in each cluster."""
    sums = np.zeros((max(num_clusters, int(clusters.max()) + 1), counts.shape[1]))
    np.add.at(sums, clusters, counts)
    return sums


def _shares(counts: Floats, marginal: Floats, weight: float) -> Floats:
    """Distributions of counts `[M, N]`, to which `weight` codes with the distribution `marginal` are added."""
    return np.asarray((counts + weight * marginal) / (counts.sum(axis=1, keepdims=True) + weight))


def _join(levels: Sequence[_Level]) -> EntropyTables:
    """Join the tables of all levels."""
    shape = (len(levels), *np.max([level.rows.shape for level in levels], axis=0))
    rows, first = np.zeros(shape, np.int64), 0
    for number, level in enumerate(levels):
        rows[number, : level.rows.shape[0], : level.rows.shape[1]] = first + level.rows
        first += len(level.shares)
    frequencies = _quantize(np.concatenate([level.shares for level in levels]))
    return EntropyTables(
        frequencies=torch.from_numpy(frequencies.astype(np.uint16)),
        previous=torch.from_numpy(np.stack([level.previous for level in levels]).astype(np.uint8)),
        below=torch.from_numpy(np.stack([level.below for level in levels]).astype(np.uint8)),
        rows=torch.from_numpy(rows.astype(np.uint16)),
        bits_per_frame=torch.arange(1.0, len(levels) + 1),
    )


def _quantize(shares: Floats) -> Ints:
    """Round shares to frequencies of at least 1 with rows that sum to `TOTAL`, by the largest remainder method."""
    wanted = shares * (TOTAL - shares.shape[1])
    frequencies: Ints = 1 + np.floor(wanted).astype(np.int64)
    missing = TOTAL - frequencies.sum(axis=1, keepdims=True)
    rank = np.argsort(np.argsort(np.floor(wanted) - wanted, axis=1, kind="stable"), axis=1)
    frequencies += rank < missing
    return frequencies
