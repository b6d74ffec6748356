"""Figures of codecs that were measured elsewhere, to be drawn beside an evaluation: a small table of text.

    codec    bitrate  pesq_wb  stoi
    Lyra V2  3200     2.360    0.877

Columns are separated by tabs. The bitrate is in bit/s; the other columns are metrics, empty where unknown.
"""

import math
from pathlib import Path
from typing import Any

from codec.errors import ConfigError, one_line
from codec.eval.conditions import AS_IT_IS
from codec.eval.metrics.metrics import METRICS

MAX_BYTES = 2**20


def read_published(path: Path) -> list[dict[str, Any]]:
    """Read such a table as means without intervals, see `codec.eval.evaluate.Evaluation`.

    Raises:
        ConfigError: The file can't be read, or is no such table.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [line.split("\t") for line in file.read(MAX_BYTES).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read {path}: {one_line(error)}") from error
    names, *rows = lines or [[]]
    metrics = names[2:]
    if names[:2] != ["codec", "bitrate"] or not metrics or not set(metrics) <= set(METRICS):
        raise ConfigError(f"{path}: the first line must name tab-separated columns: codec, bitrate, then metrics")
    means = []
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise ConfigError(f"{path}, line {number}: {len(row)} columns, but the first line names {len(names)}")
        try:
            bitrate, *scores = (float(cell) if cell else math.nan for cell in row[1:])
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from error
        means.append(_mean(row[0], bitrate, dict(zip(metrics, scores, strict=True))))
    return means


def _mean(codec: str, bitrate: float, scores: dict[str, float]) -> dict[str, Any]:
    values = {name: {"mean": score, "low": math.nan, "high": math.nan, "num": 0} for name, score in scores.items()}
    setting = f"{bitrate / 1000:g} kbit/s"
    return {"codec": codec, "setting": setting, "condition": AS_IT_IS.name, "bitrate": bitrate, "metrics": values}
