"""Evaluate a codec on files: bitrates, metrics and bands per file, their means, and the use of every codebook."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from codec.audio.headers import joined
from codec.errors import AudioError
from codec.eval.file_judge import FileJudge, FileResult
from codec.eval.metrics.bands import Bands, band_edges
from codec.eval.processes import judge_files
from codec.model.codec import Codec
from codec.model.digest import with_identity
from codec.model.quantizer.quantizer import CodebookHealth, codebook_health


class Evaluation(NamedTuple):
    """Result of `evaluate`."""

    rows: list[dict[str, Any]]
    """One per file, gain and number of levels, in this order.

    path, gain_db (dB), seconds, num_quantizers; num_bytes and bitrate (bit/s) of the `.codec` file with its header and
    all channels; nominal_bitrate (bit/s) of its codes before entropy coding; each metric by name; bands, the fields of
    `codec.eval.metrics.bands.Bands` by name.
    """
    means: list[dict[str, Any]]
    """One per gain and number of levels.

    gain_db, num_quantizers; bitrate and nominal_bitrate (bit/s), all bits divided by all seconds; for each metric and
    each band the mean over the files with a finite value; left_out, the number of files without one, by metric and as
    a list for "bands".
    """
    health: CodebookHealth
    """Of every level over all files and gains."""
    seconds: float
    """Total length of the files."""
    agreement: Tensor | None
    """Share of codes equal to those of the reference `[K]`; None without a reference."""
    edges_hz: list[float]
    """Edges of the bands."""
    unread: dict[Path, AudioError]
    """Files that could not be read, with the reason; nothing else covers them."""


def evaluate(
    codec: Codec,
    paths: Sequence[Path],
    *,
    num_quantizers: Sequence[int],
    metrics: Sequence[str],
    gains_db: Sequence[float] = (0.0,),
    beam: int | None = None,
    jobs: int = 1,
    reference: Codec | None = None,
    progress: bool = True,
) -> Evaluation:
    """Encode files in memory as codec-encode does, decode them, and compare with the originals at the model's rate.

    Args:
        codec: In eval mode.
        paths: Audio files of any rate; channels are encoded separately, and their metrics averaged.
        num_quantizers: Numbers of levels to evaluate.
        metrics: Names in `codec.eval.metrics.metrics.METRICS`.
        gains_db: Gains (dB): each clip is scaled by each of them, encoded, and compared with the scaled clip.
        beam: Candidates of the search in the quantizer; None: as for files.
        jobs: Processes that share the files, each with one thread; 1 is this process, 0 one per processor.
        reference: The same model in another mode; the share of equal codes is reported.
        progress: Show a progress bar.

    Raises:
        AudioError: No file can be read.
        ConfigError: A metric is unknown or its package is not installed, the model has fewer levels, or it can't be
            sent to other processes.
    """
    codec = with_identity(codec)  # every file names its model
    judge = FileJudge(codec, tuple(num_quantizers), tuple(metrics), tuple(gains_db), beam, reference)
    files = judge_files(judge, paths, jobs)
    bar = tqdm(files, desc="evaluating", unit="file", total=len(paths), disable=not progress, leave=False, delay=2)
    outcomes = list(bar)
    results = [outcome for outcome in outcomes if not isinstance(outcome, AudioError)]
    unread = {path: outcome for path, outcome in zip(paths, outcomes, strict=True) if isinstance(outcome, AudioError)}
    if not results:
        raise joined(list(unread.values()))
    rows = [row for result in results for row in result.rows]
    means = []
    for gain_db, levels in itertools.product(judge.gains_db, judge.num_quantizers):
        group = [row for row in rows if (row["gain_db"], row["num_quantizers"]) == (gain_db, levels)]
        means.append(_means(group, metrics))
    health, seconds = codebook_health(_count(results)), sum(result.seconds for result in results)
    return Evaluation(rows, means, health, seconds, _agreement(results), band_edges(codec.sample_rate), unread)


def finite_mean(values: Sequence[float]) -> float:
    """Mean of the finite values; nan if there is none."""
    kept = [value for value in values if math.isfinite(value)]
    return sum(kept) / len(kept) if kept else math.nan


def _means(rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> dict[str, Any]:
    """Mean of the rows of one gain and number of levels."""
    seconds = sum(row["seconds"] for row in rows)
    nominal_bits = sum(row["nominal_bitrate"] * row["seconds"] for row in rows)
    scores = {name: [row[name] for row in rows] for name in metrics}
    bands = {name: list(zip(*(row["bands"][name] for row in rows), strict=True)) for name in Bands._fields}
    return {
        "gain_db": rows[0]["gain_db"],
        "num_quantizers": rows[0]["num_quantizers"],
        "bitrate": 8 * sum(row["num_bytes"] for row in rows) / seconds,
        "nominal_bitrate": nominal_bits / seconds,
        **{name: finite_mean(values) for name, values in scores.items()},
        "bands": {name: [finite_mean(values) for values in columns] for name, columns in bands.items()},
        "left_out": {name: num for name, values in scores.items() if (num := _num_left_out(values))}
        | {"bands": [_num_left_out(values) for values in bands["energy"]]},  # the same in all fields
    }


def _num_left_out(values: Sequence[float]) -> int:
    return sum(not math.isfinite(value) for value in values)


def _count(results: Sequence[FileResult]) -> Tensor:
    """Uses of every codeword over all files, `[K, N]`."""
    return torch.from_numpy(np.sum([result.counts for result in results], axis=0))


def _agreement(results: Sequence[FileResult]) -> Tensor | None:
    """Share of equal codes over all files, `[K]`; None without a reference."""
    found = [result.num_equal for result in results if result.num_equal is not None]
    return torch.from_numpy(np.sum(found, axis=0)) / _count(results).sum(dim=-1) if found else None
