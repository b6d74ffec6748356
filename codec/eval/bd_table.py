"""BD-rates of all codecs of an evaluation against one of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from codec.errors import ConfigError
from codec.eval.bd_rate import Curve, bd_rate
from codec.eval.conditions import AS_IT_IS
from codec.eval.evaluate import Evaluation
from codec.eval.metrics.metrics import METRICS


def bd_rates(evaluation: Evaluation, reference: str) -> list[dict[str, Any]]:
    """BD-rates of every other codec, for every metric that has a better end, of the recordings as they are.

    Only files count for which both codecs have a finite value at all settings.

    Args:
        evaluation: Of several codecs at several settings.
        reference: Name of the codec that the others are compared with.

    Returns:
        One dict per codec and metric: codec, reference, metric, percent, low, high, note, num_files.

    Raises:
        ConfigError: As for `check_reference`.
    """
    codecs = list(dict.fromkeys(mean["codec"] for mean in evaluation.means))
    check_reference(reference, codecs)
    compared = [name for name in evaluation.metrics if METRICS[name].better != "zero"]
    return [
        _compare(evaluation, codec, reference, metric) for codec in codecs if codec != reference for metric in compared
    ]


def check_reference(reference: str, codecs: Sequence[str]) -> None:
    """Raise ConfigError if no codec has the name of the reference."""
    if reference not in codecs:
        raise ConfigError(f"no codec {reference!r} to compare with: choose from {', '.join(codecs)}")


def _compare(evaluation: Evaluation, codec: str, reference: str, metric: str) -> dict[str, Any]:
    both = [_table(evaluation, name, metric) for name in (codec, reference)]
    common = [path for path in both[0] if path in both[1]]
    files = [path for path in common if all(np.isfinite(table[path]).all() for table in both)]
    found = {"codec": codec, "reference": reference, "metric": metric, "num_files": len(files)}
    if not files:
        return found | {"percent": np.nan, "low": np.nan, "high": np.nan, "note": "no file has a value for both"}
    sign = 1 if METRICS[metric].better == "higher" else -1
    curves = []
    for table in both:
        values = np.stack([table[path] for path in files], axis=1)  # [settings, files, 3]
        curves.append(Curve(values[..., 0], values[0, :, 1], sign * values[..., 2]))
    return found | bd_rate(*curves)._asdict()


def _table(evaluation: Evaluation, codec: str, metric: str) -> dict[str, Any]:
    """By file: bits, seconds and score of every setting, `[settings, 3]`; files with an error are left out."""
    rows = [row for row in evaluation.rows if row["codec"] == codec and row["condition"] == AS_IT_IS.name]
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    by_file: dict[str, dict[str, Sequence[float]]] = {}
    for row in rows:
        if row["error"] is None:
            by_file.setdefault(row["path"], {})[row["setting"]] = (8 * row["num_bytes"], row["seconds"], row[metric])
    return {
        path: np.array([values[setting] for setting in settings], dtype=np.float64)
        for path, values in by_file.items()
        if len(values) == len(settings)
    }
