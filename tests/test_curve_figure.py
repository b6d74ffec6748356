import math

import pytest
from messages import one_line

from codec.errors import ConfigError
from codec.eval.curve_figure import curve_figure
from codec.eval.evaluate import Evaluation


def mean(codec, bitrate, score, *, metrics=("pesq_wb",), low=None, high=None, condition="as it is"):
    values = {"mean": score, "low": score - 0.1 if low is None else low, "high": score + 0.1 if high is None else high}
    return {
        "codec": codec,
        "setting": str(bitrate),
        "condition": condition,
        "num_files": 7,
        "bitrate": bitrate,
        "metrics": dict.fromkeys(metrics, values),
    }


def draw(*means):
    return curve_figure(Evaluation([], list(means), {}, 1.0, None, tuple(means[0]["metrics"]), [], {}))


def lines(axis):
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axis.get_lines()}


def test_curves_are_means_over_kbits_in_order():
    figure = draw(mean("ours", 6000.0, 3.5), mean("ours", 3000.0, 2.5), mean("opus", 8000.0, 2.0))
    (axis,) = figure.axes
    assert lines(axis) == {"ours": [(3, 2.5), (6, 3.5)], "opus": [(8, 2.0)]}
    assert axis.get_xscale() == "log" and axis.get_title() == "PESQ-WB, higher is better"
    band = axis.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((2.4, 3.6))
    assert "7 files" in figure.get_suptitle()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours", "opus"]


def test_only_recordings_as_they_are_are_drawn():
    (axis,) = draw(mean("ours", 6000.0, 3.5), mean("ours", 6100.0, 1.5, condition="-20 dB")).axes
    assert lines(axis) == {"ours": [(6, 3.5)]}


def test_points_without_a_score_are_left_out_and_without_an_interval_have_no_band():
    nan = math.nan
    (axis,) = draw(mean("ours", 3000.0, nan), mean("ours", nan, 2.0), mean("ours", 6000.0, 3.5, low=nan, high=nan)).axes
    assert lines(axis) == {"ours": [(6, 3.5)]}
    assert not len(axis.collections[0].get_paths())


def test_at_most_four_panels_of_the_metrics_that_matter():
    metrics = ("mel", "stft", "lsd", "si_sdr", "snr", "stoi", "pesq_wb", "pesq_nb", "f0", "dnsmos", "speaker")
    titles = [axis.get_title() for axis in draw(mean("ours", 6000.0, 3.5, metrics=metrics)).axes]
    assert [title.split(",")[0].split(" (")[0] for title in titles] == ["PESQ-WB", "STOI", "mel distance", "DNSMOS"]
    three = draw(mean("ours", 6000.0, 3.5, metrics=("mel", "stoi", "f0"))).axes
    assert len(three) == 3 and three[1].get_title() == "mel distance (neper), lower is better"
    (only,) = draw(mean("ours", 6000.0, 3.5, metrics=("si_sdr",))).axes
    assert only.get_title().startswith("SI-SDR (dB)")


def test_nothing_to_draw_is_said():
    for given in (mean("ours", 6000.0, 3.5, condition="-20 dB"), mean("ours", 6000.0, 3.5, metrics=())):
        with pytest.raises(ConfigError, match=one_line("nothing to draw")):
            draw(given)
