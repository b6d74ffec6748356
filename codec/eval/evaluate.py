"""Evaluate codecs on files: figures of every file, their means with confidence intervals, the use of codebooks."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from codec.audio.headers import joined
from codec.errors import AudioError
from codec.eval.bootstrap import mean_interval
from codec.eval.file_judge import FileJudge, FileResult, added
from codec.eval.metrics.bands import Bands, band_edges
from codec.eval.processes import judge_files
from codec.model.quantizer.quantizer import CodebookHealth, codebook_health
from codec.progress import progress_bar

Row = dict[str, Any]


class Evaluation(NamedTuple):
    """Result of `evaluate`."""

    rows: list[Row]
    """One per file, condition and system, in this order.

    path, codec, setting, condition, gain_db (dB), seconds, channels; num_bytes and bitrate (bit/s) of the file with its
    header and all channels; nominal_bitrate (bit/s) of its codes before entropy coding, or None; delay_ms that was
    removed; encode_speed and decode_speed (times real time); each metric by name; notes, why a metric has no value;
    bands, the fields of `codec.eval.metrics.bands.Bands` by name; error, None if all went well. A row with an error
    has no figures.
    """
    means: list[Row]
    """One per condition and system.

    codec, setting, condition, gain_db; num_files, num_failed, seconds; bitrate and nominal_bitrate (bit/s), all bits
    divided by all seconds; encode_speed, decode_speed; metrics, for each a dict with the mean over the files with a
    finite value, low and high (bounds of its 95 % bootstrap interval) and num, the number of such files; bands, the
    same means by band as lists; bands_left_out, the number of files without a value by band.
    """
    health: dict[str, CodebookHealth]
    """Of every level over all files and conditions, by codec, at its setting with the most levels."""
    seconds: float
    """Total length of the files."""
    agreement: Tensor | None
    """Share of codes equal to those of the reference `[K]`; None if nothing was compared."""
    metrics: tuple[str, ...]
    edges_hz: list[float]
    """Edges of the bands."""
    unread: dict[Path, AudioError]
    """Files that could not be read, with the reason; nothing else covers them."""


def evaluate(
    judge: FileJudge,
    paths: Sequence[Path],
    *,
    jobs: int = 1,
    done: Iterable[FileResult] = (),
    on_result: Callable[[Path, FileResult], None] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Code files in memory by all systems and compare with the originals.

    Args:
        judge: The systems, metrics and conditions.
        paths: Audio files of any rate, length and number of channels.
        jobs: Processes that share the files, each with one thread; 1 is this process, 0 one per processor.
        done: Results of other files, from an evaluation that was interrupted.
        on_result: Called with the result of each file as soon as it and all files before it are done.
        progress: Show a progress bar.

    Raises:
        AudioError: No file can be read.
        ConfigError: A metric is unknown or its package is not installed, or a system can't be sent to other processes.
    """
    tally = _Tally()
    for result in done:
        tally.add(result)
    outcomes = judge_files(judge, paths, jobs)
    bar = progress_bar(
        outcomes, desc="evaluating", unit="file", total=len(paths), hidden=not progress, leave=False, delay=2
    )
    unread: dict[Path, AudioError] = {}
    for path, outcome in zip(paths, bar, strict=True):
        if isinstance(outcome, AudioError):
            unread[path] = outcome
            continue
        tally.add(outcome)
        if on_result is not None:
            on_result(path, outcome)
    if not tally.rows:
        raise joined(list(unread.values()))
    means = [
        _mean([row for row in tally.rows if _group(row) == group], judge.metrics)
        for group in dict.fromkeys(map(_group, tally.rows))
    ]
    health = {codec: codebook_health(torch.from_numpy(uses)) for codec, uses in tally.counts.items()}
    seconds = sum({row["path"]: row["seconds"] for row in tally.rows}.values())
    edges_hz = band_edges(judge.sample_rate)
    return Evaluation(tally.rows, means, health, seconds, tally.agreement(), judge.metrics, edges_hz, unread)


def failures(evaluation: Evaluation) -> list[str]:
    """Files that could not be read, and those on which a codec failed, each with the reason."""
    failed = [row for row in evaluation.rows if row["error"] is not None]
    return [
        *map(str, evaluation.unread.values()),
        *(f"{row['path']}: {row['codec']}, {row['setting']}: {row['error']}" for row in failed),
    ]


class _Tally:
    """Sums over the files; their audio is not kept."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.counts: dict[str, Any] = {}
        self.equal: Any = None

    def add(self, result: FileResult) -> None:
        self.rows += result.rows
        for codec, uses in result.counts.items():
            self.counts[codec] = added(self.counts.get(codec), uses)
        self.equal = added(self.equal, result.equal)

    def agreement(self) -> Tensor | None:
        return None if self.equal is None else torch.from_numpy(self.equal[0] / self.equal[1])


def finite_mean(values: Sequence[float]) -> float:
    """Mean of the finite values; nan if there is none."""
    kept = [value for value in values if math.isfinite(value)]
    return sum(kept) / len(kept) if kept else math.nan


def _group(row: Row) -> tuple[str, str, str]:
    return row["condition"], row["codec"], row["setting"]


def _mean(rows: Sequence[Row], metrics: Sequence[str]) -> Row:
    """Mean of the rows of one system and condition."""
    good = [row for row in rows if row["error"] is None]
    seconds = sum(row["seconds"] for row in good)
    bands = {name: list(itertools.zip_longest(*(row["bands"][name] for row in good))) for name in Bands._fields}
    mean = {name: rows[0][name] for name in ("codec", "setting", "condition", "gain_db")}
    mean |= {"num_files": len(rows), "num_failed": len(rows) - len(good), "seconds": seconds}
    mean |= {"bitrate": math.nan, "nominal_bitrate": None, "encode_speed": math.nan, "decode_speed": math.nan}
    if good:
        mean["bitrate"] = 8 * sum(row["num_bytes"] for row in good) / seconds
        if good[0]["nominal_bitrate"] is not None:
            mean["nominal_bitrate"] = sum(row["nominal_bitrate"] * row["seconds"] for row in good) / seconds
        for name in ("encode_speed", "decode_speed"):
            mean[name] = seconds / sum(row["seconds"] / row[name] for row in good)
    return mean | {
        "metrics": {name: _interval([row[name] for row in good]) for name in metrics},
        "bands": {name: [finite_mean(values) for values in columns] for name, columns in bands.items()},
        "bands_left_out": [sum(not math.isfinite(value) for value in values) for values in bands["energy"]],
    }


def _interval(scores: Sequence[float]) -> Row:
    mean, low, high = mean_interval(scores)
    return {"mean": mean, "low": low, "high": high, "num": int(np.isfinite(scores).sum())}
