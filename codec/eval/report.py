"""An evaluation as text for a terminal, as plain values for JSON, and as a table for CSV."""

import csv
import io
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from codec.eval.evaluate import Evaluation
from codec.eval.metrics.bands import ENERGY_LIMIT_DB, describe_bands
from codec.table import Row, aligned

BAND_TABLES = {
    "energy": "Energy by band, decoded over original (dB)",
    "snr": "SNR by band (dB)",
    "power_error": "Power error by band (dB)",
}
Mean = dict[str, Any]


def format_evaluation(evaluation: Evaluation, width: int = 120) -> str:
    """Text with a section for each condition: the means with half their 95 % intervals, then three tables by band.

    Args:
        evaluation: Any.
        width: Characters in a line: a table that is wider is broken into several.
    """
    conditions = list(dict.fromkeys(mean["condition"] for mean in evaluation.means))
    sections = []
    for condition in conditions:
        means = [mean for mean in evaluation.means if mean["condition"] == condition]
        if conditions != ["as it is"]:
            sections.append(f"Condition: {condition}")
        columns = [_rates(means), *(_column(means, name) for name in evaluation.metrics)]
        sections.append("\n".join([*_broken(means, columns, width), *_describe_left_out(means)]))
        sections += [_format_bands(means, evaluation.edges_hz, field) for field in BAND_TABLES]
        sections += ["\n".join(lines) for lines in [list(_describe_energy(means, evaluation.edges_hz))] if lines]
    return "\n\n".join(sections)


def format_bd_rates(rates: Sequence[dict[str, Any]]) -> str:
    """A table of BD-rates: one row per codec and metric."""
    head = f"Bits at equal quality, relative to {rates[0]['reference']} (BD-rate, recordings as they are)"
    rows: list[Row] = [["codec", "metric", "BD-rate", "95 % interval", "files"]]
    for rate in rates:
        missing = math.isnan(rate["percent"])
        percent = "-" if missing else f"{rate['percent']:+.1f} %"
        bounds = "-" if math.isnan(rate["low"]) else f"{rate['low']:+.1f} to {rate['high']:+.1f} %"
        rows.append([rate["codec"], rate["metric"], percent, rate["note"] or bounds, str(rate["num_files"])])
    return f"{head}\n{aligned(rows)}"


def to_csv(evaluation: Evaluation) -> str:
    """Rows of all files as comma-separated values; a band has a column per figure, such as `energy_250-500`."""
    text = io.StringIO()
    names = [f"{field}_{band}" for field in BAND_TABLES for band in describe_bands(evaluation.edges_hz)]
    flat = []
    for row in evaluation.rows:
        values = [value for field in BAND_TABLES for value in row["bands"][field]] if "bands" in row else []
        notes = "; ".join(f"{name}: {note}" for name, note in row.get("notes", {}).items())
        plain = {name: value for name, value in row.items() if name not in ("bands", "notes")}
        flat.append(plain | {"notes": notes} | dict(zip(names, values, strict=False)))
    longest = max(flat, key=lambda row: len(row))  # one without an error has all columns, in their order
    fields = list(dict.fromkeys([*longest, *itertools.chain.from_iterable(flat)]))
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    for row in flat:
        writer.writerow({name: None if value != value else value for name, value in row.items()})
    return text.getvalue()


def label(mean: Mean) -> str:
    """Codec and setting."""
    return f"{mean['codec']}, {mean['setting']}"


def _rates(means: Sequence[Mean]) -> list[str]:
    return ["kbit/s", *(f"{mean['bitrate'] / 1000:.2f}" for mean in means)]


def _column(means: Sequence[Mean], metric: str) -> list[str]:
    """Name of a metric, then mean and half the interval for each system."""
    return [metric, *(_with_interval(mean["metrics"][metric]) for mean in means)]


def _broken(means: Sequence[Mean], columns: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Tables of at most `width` characters; the first columns come again in each."""
    first = [["codec", *(mean["codec"] for mean in means)], ["setting", *(mean["setting"] for mean in means)]]
    shown: list[Sequence[str]] = [*first]
    for column in columns:
        if len(shown) > len(first) and _width([*shown, column]) > width:
            yield aligned(list(zip(*shown, strict=True))) + "\n"
            shown = [*first]
        shown.append(column)
    yield aligned(list(zip(*shown, strict=True)))


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)


def _describe_left_out(means: Sequence[Mean]) -> Iterator[str]:
    """A line for each mean that does not cover all files."""
    for mean in means:
        if mean["num_failed"]:
            yield f"{label(mean)}: failed on {mean['num_failed']} of {mean['num_files']} files"
        num_good = mean["num_files"] - mean["num_failed"]
        counts = {name: num_good - values["num"] for name, values in mean["metrics"].items()}
        text = ", ".join(f"{number} of {name}" for name, number in counts.items() if number)
        if text:
            yield f"{label(mean)}: files without a finite value, left out of the mean: {text}"


def _format_bands(means: Sequence[Mean], edges_hz: Sequence[float], field: str) -> str:
    """One figure by band, a row for each system."""
    rows: list[Row] = [["codec", "setting", *describe_bands(edges_hz)]]
    for mean in means:
        values = map(_decibel, mean["bands"][field] or [math.nan] * (len(edges_hz) - 1))
        rows.append([mean["codec"], mean["setting"], *values])
    return f"{BAND_TABLES[field]}, bands in Hz\n{aligned(rows)}"


def _describe_energy(means: Sequence[Mean], edges_hz: Sequence[float]) -> Iterator[str]:
    """A line in words for each system and direction in which the energy is far off."""
    for mean in means:
        for word, sign in (("quiet", -1), ("loud", 1)):
            spans = _describe_excess([sign * energy for energy in mean["bands"]["energy"]], edges_hz)
            if spans:
                yield f"{label(mean)} is too {word}: {', '.join(spans)}"


def _describe_excess(values: Sequence[float], edges_hz: Sequence[float]) -> list[str]:
    """Bands whose values (dB) exceed the limit, neighbours joined: "1000-4000 Hz by 3.5 to 11.8 dB"."""
    spans = []
    bands = range(len(values))
    for exceeds, group in itertools.groupby(bands, key=lambda band: values[band] > ENERGY_LIMIT_DB):
        span = list(group)
        if exceeds:
            low, high = min(values[band] for band in span), max(values[band] for band in span)
            by = f"{low:.1f} to {high:.1f}" if len(span) > 1 else f"{low:.1f}"
            spans.append(f"{edges_hz[span[0]]:g}-{edges_hz[span[-1] + 1]:g} Hz by {by} dB")
    return spans


def _with_interval(values: dict[str, float]) -> str:
    """Such as "2.66 ±0.05"."""
    half = (values["high"] - values["low"]) / 2
    bounds = f" ±{half:.2g}" if math.isfinite(half) else ""
    return f"{_short(values['mean'])}{bounds}"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _decibel(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"
