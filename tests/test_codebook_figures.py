import math

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from sklearn.decomposition import PCA

from codec.eval.codebook_figures import codebook_figure, codebooks_figure, usage_figure
from codec.eval.plotting import RED


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape)


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


# ---- All levels side by side


def levels(num_levels, *, size=6, num_codewords=40):
    rng = np.random.default_rng(1)
    codewords = rng.standard_normal((num_levels, num_codewords, size))
    vectors = [rng.standard_normal((3000, size)) for _ in range(num_levels)]
    return codewords, vectors, rng.integers(0, 5, (num_levels, num_codewords))


def panels_of(figure):
    return [axis for axis in figure.axes if axis.get_title()]


def test_a_panel_a_level_shows_its_codewords_in_their_plane():
    codewords, vectors, counts = levels(3)
    panels = panels_of(codebooks_figure(codewords, vectors, counts))
    for level, axis in enumerate(panels):
        drawn = labelled(axis.collections)
        pca = PCA(n_components=2, svd_solver="full").fit(codewords[level])
        expected = pca.transform(codewords[level])
        np.testing.assert_allclose(drawn["codeword"].get_offsets(), expected[counts[level] > 0], atol=1e-9)
        np.testing.assert_allclose(drawn["unused codeword"].get_offsets(), expected[counts[level] == 0], atol=1e-9)
        np.testing.assert_allclose(drawn["data"].get_offsets(), pca.transform(vectors[level][::3]), atol=1e-9)
        assert drawn["codeword"].get_clim() == (0.25, 4)
        share = counts[level] / counts[level].sum()
        perplexity = math.exp(-(share[share > 0] * np.log(share[share > 0])).sum())
        used = 100 * np.mean(counts[level] > 0)
        assert axis.get_title() == f"level {level + 1}: {used:.1f} % used, perplexity {perplexity:.0f}"


def test_a_far_codeword_does_not_shrink_the_others():
    codewords, vectors, counts = levels(2, num_codewords=400)
    codewords[0, 7] *= 1000
    first, second = panels_of(codebooks_figure(codewords, vectors, counts))
    # The far codeword spans the first component alone: what is shown of it is as wide as the data.
    assert [axis.get_xlim()[1] - axis.get_xlim()[0] < 20 for axis in (first, second)] == [True, True]
    assert "1 codeword beyond" in [text.get_text() for text in first.texts]
    drawn = np.concatenate([marks.get_offsets() for marks in second.collections if "codeword" in marks.get_label()])
    inside = [
        abs(points - np.mean(limits)) <= np.diff(limits) / 2
        for points, limits in zip(drawn.T, (second.get_xlim(), second.get_ylim()), strict=True)
    ]
    beyond = int((~np.all(inside, axis=0)).sum())
    assert [text.get_text() for text in second.texts] == (
        [] if beyond == 0 else [f"{beyond} codeword{'s' if beyond > 1 else ''} beyond"]
    )


@pytest.mark.parametrize(("num_levels", "size", "num_codewords"), [(1, 6, 2), (7, 2, 9), (3, 1, 8), (20, 3, 4)])
def test_any_number_of_levels_can_be_drawn(num_levels, size, num_codewords, tmp_path):
    figure = codebooks_figure(*levels(num_levels, size=size, num_codewords=num_codewords))
    figure.savefig(tmp_path / "codebooks.png")
    assert len(panels_of(figure)) == num_levels == len(figure.axes) - 1  # and the bar of colours
    assert {"data", "codeword"} <= set(legend_of(figure))


def test_codebooks_that_collapsed_can_be_drawn_side_by_side(tmp_path):
    figure = codebooks_figure(np.ones((2, 3, 4)), [np.ones((5, 4))] * 2, np.array([[5, 0, 0], [0, 0, 0]]))
    figure.savefig(tmp_path / "codebooks.png")
    assert panels_of(figure)[1].get_title() == "level 2: 0.0 % used, perplexity 1"
