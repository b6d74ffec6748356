import math
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from codec.eval.plotting import COLOURS
from codec.study.figures import (
    Measured,
    RatePoint,
    comparison_figure,
    learning_curves_figure,
    rate_distortion_figure,
)


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def shannon(bits_per_dim):
    return 2 ** (-2 * bits_per_dim)


def labelled(artists):
    return {artist.get_label(): artist for artist in artists}


def legend_of(owner):
    (legend,) = owner.legends if hasattr(owner, "legends") else [owner.get_legend()]
    return [text.get_text() for text in legend.get_texts()]


# ---- Rate and distortion

SAME_RATE = [
    RatePoint("k-means, EMA", 10 / 64, 0.8411),
    RatePoint("gradient codebook", 10 / 64, 0.8435),
    RatePoint("gradient, Gumbel softmax", 10 / 64, 0.8512),
    RatePoint("random codebook", 10 / 64, 0.8702),
    RatePoint("scalar, 1 bit in 10 of 64", 10 / 64, 0.9006),
    RatePoint("residual 2 x 5 bit", 10 / 64, 0.8612),
]
LONG_LABEL = RatePoint("a label with no room at the right", 10 / 64, 0.95)
MANY_RATES = [RatePoint(f"{bits} bit", bits, 1.4 * shannon(bits)) for bits in (1, 1.25, 2, 2.5, 3)]


def test_points_stand_over_the_bound():
    (axis,) = rate_distortion_figure(MANY_RATES, shannon).axes
    assert axis.collections[0].get_offsets().tolist() == [
        [point.bits_per_dim, point.distortion] for point in MANY_RATES
    ]
    rates, least = axis.lines[0].get_data()
    assert np.allclose(least, 4.0**-rates)
    assert axis.get_xlim() == pytest.approx((0, 1.3 * 3))
    corners = axis.collections[1].get_paths()[0].vertices  # of the shaded area
    assert np.abs(corners[:, 1, None] - least).min(axis=1).max() <= least[-1] - axis.get_ylim()[0] + 1e-12
    assert corners[:, 1].min() == axis.get_ylim()[0]
    assert "not reachable (Shannon)" in [text.get_text() for text in axis.texts]


@pytest.mark.parametrize(("points", "scale"), [(MANY_RATES, "log"), (SAME_RATE, "linear")])
def test_distortion_is_logarithmic_where_it_spans_much(points, scale):
    (axis,) = rate_distortion_figure(points, shannon).axes
    assert axis.get_yscale() == scale
    low, high = axis.get_ylim()
    assert low < min(shannon(1.3 * points[-1].bits_per_dim), *(point.distortion for point in points)) and high > 1


@pytest.mark.parametrize("dpi", [100, 200])
@pytest.mark.parametrize("points", [SAME_RATE, MANY_RATES, SAME_RATE[:1], 6 * SAME_RATE[:1], [LONG_LABEL]])
def test_labels_are_beside_their_points_and_hide_nothing(points, dpi, tmp_path):
    figure = rate_distortion_figure(points, shannon)
    figure.savefig(tmp_path / "rates.png", dpi=dpi)
    (axis,) = figure.axes
    boxes = [Text.get_window_extent(text, dpi=dpi) for text in axis.texts if text.get_text()]
    assert len(boxes) == len(points) + 1
    figure.set_dpi(dpi)
    frame = axis.get_window_extent()
    places = axis.transData.transform([(point.bits_per_dim, point.distortion) for point in points])
    curve = axis.transData.transform(np.stack(axis.lines[0].get_data(), axis=1))
    for number, box in enumerate(boxes):
        assert frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
        assert not box.count_overlaps(boxes[:number])
        assert not box.count_contains(places) and not box.count_contains(curve)
    for text in axis.texts[1:]:
        label = [point for point in points if point.label == text.get_text()]
        assert not label or text.xy == (label[0].bits_per_dim, label[0].distortion)
        assert np.hypot(*text.get_position()) < 140  # 1/72 inch


def test_a_label_that_is_away_from_its_point_has_a_line_of_its_colour():
    (axis,) = rate_distortion_figure(6 * SAME_RATE[:1], shannon).axes
    labels = [text for text in axis.texts if text.get_text() == SAME_RATE[0].label]
    lines = [text for text in axis.texts if not text.get_text()]
    assert [line.get_position() for line in lines] == [text.get_position() for text in labels if text.get_position()[1]]
    assert len(lines) == 4  # two labels are directly left and right of their points
    assert [line.arrow_patch.get_edgecolor() for line in lines] == [to_rgba(colour) for colour in COLOURS[2:6]]


# ---- Learning curves


def history(num_steps=20):
    lines = []
    for step in range(1, num_steps + 1):
        part = 1 + 1 / step
        lines.append({"step": step, "train/perplexity": 9.0, "loss/codebook": part, "loss/total": 1.25 * part})
        lines[-1]["loss/commitment"] = None if step == 2 else part
        if step % 10 == 0:
            lines.append({"step": step, "valid/distortion": part})
    return lines


def test_every_loss_and_the_distortion_are_drawn_over_steps():
    figure = learning_curves_figure(history(), 0.8052)
    upper, lower = figure.axes
    drawn = labelled(upper.lines)
    assert list(drawn) == ["loss/total", "loss/codebook", "loss/commitment"]
    assert drawn["loss/total"].get_xdata().tolist() == list(range(1, 21))
    assert drawn["loss/total"].get_ydata().tolist() == [1.25 * (1 + 1 / step) for step in range(1, 21)]
    assert drawn["loss/commitment"].get_xdata().tolist() == [1, *range(3, 21)]
    below = labelled(lower.lines)
    assert below["valid/distortion"].get_xydata().tolist() == [[10, 1.1], [20, 1.05]]
    assert below["bound 0.8052"].get_ydata() == [0.8052, 0.8052]
    assert legend_of(upper) == list(drawn) and legend_of(lower) == list(below)
    assert upper.get_yscale() == lower.get_yscale() == "linear"
    assert lower.get_xlabel() == "optimizer step"


def test_terms_that_coincide_can_be_seen():
    upper = learning_curves_figure(history(), 0.8).axes[0]
    widths = [line.get_linewidth() for line in upper.lines]
    assert min(first - second for first, second in pairwise(widths)) > 0.5
    assert len({line.get_color() for line in upper.lines}) == len({line.get_linestyle() for line in upper.lines}) == 3


def test_curves_that_span_much_are_logarithmic():
    lines = [{"step": step, "loss/total": 20 / step, "valid/distortion": 5 / step} for step in (1, 2, 3)]
    figure = learning_curves_figure(lines, 1.0)
    assert [axis.get_yscale() for axis in figure.axes] == ["linear", "log"]  # factors 3 and 5
    lines.append({"step": 4, "loss/total": 1.0})
    assert learning_curves_figure(lines, 1.0).axes[0].get_yscale() == "log"


@pytest.mark.parametrize("lines", [[], history(1), [{"step": 7, "valid/distortion": 0.9}]])
def test_few_lines_of_history_can_be_drawn(lines, tmp_path):
    figure = learning_curves_figure(lines, 0.8)
    figure.savefig(tmp_path / "curves.png")
    curves = [line for axis in figure.axes for line in axis.lines if "/" in line.get_label()]
    assert len(curves) == (0 if not lines else 3 if "loss/total" in lines[0] else 1)
    sizes = [line.get_markersize() for line in curves]
    assert all(line.get_marker() == "o" for line in curves) and sizes == sorted(set(sizes), reverse=True)
    assert "bound 0.8" in legend_of(figure.axes[1])


# ---- Many quantizers

VECTORS = [Measured(label, 64, 10, value, 0.8052) for label, value in (("a", 0.9), ("b", 0.8411), ("c", 0.87))]
SCALARS = [
    Measured(label, 1, bits, excess * 4.0**-bits, 4.0**-bits)
    for bits in (1, 2)
    for label, excess in (("d", 2.0), ("e", 2.0), ("f", 1.5))
]


def test_quantizers_are_ranked_beside_the_bound():
    rows = [Measured("other", 8, 10, 0.3, 0.2), *VECTORS]
    (axis,) = comparison_figure(rows).axes
    points, bound = axis.lines
    assert points.get_xydata().tolist() == [[0.8411, 0], [0.87, 1], [0.9, 2]]
    assert axis.yaxis_inverted()  # the best is at the top
    assert [label.get_text() for label in axis.get_yticklabels()] == ["b", "c", "a"]
    assert bound.get_xdata() == [0.8052, 0.8052]
    texts = [text.get_text() for text in axis.texts]
    assert texts == ["0.8411", "0.8700", "0.9000", "Shannon's bound 0.8052"]
    assert axis.get_title() == "64 dimensions, 10 bit per vector"


def test_scalar_quantizers_are_measured_from_the_bound():
    figure = comparison_figure(SCALARS)
    (axis,) = figure.axes
    drawn = labelled(line for line in axis.lines if line.get_label() in "def")
    assert legend_of(figure) == list(drawn) == ["d", "e", "f"]
    for line in drawn.values():
        excess = 1.5 if line.get_label() == "f" else 2
        assert line.get_ydata() == pytest.approx(2 * [10 * math.log10(excess)])
        assert line.get_xdata() == pytest.approx([1, 2], abs=0.35)
    assert axis.lines[-1].get_ydata() == [0, 0] and axis.get_ylim()[0] < 0
    assert axis.get_xticks().tolist() == [1, 2]


def test_scalar_quantizers_of_one_rate_do_not_hide_each_other():
    (axis,) = comparison_figure(SCALARS).axes
    series = axis.lines[:3]
    assert min(np.diff([line.get_xdata()[0] for line in series])) > 0.1
    assert len({line.get_marker() for line in series}) == 3
    assert [line.get_markerfacecolor() == "none" for line in series] == [True, False, True]


def test_both_sides_are_drawn_and_one_without_rows_is_left_out(tmp_path):
    figure = comparison_figure([*SCALARS, *VECTORS])
    assert [axis.get_title() for axis in figure.axes] == ["64 dimensions, 10 bit per vector", "1 dimension"]
    figure.savefig(tmp_path / "both.png")
    assert legend_of(figure) == ["d", "e", "f"]
    assert len(comparison_figure(VECTORS).axes) == len(comparison_figure(SCALARS).axes) == 1


@pytest.mark.parametrize("rows", [VECTORS[:1], SCALARS[:1], [Measured("lucky", 8, 3, 0.59, 0.595)]])
def test_a_single_quantizer_can_be_drawn(rows, tmp_path):
    figure = comparison_figure(rows)
    figure.savefig(tmp_path / "single.png")
    (axis,) = figure.axes
    assert axis.get_xlim()[0] < axis.lines[0].get_xdata()[0] < axis.get_xlim()[1]
