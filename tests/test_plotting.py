import math

import numpy as np
import pytest
import torch

from codec.eval.plotting import spectrogram_figure


def tone(num_samples=8000):
    return 0.5 * torch.sin(torch.arange(num_samples) * 2 * math.pi * 1000 / 16_000)


def test_spectrogram_figure_shows_all_on_one_scale():
    figure = spectrogram_figure({"original": tone(), "decoded": 0.01 * tone()}, 16_000)
    original, decoded, bar = figure.axes
    assert bar.get_ylabel() == "power density (dB)"
    assert (original.get_title(), decoded.get_title()) == ("original", "decoded")
    pictures = [axis.get_images()[0] for axis in (original, decoded)]
    assert pictures[0].get_clim() == pictures[1].get_clim()
    levels = [np.asarray(picture.get_array())[::-1] for picture in pictures]  # rows from 0 Hz up
    for level in levels:
        assert abs(int(level.mean(axis=1).argmax()) - 32) <= 1  # 1000 Hz of 16 kHz / 512
    assert levels[0].max() - levels[1].max() == pytest.approx(40, abs=0.5)  # dB


@pytest.mark.parametrize("num_samples", [600, 8000])
def test_silence_can_be_drawn(num_samples):
    figure = spectrogram_figure({name: torch.zeros(num_samples) for name in "ab"}, 16_000)
    for axis in figure.axes[:2]:
        assert np.isfinite(np.asarray(axis.get_images()[0].get_array())).all()
