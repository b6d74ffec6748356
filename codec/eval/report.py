"""An evaluation as text, one table a gain and one a bitrate, and as JSON."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from codec.eval.bands import describe_bands
from codec.eval.evaluate import Evaluation

LOUDNESS_LIMIT_DB = 3.0
"""An energy of a band that is further off is told in words."""
BAND_ROWS = {"snr": "SNR (dB)", "energy": "energy (dB)", "power_error": "power error (dB)"}


def format_evaluation(evaluation: Evaluation) -> str:
    """For each gain the means, one line a bitrate, and under them what happens in each band, one table a bitrate."""
    gains = list(dict.fromkeys(mean["gain_db"] for mean in evaluation.means))
    sections = []
    for gain in gains:
        means = [mean for mean in evaluation.means if mean["gain_db"] == gain]
        if len(gains) > 1 or gain != 0:
            sections.append(f"Gain {gain:g} dB")
        sections.append("\n".join([_table(_means_table(means)), *_describe_left_out(means)]))
        sections += [_format_bands(mean, evaluation.edges_hz) for mean in means]
    return "\n\n".join(sections)


def finite_or_null(value: Any) -> Any:
    """A value of dicts, lists and numbers as JSON has it: None for NaN and infinity, at any depth."""
    if isinstance(value, dict):
        return {key: finite_or_null(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite_or_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def scalars(mean: dict[str, Any]) -> dict[str, Any]:
    """What of a mean fits into one cell each, without the gain."""
    return {name: value for name, value in mean.items() if name not in ("gain_db", "bands", "left_out")}


def _means_table(means: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = [scalars(mean) for mean in means]
    return [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]


def _describe_left_out(means: Sequence[dict[str, Any]]) -> Iterator[str]:
    for mean in means:
        counts = {name: number for name, number in mean["left_out"].items() if name != "bands"}
        if counts:
            text = ", ".join(f"{number} of {name}" for name, number in counts.items())
            yield f"{_levels(mean)}: files without a finite value, left out of the mean: {text}"


def _format_bands(mean: dict[str, Any], edges_hz: Sequence[float]) -> str:
    """What happens in each band, as a table, and in words where the energy is far off."""
    names = describe_bands(edges_hz)
    rows = [["Hz", *names]]
    rows += [[label, *map(_decibel, mean["bands"][field])] for field, label in BAND_ROWS.items()]
    if any(mean["left_out"]["bands"]):
        rows.append(["files left out", *map(str, mean["left_out"]["bands"])])
    rate = f"{mean['bitrate'] / 1000:.2f} kbit/s (nominal {mean['nominal_bitrate'] / 1000:.4g})"
    lines = [f"{_levels(mean)}, {rate}, by band", _table(rows)]
    for word, sign in (("quiet", -1), ("loud", 1)):
        spans = _describe_excess([sign * energy for energy in mean["bands"]["energy"]], edges_hz)
        if spans:
            lines.append(f"Too {word}: {', '.join(spans)}")
    return "\n".join(lines)


def _describe_excess(values: Sequence[float], edges_hz: Sequence[float]) -> list[str]:
    """Where values (dB), one a band, are above the limit, neighbours together: "1000-4000 Hz by 3.5 to 11.8 dB"."""
    spans = []
    bands = range(len(values))
    for is_far, group in itertools.groupby(bands, key=lambda band: values[band] > LOUDNESS_LIMIT_DB):
        span = list(group)
        if is_far:
            low, high = min(values[band] for band in span), max(values[band] for band in span)
            by = f"{low:.1f} to {high:.1f}" if len(span) > 1 else f"{low:.1f}"
            spans.append(f"{edges_hz[span[0]]:g}-{edges_hz[span[-1] + 1]:g} Hz by {by} dB")
    return spans


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _levels(mean: dict[str, Any]) -> str:
    return f"{mean['num_quantizers']} level{'s' if mean['num_quantizers'] > 1 else ''}"


def _decibel(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"


def _cell(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # a bitrate of 12000 is not 1.2e+04
