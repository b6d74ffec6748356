"""An evaluation as text, with one table per gain and one per bitrate, and its values made ready for JSON."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from codec.eval.evaluate import Evaluation
from codec.eval.metrics.bands import describe_bands
from codec.table import Row, aligned

LOUDNESS_LIMIT_DB = 3.0
"""Bands whose energy is off by more than this are also named in words."""
BAND_ROWS = {"snr": "SNR (dB)", "energy": "energy (dB)", "power_error": "power error (dB)"}


def format_evaluation(evaluation: Evaluation) -> str:
    """For each gain a table of the means with a row per bitrate, then a table by frequency band for each bitrate."""
    gains = list(dict.fromkeys(mean["gain_db"] for mean in evaluation.means))
    sections = []
    for gain in gains:
        means = [mean for mean in evaluation.means if mean["gain_db"] == gain]
        if len(gains) > 1 or gain != 0:
            sections.append(f"Gain {gain:g} dB")
        sections.append("\n".join([aligned(_means_table(means)), *_describe_left_out(means)]))
        sections += [_format_bands(mean, evaluation.edges_hz) for mean in means]
    return "\n\n".join(sections)


def finite_or_null(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None at any depth of dicts and lists."""
    if isinstance(value, dict):
        return {key: finite_or_null(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite_or_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def scalars(mean: dict[str, Any]) -> dict[str, Any]:
    """The entries of a mean that are single numbers, without the gain."""
    return {name: value for name, value in mean.items() if name not in ("gain_db", "bands", "left_out")}


def _means_table(means: Sequence[dict[str, Any]]) -> list[Row]:
    rows = [scalars(mean) for mean in means]
    return [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]


def _describe_left_out(means: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each mean that does not cover all files."""
    for mean in means:
        counts = {name: number for name, number in mean["left_out"].items() if name != "bands"}
        if counts:
            text = ", ".join(f"{number} of {name}" for name, number in counts.items())
            yield f"{_levels(mean)}: files without a finite value, left out of the mean: {text}"


def _format_bands(mean: dict[str, Any], edges_hz: Sequence[float]) -> str:
    """The table by band, and a line in words where the energy is far off."""
    rows: list[Row] = [["Hz", *describe_bands(edges_hz)]]
    rows += [[label, *map(_decibel, mean["bands"][field])] for field, label in BAND_ROWS.items()]
    if any(mean["left_out"]["bands"]):
        rows.append(["files left out", *map(str, mean["left_out"]["bands"])])
    rate = f"{mean['bitrate'] / 1000:.2f} kbit/s (nominal {mean['nominal_bitrate'] / 1000:.4g})"
    lines = [f"{_levels(mean)}, {rate}, by band", aligned(rows)]
    for word, sign in (("quiet", -1), ("loud", 1)):
        spans = _describe_excess([sign * energy for energy in mean["bands"]["energy"]], edges_hz)
        if spans:
            lines.append(f"Too {word}: {', '.join(spans)}")
    return "\n".join(lines)


def _describe_excess(values: Sequence[float], edges_hz: Sequence[float]) -> list[str]:
    """Bands whose values (dB) exceed the limit, neighbours joined: "1000-4000 Hz by 3.5 to 11.8 dB"."""
    spans = []
    bands = range(len(values))
    for exceeds, group in itertools.groupby(bands, key=lambda band: values[band] > LOUDNESS_LIMIT_DB):
        span = list(group)
        if exceeds:
            low, high = min(values[band] for band in span), max(values[band] for band in span)
            by = f"{low:.1f} to {high:.1f}" if len(span) > 1 else f"{low:.1f}"
            spans.append(f"{edges_hz[span[0]]:g}-{edges_hz[span[-1] + 1]:g} Hz by {by} dB")
    return spans


def _levels(mean: dict[str, Any]) -> str:
    return f"{mean['num_quantizers']} level{'s' if mean['num_quantizers'] > 1 else ''}"


def _decibel(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"


def _cell(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # a bitrate of 12000 is not 1.2e+04
