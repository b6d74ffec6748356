import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from sklearn.decomposition import PCA

from codec.eval.plotting import COLOURS, RED, spectrogram_figure
from codec.study.figures import (
    Measured,
    RatePoint,
    codebook_figure,
    comparison_figure,
    learning_curves_figure,
    rate_distortion_figure,
    usage_figure,
)


def tone(num_samples=8000):
    return 0.5 * torch.sin(torch.arange(num_samples) * 2 * math.pi * 1000 / 16_000)


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def shannon(bits_per_dim):
    return 2 ** (-2 * bits_per_dim)


def labelled(artists):
    return {artist.get_label(): artist for artist in artists}


def legend_of(owner):
    (legend,) = owner.legends if hasattr(owner, "legends") else [owner.get_legend()]
    return [text.get_text() for text in legend.get_texts()]


# ---- Codebooks


def test_codewords_lie_over_the_data_in_their_principal_plane():
    codewords = normal(200, 16) * ([5, 1, 3] + 13 * [0.1])
    counts = np.arange(200)
    vectors = 2 * normal(7000, 16) + 1
    figure = codebook_figure(codewords, vectors, counts)
    axis, bar = figure.axes
    drawn = labelled(axis.collections)
    assert drawn.keys() == {"data", "codeword", "unused codeword"}
    shown = drawn["codeword"].get_offsets()
    pca = PCA(n_components=2, svd_solver="full").fit(codewords)
    np.testing.assert_allclose(shown, pca.transform(codewords)[1:], atol=1e-9)  # the signs too
    np.testing.assert_allclose(drawn["data"].get_offsets(), pca.transform(vectors[::2]), atol=1e-9)
    for label, share in zip((axis.get_xlabel(), axis.get_ylabel()), pca.explained_variance_ratio_, strict=True):
        assert label.endswith(f"({100 * share:.1f} % of the variance)")
    assert len(drawn["data"].get_offsets()) == 3500  # every second
    assert drawn["data"].get_offsets().std() == pytest.approx(2, abs=0.1)
    assert "use relative to uniform" in bar.get_ylabel()


def test_codewords_have_the_colour_of_their_use():
    figure = codebook_figure(normal(5, 3), normal(50, 3), np.array([0, 5, 10, 0, 10]))
    drawn = labelled(figure.axes[0].collections)
    assert drawn["codeword"].get_array().tolist() == [1, 2, 2]
    assert drawn["codeword"].get_clim() == (0.25, 4)
    unused = drawn["unused codeword"]
    assert len(unused.get_offsets()) == 2
    assert len(unused.get_facecolor()) == 0 and tuple(unused.get_edgecolor()[0]) == to_rgba(RED)  # hollow
    assert figure.axes[0].get_title() == "5 codewords of size 3, 2 unused"
    assert legend_of(figure) == ["data", "codeword", "unused codeword"]


def test_two_dimensions_are_drawn_as_they_are():
    codewords, vectors = normal(4, 2), normal(30, 2)
    axis = codebook_figure(codewords, vectors, np.ones(4)).axes[0]
    drawn = labelled(axis.collections)
    assert np.array_equal(drawn["codeword"].get_offsets(), codewords)
    assert np.array_equal(drawn["data"].get_offsets(), vectors)
    assert drawn.keys() == {"data", "codeword"}
    assert axis.get_xlabel() == "first dimension"


@pytest.mark.parametrize("num_codewords", [4, 100])
def test_one_dimension_is_a_density_with_a_line_a_codeword(num_codewords):
    codewords, vectors = normal(num_codewords, 1), normal(20_000, 1)
    counts = np.ones(num_codewords)
    counts[1] = 0
    axis = codebook_figure(codewords, vectors, counts).axes[0]
    bars = axis.containers[0].patches
    assert sum(bar.get_width() * bar.get_height() for bar in bars) == pytest.approx(1)
    assert max(bar.get_height() for bar in bars) == pytest.approx(1 / math.sqrt(2 * math.pi), rel=0.1)
    drawn = labelled(axis.collections)
    places = [segment[0, 0] for segment in drawn["codeword"].get_segments()]
    assert places == np.delete(codewords[:, 0], 1).tolist()
    assert drawn["unused codeword"].get_segments()[0][0, 0] == codewords[1, 0]
    assert drawn["codeword"].get_array().tolist() == pytest.approx([num_codewords / (num_codewords - 1)] * len(places))
    reaches_over = drawn["codeword"].get_segments()[0][1, 1] > max(bar.get_height() for bar in bars)
    assert reaches_over == (num_codewords == 4)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_two_codewords_can_be_drawn(size, tmp_path):
    figure = codebook_figure(normal(2, size), normal(10, size), np.array([3, 1]))
    figure.savefig(tmp_path / "codebook.png")
    assert labelled(figure.axes[0].collections)["codeword"].get_array().tolist() == [1.5, 0.5]


@pytest.mark.parametrize("counts", [[9, 0, 0], [0, 0, 0]])
@pytest.mark.parametrize("size", [1, 8])
def test_a_codebook_that_collapsed_can_be_drawn(size, counts, tmp_path):
    figure = codebook_figure(np.ones((3, size)), normal(10, size), np.array(counts))
    figure.savefig(tmp_path / "codebook.png")
    assert f"{counts.count(0)} unused" in figure.axes[0].get_title()


# ---- Use


def test_use_is_sorted_and_relative_to_uniform():
    figure = usage_figure(np.array([[1, 0, 3, 0], [5, 5, 5, 5]]))
    (axis,) = figure.axes
    first, second = axis.patches
    assert first.get_data().values.tolist() == [3, 1, 0, 0]
    assert first.get_data().edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert second.get_data().values.tolist() == [1, 1, 1, 1]
    assert legend_of(figure) == [
        f"level 1: 50.0 % used, perplexity {4 / 3**0.75:.0f} of 4",
        "level 2: 100.0 % used, perplexity 4 of 4",
        "uniform use",
    ]
    assert axis.lines[0].get_ydata() == [1, 1]
    assert axis.get_xlim() == (0, 1) and axis.get_ylim()[0] == 0 and axis.get_ylim()[1] > 3
    assert axis.get_yscale() == "linear"


def test_perplexity_is_that_of_the_counts():
    counts = np.random.default_rng(0).poisson(20, (1, 1024))
    counts[0, :4] = 0
    probability = counts[0, 4:] / counts.sum()
    expected = np.exp(-(probability * np.log(probability)).sum())
    assert 900 < expected < 1010
    assert legend_of(usage_figure(counts))[0] == f"level 1: 99.6 % used, perplexity {expected:.0f} of 1024"


def test_many_levels_are_told_apart():
    figure = usage_figure(np.ones((12, 8)))
    looks = {(patch.get_edgecolor(), patch.get_linestyle()) for patch in figure.axes[0].patches}
    assert len(looks) == 12


@pytest.mark.parametrize("counts", [[[3, 1]], [[0, 0, 0]]])
def test_use_of_few_or_no_codes_can_be_drawn(counts, tmp_path):
    figure = usage_figure(np.array(counts))
    figure.savefig(tmp_path / "usage.png")
    assert figure.axes[0].patches[0].get_data().values.tolist() == ([1.5, 0.5] if counts[0][0] else [0, 0, 0])


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


# ---- Audio


def test_spectrogram_figure_shows_both_on_one_scale():
    figure = spectrogram_figure(tone(), 0.01 * tone(), 16_000)
    original, decoded = figure.axes
    assert (original.get_title(), decoded.get_title()) == ("original", "decoded")
    pictures = [axis.get_images()[0] for axis in (original, decoded)]
    assert pictures[0].get_clim() == pictures[1].get_clim()
    levels = [np.asarray(picture.get_array())[::-1] for picture in pictures]  # rows from 0 Hz up
    for level in levels:
        assert abs(int(level.mean(axis=1).argmax()) - 32) <= 1  # 1000 Hz of 16 kHz / 512
    assert levels[0].max() - levels[1].max() == pytest.approx(40, abs=0.5)  # dB


@pytest.mark.parametrize("num_samples", [600, 8000])
def test_silence_can_be_drawn(num_samples):
    figure = spectrogram_figure(torch.zeros(num_samples), torch.zeros(num_samples), 16_000)
    for axis in figure.axes:
        assert np.isfinite(np.asarray(axis.get_images()[0].get_array())).all()
