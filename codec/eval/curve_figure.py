"""Rate-distortion curves: mean scores of codecs over the bitrate of their files, with confidence bands."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from codec.errors import ConfigError
from codec.eval.conditions import AS_IT_IS
from codec.eval.evaluate import Evaluation
from codec.eval.metrics.metrics import METRICS
from codec.eval.plotting import COLOURS, GREY, MARKERS, empty_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = ("pesq_wb", "stoi", "mel", "dnsmos", "speaker", "f0")
"""Metrics that get a panel where they were measured; if none of them was, the first four do."""
MAX_PANELS = 4
TICKS = (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Bitrates that are named on the axis (kbit/s)."""


class Point(NamedTuple):
    """A codec at one setting: bitrate (bit/s), mean score and its interval."""

    bitrate: float
    score: float
    low: float
    high: float


def curve_figure(evaluation: Evaluation, published: Sequence[dict[str, Any]] = ()) -> "Figure":
    """Draw a panel for each of up to four metrics, with a curve for each codec, of the recordings as they are.

    Args:
        evaluation: Its means are drawn with their intervals.
        published: Means of other codecs, measured elsewhere; see `codec.eval.published.read_published`.

    Raises:
        ConfigError: As for `check_drawable`.
    """
    check_drawable(evaluation.metrics, [mean["condition"] for mean in evaluation.means])
    means = [mean for mean in evaluation.means if mean["condition"] == AS_IT_IS.name]
    metrics = [name for name in SHOWN if name in evaluation.metrics] or list(evaluation.metrics)
    metrics = metrics[:MAX_PANELS]
    columns = min(2, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = empty_figure(5.5 * columns, 3.6 * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, metric in zip(axes, metrics, strict=False):
        _draw(axis, metric, [*means, *published])
    for axis in axes[len(metrics) :]:
        axis.remove()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
    num_files = max(mean["num_files"] for mean in means)
    figure.suptitle(f"Mean of {num_files} files with 95 % interval, over the bitrate of whole files")
    return figure


def check_drawable(metrics: Sequence[str], conditions: Sequence[str]) -> None:
    """Raise ConfigError if there is nothing to draw: no metric, or no recording as it is among the conditions."""
    if not metrics or AS_IT_IS.name not in conditions:
        raise ConfigError("nothing to draw: judge recordings as they are (gain 0) by one metric at least")


def _draw(axis: "Axes", metric: str, means: Sequence[dict[str, Any]]) -> None:
    """Draw one panel: a line with markers for each codec, in a band that is its interval."""
    from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter  # slow to import, and few runs draw

    kind = METRICS[metric]
    for number, codec in enumerate(dict.fromkeys(mean["codec"] for mean in means)):
        points = _curve(codec, metric, means)
        rates = [point.bitrate / 1000 for point in points]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        axis.plot(rates, [point.score for point in points], color=colour, marker=marker, markersize=5, label=codec)
        known = [point for point in points if math.isfinite(point.low)]
        bounds = [point.low for point in known], [point.high for point in known]
        axis.fill_between([point.bitrate / 1000 for point in known], *bounds, color=colour, alpha=0.18, linewidth=0)
        if len(known) == 1:  # a band needs two points
            axis.vlines(known[0].bitrate / 1000, *bounds, color=colour, alpha=0.5)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    least, greatest = axis.get_xlim()
    axis.set_xticks([tick for tick in TICKS if least <= tick <= greatest])
    axis.yaxis.set_major_locator(MaxNLocator(6))
    axis.grid(color=GREY, linewidth=0.5, alpha=0.6)
    axis.set_xlabel("kbit/s (log)")
    unit = f" ({kind.unit})" if kind.unit else ""
    best = {"higher": "higher is better", "lower": "lower is better", "zero": "0 is right"}[kind.better]
    axis.set_title(f"{kind.label}{unit}, {best}")


def _curve(codec: str, metric: str, means: Sequence[dict[str, Any]]) -> list[Point]:
    """Points of a codec that have a score, by bitrate."""
    points = [
        Point(mean["bitrate"], *(mean["metrics"][metric][name] for name in ("mean", "low", "high")))
        for mean in means
        if mean["codec"] == codec and metric in mean["metrics"]
    ]
    return sorted(point for point in points if math.isfinite(point.bitrate) and math.isfinite(point.score))
