import math

import pytest
from matplotlib.colors import to_rgba

from codec.eval.band_figure import band_figure
from codec.eval.plotting import BLACK, COLOURS, RED

EDGES = [0.0, 1000.0, 2000.0, 4000.0]
QUIET = {"energy": [0.5, -2.9, -3.1], "power_error": [1.0, 2.0, 2.9]}
ROUGH = {"energy": [0.0, 3.2, math.nan], "power_error": [4.0, 1.0, math.nan]}


def bars(axis):
    """Height and whether it is marked, of every bar by its series."""
    red = to_rgba(RED)
    return {
        series.get_label(): [(bar.get_height(), tuple(bar.get_edgecolor()) == red) for bar in series.patches]
        for series in axis.containers
    }


def test_bars_are_the_values_and_those_beyond_3_db_are_marked():
    figure = band_figure({"1.5 kbit/s": QUIET, "3 kbit/s": ROUGH}, EDGES)
    energy, power = map(bars, figure.axes)
    assert energy["1.5 kbit/s"] == [(0.5, False), (-2.9, False), (-3.1, True)]
    assert energy["3 kbit/s"][:2] == [(0.0, False), (3.2, True)]
    assert power["3 kbit/s"][:2] == [(4.0, True), (1.0, False)]
    assert math.isnan(energy["3 kbit/s"][2][0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1.5 kbit/s", "3 kbit/s"]


@pytest.mark.parametrize(
    ("energy", "power_error", "off"),
    [([0, 0, 0], [0, 0, 0], []), ([0, -9, 0], [1, 1, 1], [1]), ([0, 0, 5], [4, 0, 0], [0, 2])],
)
def test_the_names_of_bands_that_are_off_are_red(energy, power_error, off):
    figure = band_figure({"6 kbit/s": {"energy": energy, "power_error": power_error}}, EDGES)
    labels = figure.axes[1].get_xticklabels()
    assert [label.get_text() for label in labels] == ["0-1000", "1000-2000", "2000-4000"]
    assert [label.get_color() for label in labels] == [RED if band in off else BLACK for band in range(3)]


def test_the_range_that_is_right_stays_in_view():
    small = {"energy": [0.1, 0.0, -0.1], "power_error": [0.1, 0.1, 0.1]}
    for energy in (small, {"energy": [-40.0, 0, 0], "power_error": [40.0, 0, 0]}):
        upper, lower = band_figure({"x": energy}, EDGES).axes
        assert upper.get_ylim()[0] < -3 < 3 < upper.get_ylim()[1]
        assert lower.get_ylim()[0] == pytest.approx(0, abs=1e-9) and lower.get_ylim()[1] > 3
    assert upper.get_ylim()[0] < -40 and lower.get_ylim()[1] > 40


def test_many_rates_and_a_silent_clip_can_be_drawn(tmp_path):
    silent = {"energy": [math.nan] * 3, "power_error": [math.nan] * 3}
    figure = band_figure({str(rate): silent for rate in range(7)}, EDGES)
    figure.savefig(tmp_path / "bands.png")
    colours = {series.patches[0].get_facecolor() for series in figure.axes[0].containers}
    assert to_rgba(RED) not in colours and len(colours) == len(COLOURS) - 2
