"""Judge a codec on files: metrics per file and bitrate, their means, and how well each codebook is used."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from codec.audio import load_audio
from codec.eval.metrics import measure
from codec.model.codec import Codec
from codec.model.quantizers import CodebookHealth, codebook_health


class Evaluation(NamedTuple):
    """Result of `evaluate`."""

    rows: list[dict[str, Any]]
    """One per file and number of levels: path, seconds, num_quantizers, bitrate (bit/s) and the metrics."""
    means: list[dict[str, float]]
    """One per number of levels: num_quantizers, bitrate, and each metric's mean over the files where it is defined."""
    health: CodebookHealth
    """Of every level over all files."""
    seconds: float
    """Audio that was judged."""
    agreement: Tensor | None
    """Share of codes `[K]` that are those of the reference, where there is one."""


@torch.no_grad()
def evaluate(
    codec: Codec,
    paths: Sequence[Path],
    *,
    num_quantizers: Sequence[int],
    metrics: Sequence[str],
    reference: Codec | None = None,
    progress: bool = True,
) -> Evaluation:
    """Encode and decode files and measure the result at the model's sample rate.

    Args:
        codec: In eval mode.
        paths: Audio files of any rate; channels are coded separately and averaged.
        num_quantizers: Numbers of levels to decode with.
        metrics: Names that `codec.eval.metrics.measure` knows.
        reference: The same model in another mode, whose codes are compared.
        progress: Show a progress bar.

    Raises:
        AudioError: A file can't be read.
    """
    counts = torch.zeros(codec.quantizer.num_quantizers, codec.quantizer.codebook_size)
    equal = torch.zeros(codec.quantizer.num_quantizers)
    rows: list[dict[str, Any]] = []
    for path in tqdm(paths, desc="evaluating", unit="file", disable=not progress, leave=False, delay=2):
        audio = load_audio(path, codec.sample_rate)
        codes = codec.encode(audio.transpose(0, 1).to(codec.device))
        counts += count_codes(codes, codec.quantizer.codebook_size).cpu()
        if reference is not None:
            equal += (reference.encode(audio.transpose(0, 1).to(codec.device)) == codes).sum(dim=(0, 2)).cpu()
        for levels in num_quantizers:
            decoded = codec.decode(codes[:, :levels], audio.shape[-1]).transpose(0, 1).cpu()
            scores = measure(decoded[0], audio[0], codec.sample_rate, metrics)
            facts = {"seconds": audio.shape[-1] / codec.sample_rate, **_rate(codec, levels)}
            rows.append({"path": str(path), **facts, **scores})
    means = [_rate(codec, levels) | _means(rows, levels, metrics) for levels in num_quantizers]
    seconds = sum(row["seconds"] for row in rows) / max(len(num_quantizers), 1)
    agreement = None if reference is None else equal / counts.sum(dim=-1)
    return Evaluation(rows, means, codebook_health(counts), seconds, agreement)


def count_codes(codes: Tensor, codebook_size: int) -> Tensor:
    """Uses of every codeword `[K, N]` in codes `[B, K, F]`."""
    return torch.stack([torch.bincount(level.flatten(), minlength=codebook_size) for level in codes.unbind(1)])


def format_table(evaluation: Evaluation) -> str:
    """Means as aligned text, one line a bitrate."""
    names = list(evaluation.means[0])
    table = [names, *([_cell(mean[name]) for name in names] for mean in evaluation.means)]
    widths = [max(len(row[column]) for row in table) for column in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table)


def _cell(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # a bitrate of 12000 is not 1.2e+04


def _rate(codec: Codec, levels: int) -> dict[str, float]:
    return {"num_quantizers": levels, "bitrate": levels * codec.config.bits_per_level}


def _means(rows: Sequence[dict[str, Any]], levels: int, metrics: Sequence[str]) -> dict[str, float]:
    means = {}
    for metric in metrics:
        values = [row[metric] for row in rows if row["num_quantizers"] == levels and not math.isnan(row[metric])]
        means[metric] = sum(values) / len(values) if values else math.nan
    return means
