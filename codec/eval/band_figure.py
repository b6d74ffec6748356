"""A chart of the errors by frequency band: one that is too quiet or too loud is visible at once."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from codec.eval.metrics.bands import ENERGY_LIMIT_DB, describe_bands
from codec.eval.plotting import BLACK, COLOURS, GREY, RED, empty_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHADES = [colour for colour in COLOURS if colour not in (RED, BLACK)]


def band_figure(bands: Mapping[str, Mapping[str, Sequence[float]]], edges_hz: Sequence[float]) -> "Figure":
    """Draw the energy ratio (upper panel) and the power error (lower panel) of every band.

    A bar that leaves the grey range of 3 dB has a red edge, and its band a red name.

    Args:
        bands: For each bitrate, by the name that the legend shows: "energy" and "power_error", one value a band (dB) as
            in `codec.eval.metrics.bands.Bands`; nan is not drawn.
        edges_hz: Edges of the bands, one more than there are bands.
    """
    figure = empty_figure(10, 7)
    upper, lower = figure.subplots(2, 1, sharex=True)
    is_off = np.zeros(len(edges_hz) - 1, dtype=bool)
    for axis, field in ((upper, "energy"), (lower, "power_error")):
        width = 0.8 / len(bands)
        for number, (label, values) in enumerate(bands.items()):
            heights = np.array(values[field], dtype=float)
            places = np.arange(len(heights)) + (number - (len(bands) - 1) / 2) * width
            exceeds = np.abs(np.nan_to_num(heights)) > ENERGY_LIMIT_DB
            is_off |= exceeds
            drawn = axis.bar(places, heights, width, color=SHADES[number % len(SHADES)], label=label, zorder=2)
            for bar, far in zip(drawn, exceeds, strict=True):
                bar.set(edgecolor=RED if far else "white", linewidth=2.0 if far else 0.5, zorder=3 if far else 2)
        axis.axhline(0, color=BLACK, linewidth=1, zorder=4)
        axis.margins(x=0.01)
    _finish(upper, (-ENERGY_LIMIT_DB, ENERGY_LIMIT_DB), "energy, decoded / original (dB)")
    _finish(lower, (0, ENERGY_LIMIT_DB), "power error a frame (dB)")
    upper.set_title(f"Energy and power by band: grey is within {ENERGY_LIMIT_DB:g} dB, a red edge is beyond")
    lower.set_xlabel("band (Hz)")
    lower.set_xticks(range(len(is_off)), labels=describe_bands(edges_hz))
    for label, off in zip(lower.get_xticklabels(), is_off, strict=True):
        label.set(color=RED if off else BLACK, fontweight="bold" if off else "normal")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=min(6, len(bands)))
    return figure


def _finish(axis: "Axes", within: tuple[float, float], label: str) -> None:
    """Shade the range that is right, and keep it in view whatever the bars are."""
    axis.axhspan(*within, color=GREY, alpha=0.45, linewidth=0, zorder=0)
    low, high = axis.dataLim.intervaly  # of the bars and of this range
    axis.set_ylim(1.05 * low, 1.05 * high)
    axis.set_ylabel(label)
    axis.grid(axis="y", color=GREY, linewidth=0.5, zorder=1)
    axis.set_axisbelow(True)
