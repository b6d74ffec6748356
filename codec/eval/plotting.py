"""What all pictures share: colours, those of Okabe and Ito, an empty figure, and the spectrograms of a recording.

A figure belongs to no window: `figure.savefig(path)` writes it. matplotlib is imported late: it is slow to
import, and few runs draw.
"""

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"),
    "#000000",
)
MARKERS = "osD^vP"
DASHES = ("-", "--", ":", "-.")
GREY = "#BBBBBB"


def spectrogram_figure(audio: Tensor, decoded: Tensor, sample_rate: int) -> "Figure":
    """Picture of original above decoded audio, both `[T]`: power spectrograms in dB over the same range."""
    dither = 1e-7 * np.random.default_rng(0).standard_normal(len(audio))  # silence has no logarithm
    figure = empty_figure(10, 6)
    axes = figure.subplots(2, 1, sharex=True, sharey=True)
    for axis, signal, title in zip(axes, (audio, decoded), ("original", "decoded"), strict=True):
        samples = signal.numpy() + dither
        axis.specgram(samples, NFFT=512, Fs=sample_rate, noverlap=384, vmin=-140, vmax=-30, cmap="magma")
        axis.set(title=title, ylabel="frequency (Hz)")
    axes[1].set_xlabel("time (s)")
    return figure


def empty_figure(width: float, height: float) -> "Figure":
    """Return an empty figure (inches)."""
    from matplotlib.figure import Figure  # slow to import, and only validation and reports draw

    return Figure(figsize=(width, height), layout="constrained")
