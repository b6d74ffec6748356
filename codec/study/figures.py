"""Figures of quantizers: distortion compared with theory, learning curves.

Every function returns a matplotlib figure without a window; `figure.savefig(path)` writes it. The colours, those of
`codec.eval.plotting`, can be told apart by colour-blind readers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from codec.eval.plotting import BLACK, BLUE, COLOURS, DASHES, GREY, MARKERS, empty_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

Array = npt.NDArray[np.floating]

LABEL_SHIFTS = (0, *(sign * shift for shift in range(12, 121, 12) for sign in (1, -1)))
"""How far up a label may move to find a free place (1/72 inch), in the order in which the places are tried."""


class RatePoint(NamedTuple):
    """A quantizer in the plane of rate and distortion."""

    label: str
    bits_per_dim: float
    distortion: float
    """Mean squared error per dimension."""


class Measured(NamedTuple):
    """A measured quantizer and its theoretical bound."""

    label: str
    dim: int
    bits: float
    """Per vector."""
    distortion: float
    """Mean squared error per dimension."""
    bound: float
    """Shannon's bound: the least mean squared error of any quantizer of this dimension and rate."""


def rate_distortion_figure(points: Sequence[RatePoint], bound: Callable[[float], float]) -> "Figure":
    """Draw quantizers above Shannon's bound.

    Args:
        points: The quantizers, at least one.
        bound: Least mean squared error per dimension at a rate (bit per dimension).
    """
    figure = empty_figure(9, 6)
    axis = figure.subplots()
    rates = np.linspace(0, 1.3 * max(point.bits_per_dim for point in points), 200)
    least = np.array([bound(rate) for rate in rates.tolist()])
    axis.plot(rates, least, color=BLACK, linewidth=1.5)
    places = np.array([(point.bits_per_dim, point.distortion) for point in points])
    axis.scatter(places[:, 0], places[:, 1], s=55, c=_colours(len(points)), edgecolors="white", zorder=3)
    low, high = axis.dataLim.intervaly
    _log_if_wide(axis, factor=4)
    margin = (high - low) / 8
    axis.set(
        xlim=(0, rates[-1]),
        ylim=(low / 1.5, 1.5 * high) if axis.get_yscale() == "log" else (low - margin, high + margin / 2),
    )
    axis.fill_between(rates, least, axis.get_ylim()[0], color=GREY, alpha=0.5, linewidth=0)
    axis.text(0.02, 0.02, "not reachable (Shannon)", transform=axis.transAxes)
    axis.set(xlabel="rate (bit per dimension)", ylabel="mean squared error per dimension", title="Rate and distortion")
    figure.draw_without_rendering()  # lays out the axes, so that places in pixels are known
    _label_points(axis, points, axis.transData.transform([*places, *np.stack([rates, least], axis=1)]))
    return figure


def _label_points(axis: "Axes", points: Sequence[RatePoint], marks: Array) -> None:
    """Write each label at the nearest place clear of other labels and of `marks` `[n, 2]` (pixels)."""
    frame = axis.get_window_extent()
    taken: list[Bbox] = []
    for point, colour in sorted(zip(points, _colours(len(points)), strict=True), key=lambda pair: -pair[0].distortion):
        place: dict[str, Any] = {"textcoords": "offset points", "xy": (point.bits_per_dim, point.distortion)}
        text = axis.annotate(point.label, xytext=(0, 0), va="center", fontsize=9, **place)
        for shift, side in product(LABEL_SHIFTS, (1, -1)):
            text.set(horizontalalignment={1: "left", -1: "right"}[side], position=(side * (9 + abs(shift) / 2), shift))
            box = text.get_window_extent().padded(3)
            inside = all(frame.contains(*corner) for corner in box.corners())
            if inside and not box.count_contains(marks) and not box.count_overlaps(taken):
                break
        else:  # no free place
            shift = 0
            text.set(horizontalalignment="left", position=(9, shift))
        taken.append(box)
        if shift:
            axis.annotate("", xytext=text.get_position(), arrowprops={"arrowstyle": "-", "color": colour}, **place)


def learning_curves_figure(history: Sequence[Mapping[str, float | None]], bound: float) -> "Figure":
    """Draw a run over its steps: all losses in the upper panel, validation distortion and its bound in the lower.

    Args:
        history: Lines of the run's history: `step` and the values logged at it. None and missing values are skipped.
        bound: Shannon's bound (mean squared error per dimension).
    """
    figure = empty_figure(8, 7)
    upper, lower = figure.subplots(2, 1, sharex=True)
    names = sorted({name for line in history for name in line if name.startswith("loss/")})
    names.sort(key="loss/total".__ne__)  # the total first: later lines are thinner and hide nothing
    for number, name in enumerate(names):
        _draw_series(upper, history, name, len(names) - 1 - number)
    upper.set(ylabel="loss", title="Learning curves")
    _draw_series(lower, history, "valid/distortion", 0)
    lower.axhline(bound, color=BLACK, linestyle="--", linewidth=1, label=f"bound {bound:.4g}")
    lower.set(xlabel="optimizer step", ylabel="mean squared error\nper dimension")
    _log_if_wide(upper, factor=10)
    _log_if_wide(lower, factor=4)
    for axis in (upper, lower) if upper.lines else (lower,):
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=3)
    return figure


def _draw_series(axis: "Axes", history: Sequence[Mapping[str, float | None]], name: str, above: int) -> None:
    """Draw the values of one name over steps, wide enough to stay visible below `above` later lines."""
    found = [(line["step"], value) for line in history if (value := line.get(name)) is not None]
    if found:
        look: dict[str, Any] = {"marker": "o", "markersize": 5 + 3 * above} if len(found) == 1 else {}
        look |= {"color": COLOURS[len(axis.lines) % len(COLOURS)], "linestyle": DASHES[len(axis.lines) % len(DASHES)]}
        axis.plot(*zip(*found, strict=True), label=name, linewidth=1.3 + 0.9 * above, **look)


def comparison_figure(rows: Sequence[Measured]) -> "Figure":
    """Draw many quantizers beside Shannon's bound.

    Left panel: the largest group of equal dimension > 1 and equal rate, best first. Right panel: dimension 1, distance
    from the bound over the rate. A panel without rows is left out.

    Args:
        rows: The quantizers, at least one. Rows of dimension > 1 outside the largest group are not drawn.
    """
    groups: dict[tuple[int, float], list[Measured]] = {}
    for row in rows:
        groups.setdefault((row.dim, row.bits), []).append(row)
    vectors = [group for (dim, _), group in sorted(groups.items()) if dim > 1]
    scalars = [row for row in rows if row.dim == 1]
    panels = bool(vectors) + bool(scalars)
    figure = empty_figure(7 * panels, 6)
    axes = iter(figure.subplots(1, panels, squeeze=False)[0])
    if vectors:
        _draw_ranking(next(axes), max(vectors, key=len))
    if scalars:
        _draw_distances(next(axes), scalars)
        figure.legend(loc="outside lower right", ncols=3)
    return figure


def _draw_ranking(axis: "Axes", rows: Sequence[Measured]) -> None:
    """Draw quantizers of equal dimension and rate, one per row, by distortion."""
    ranked = sorted(rows, key=lambda row: row.distortion)
    bound, distortions = ranked[0].bound, [row.distortion for row in ranked]
    low, high = min(bound, *distortions), max(bound, *distortions)  # by chance one may lie below the bound
    axis.hlines(range(len(ranked)), bound, distortions, color=GREY, linewidth=1)
    axis.plot(distortions, range(len(ranked)), "o", color=BLUE)
    for place, distortion in enumerate(distortions):
        axis.annotate(f"{distortion:.4f}", (distortion, place), (8, 0), textcoords="offset points", va="center")
    axis.axvline(bound, color=BLACK, linestyle="--", linewidth=1)
    span = max(high - low, 0.01 * bound)
    middle = (bound - 0.01 * span, (len(rows) - 1) / 2)
    axis.text(*middle, f"Shannon's bound {bound:.4f}", rotation=90, ha="right", va="center")
    axis.set(xlim=(low - 0.1 * span, high + 0.2 * span), ylim=(len(rows) - 0.5, -0.5))
    axis.set_yticks(range(len(rows)), labels=[row.label for row in ranked])
    axis.set(xlabel="mean squared error per dimension")
    axis.set_title(f"{ranked[0].dim} dimensions, {ranked[0].bits:g} bit per vector")


def _draw_distances(axis: "Axes", rows: Sequence[Measured]) -> None:
    """Draw scalar quantizers over their rate; those of equal rate stand side by side."""
    labels = list(dict.fromkeys(row.label for row in rows))
    rates = sorted({row.bits for row in rows})
    step = 0.6 / len(labels) * min(np.diff(rates), default=1.0)
    for number, label in enumerate(labels):
        series = sorted((row for row in rows if row.label == label), key=lambda row: row.bits)
        axis.plot(
            [row.bits + step * (number - (len(labels) - 1) / 2) for row in series],
            [10 * math.log10(row.distortion / row.bound) for row in series],
            marker=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            markerfacecolor=None if number % 2 else "none",
            linestyle=":",
            linewidth=0.8,
            label=label,
        )
    axis.axhline(0, color=BLACK, linestyle="--", linewidth=1)
    axis.set_xticks(rates, labels=[f"{rate:g}" for rate in rates])
    axis.set(xlabel="rate (bit)", ylabel="distortion above Shannon's bound (dB)", title="1 dimension")
    low, high = axis.get_ylim()
    axis.set_ylim(min(-0.12 * high, low))
    axis.text(0.99, -0.02 * high, "Shannon's bound", transform=axis.get_yaxis_transform(), ha="right", va="top")


def _colours(number: int) -> list[str]:
    """Colours of points, in order; black is kept for bounds."""
    return [COLOURS[index % (len(COLOURS) - 1)] for index in range(number)]


def _log_if_wide(axis: "Axes", factor: float) -> None:
    """Make y logarithmic if the data are positive and their range exceeds a factor."""
    low, high = axis.dataLim.intervaly
    if 0 < factor * low < high:
        axis.set_yscale("log")
