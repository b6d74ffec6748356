"""Figures of codebooks: codewords in the plane of their principal components, and how evenly they are used.

Every function returns a matplotlib figure without a window; `figure.savefig(path)` writes it. The map viridis can be
told apart by colour-blind readers.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from codec.eval.plotting import BLACK, COLOURS, DASHES, GREY, RED, empty_figure
from codec.model.quantizer.quantizer import codebook_health

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import Collection
    from matplotlib.figure import Figure

Array = npt.NDArray[np.floating]
Counts = npt.NDArray[Any]

USE_TICKS = (0.25, 0.5, 1, 2, 4)
"""Of the colour bar: use relative to uniform use."""
MAX_VECTORS = 5000
"""Data points drawn; more hide each other."""
MAX_SMALL_VECTORS = 1250
"""The same where many codebooks stand side by side."""
MAX_COLUMNS = 5
SMALL = 0.4
"""Area of a mark there, relative to its area in a figure of its own."""


def codebook_figure(codewords: Array, vectors: Array, counts: Counts) -> "Figure":
    """Draw codewords over the data, coloured by use.

    One dimension: a histogram of the data with a line per codeword. More than two: the plane of the first two principal
    components of the codewords.

    Args:
        codewords: `[N, d]`, N >= 2.
        vectors: The data, `[M, d]`; at most 5000 points are drawn (a histogram counts all).
        counts: Uses of each codeword, `[N]`.
    """
    figure = empty_figure(7, 6)
    axis = figure.subplots()
    shown = _draw_codebook(axis, codewords, vectors, counts)
    axis.set_title(f"{len(codewords)} codewords of size {codewords.shape[1]}, {np.sum(counts == 0)} unused")
    _add_colour_bar(figure, shown, [axis])
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def codebooks_figure(codewords: Array, vectors: Sequence[Array], counts: Counts) -> "Figure":
    """Draw the codebooks of all levels side by side, each as `codebook_figure` does, with one scale of colours.

    A panel shows the middle 99 % of its codewords and data in each direction, and says how many codewords lie beyond.

    Args:
        codewords: `[K, N, d]`, N >= 2.
        vectors: What each level saw, K times `[M, d]`; at most 1250 points of each are drawn.
        counts: Uses of each codeword, `[K, N]`.
    """
    levels = len(codewords)
    columns = min(MAX_COLUMNS, math.ceil(math.sqrt(levels)))
    rows = math.ceil(levels / columns)
    figure = empty_figure(max(6.5, 2.7 * columns + 1), 2.9 * rows + 0.8)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    health = codebook_health(torch.from_numpy(counts))
    for level, axis in enumerate(axes[:levels]):
        points = vectors[level][:: -(-len(vectors[level]) // MAX_SMALL_VECTORS)]
        shown = _draw_codebook(axis, codewords[level], points, counts[level], scale=SMALL)
        _shrink(axis)
        use = f"{100 * health.usage[level]:.1f} % used, perplexity {health.perplexity[level]:.0f}"
        axis.set_title(f"level {level + 1}: {use}", fontsize=8.5)
    for axis in axes[levels:]:
        axis.remove()
    _add_colour_bar(figure, shown, list(axes[:levels]))
    entries = [axis.get_legend_handles_labels() for axis in axes[:levels]]
    by_label = {label: handle for entry in entries for handle, label in zip(*entry, strict=True)}
    figure.legend(by_label.values(), by_label.keys(), loc="outside lower center", ncols=3, markerscale=2)
    return figure


def _draw_codebook(
    axis: "Axes", codewords: Array, vectors: Array, counts: Counts, *, scale: float = 1.0
) -> "Collection":
    """Draw a codebook `[N, d]` over data `[M, d]`; return the marks of the used codewords."""
    relative = _relative_use(counts[None])[0]
    if codewords.shape[1] == 1:
        shown = _draw_lines(axis, codewords[:, 0], vectors[:, 0], relative)
    else:
        plane = _plane(axis, codewords, vectors[:: -(-len(vectors) // MAX_VECTORS)])
        shown = _draw_scatter(axis, *plane, relative, scale)
    shown.set(cmap="viridis", clim=(USE_TICKS[0], USE_TICKS[-1]), label="codeword")
    return shown


def _shrink(axis: "Axes") -> None:
    """Fit a panel among many: small text, few ticks, and the middle of the points instead of all of them."""
    axis.tick_params(labelsize=7, length=2)
    axis.locator_params(nbins=4)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set(text=label.get_text().replace("principal component", "PC"), fontsize=7.5)
    marks = {marks.get_label(): np.asarray(marks.get_offsets()) for marks in axis.collections}
    if "data" not in marks:  # a histogram
        return
    codewords = np.concatenate([points for label, points in marks.items() if label != "data"])
    low, high = np.percentile(np.concatenate([codewords, marks["data"]]), [0.5, 99.5], axis=0)
    half = 0.6 * max(np.max(high - low), np.finfo(np.float32).tiny)
    centre = (low + high) / 2
    axis.set_aspect("equal", adjustable="box")
    axis.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half))
    beyond = int(np.any(np.abs(codewords - centre) > half, axis=1).sum())
    if beyond:
        text = f"{beyond} codeword{'s' if beyond > 1 else ''} beyond"
        axis.text(0.97, 0.03, text, transform=axis.transAxes, ha="right", fontsize=7)


def _add_colour_bar(figure: "Figure", shown: "Collection", axes: "list[Axes]") -> None:
    look: dict[str, Any] = {"aspect": 20 * math.sqrt(len(axes)), "fraction": 0.15 / math.sqrt(len(axes)), "pad": 0.02}
    bar = figure.colorbar(shown, ax=axes, label="use relative to uniform use", extend="both", **look)
    bar.set_ticks(USE_TICKS, labels=[f"{tick:g}" for tick in USE_TICKS])
    bar.minorticks_off()


def _plane(axis: "Axes", codewords: Array, vectors: Array) -> tuple[Array, Array]:
    """Label the axes; return codewords `[N, 2]` and data `[M, 2]` in the plane that is drawn.

    For d > 2 the principal components of the codewords come from a singular value decomposition. Their signs are
    arbitrary: the largest element of each direction is made positive, as in scikit-learn's PCA.
    """
    if codewords.shape[1] == 2:
        axis.set(xlabel="first dimension", ylabel="second dimension")
        return codewords, vectors
    mean = codewords.mean(axis=0)
    _, spreads, directions = np.linalg.svd(codewords - mean, full_matrices=False)
    largest = np.abs(directions).argmax(axis=1)
    directions *= np.sign(directions[range(len(directions)), largest])[:, None]
    first, second = 100 * spreads[:2] ** 2 / max(np.square(spreads).sum(), np.finfo(float).tiny)
    axis.set_xlabel(f"first principal component ({first:.1f} % of the variance)")
    axis.set_ylabel(f"second principal component ({second:.1f} % of the variance)")
    plane = directions[:2].T
    return (codewords - mean) @ plane, (vectors - mean) @ plane


def _draw_scatter(axis: "Axes", codewords: Array, vectors: Array, relative: Array, scale: float) -> "Collection":
    """Draw codewords `[N, 2]` over data `[M, 2]`, marks of `scale` times the area; return those of the used ones."""
    size = scale * min(60.0, max(10.0, 6000 / len(codewords)))
    axis.scatter(vectors[:, 0], vectors[:, 1], s=5 * scale, color=GREY, linewidths=0, label="data")
    x, y = codewords[relative > 0].T
    edges: dict[str, Any] = {"edgecolors": BLACK, "linewidths": 0.4} if scale == 1 else {"linewidths": 0}
    shown = axis.scatter(x, y, s=size, c=relative[relative > 0], norm="log", zorder=2, **edges)
    if not relative.all():
        x, y = codewords[relative == 0].T
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": RED, "linewidths": 1.2 * math.sqrt(scale)}
        # Among many panels rings are large for their points, so they lie below the used ones.
        axis.scatter(x, y, s=1.5 * size, label="unused codeword", zorder=3 if scale == 1 else 1.5, **ring)
    axis.set_aspect("equal", adjustable="datalim")
    return shown


def _draw_lines(axis: "Axes", codewords: Array, vectors: Array, relative: Array) -> "Collection":
    """Draw codewords `[N]` over a histogram of data `[M]`; return the lines of the used ones."""
    density, *_ = axis.hist(vectors, bins=80, density=True, color=GREY, label="data")
    height = 1.05 * max(density) * (1 if len(codewords) <= 64 else 0.15)  # many would hide the histogram
    shown = axis.vlines(codewords[relative > 0], 0, height, norm="log")
    shown.set_array(relative[relative > 0])
    if not relative.all():
        axis.vlines(codewords[relative == 0], 0, height, colors=RED, linestyles=":", label="unused codeword")
    axis.set(xlabel="value", ylabel="density of the data")
    return shown


def usage_figure(counts: Counts) -> "Figure":
    """Draw how evenly the codewords of each level are used, most used first; uniform use is the line at 1.

    Args:
        counts: Uses of each codeword, `[K, N]`.
    """
    num_codewords = counts.shape[1]
    figure = empty_figure(8, 5)
    axis = figure.subplots()
    health = codebook_health(torch.from_numpy(counts))
    for level, relative in enumerate(_relative_use(counts)):
        use = f"{100 * health.usage[level]:.1f} % used, perplexity {health.perplexity[level]:.0f} of {num_codewords}"
        axis.stairs(
            np.sort(relative)[::-1],
            np.linspace(0, 1, num_codewords + 1),
            baseline=None,
            color=COLOURS[level % len(COLOURS)],
            linestyle=DASHES[level // len(COLOURS) % len(DASHES)],
            linewidth=1.8,
            label=f"level {level + 1}: {use}",
        )
    axis.axhline(1, color=BLACK, linestyle="--", linewidth=1, label="uniform use")
    axis.set(xlim=(0, 1), xlabel="rank of the codeword, most used first (share of the codebook)")
    axis.set(ylabel="use relative to uniform use", title="Use of the codebook")
    axis.set_ylim(0, 1.05 * axis.dataLim.ymax)
    figure.legend(loc="outside lower center", ncols=2 if len(counts) > 3 else 1)
    return figure


def _relative_use(counts: Counts) -> Array:
    """Counts `[K, N]` divided by the mean of their level; zeros for a level without counts."""
    relative: Array = counts / np.maximum(counts.mean(axis=1, keepdims=True), np.finfo(float).tiny)
    return relative
