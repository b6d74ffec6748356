"""Colours and layout of all figures, and spectrograms of a recording.

A figure has no window; `figure.savefig(path)` writes it. matplotlib is imported late because it is slow to import and
few runs draw. The colours are those of Okabe and Ito, which colour-blind readers can tell apart.
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
    """Draw power spectrograms (dB, equal range) of the original above the decoded audio, both `[T]`."""
    dither = 1e-7 * np.random.default_rng(0).standard_normal(len(audio))  # zero has no logarithm
    figure = empty_figure(10, 6)
    axes = figure.subplots(2, 1, sharex=True, sharey=True)
    for axis, signal, title in zip(axes, (audio, decoded), ("original", "decoded"), strict=True):
        samples = signal.numpy() + dither
        axis.specgram(samples, NFFT=512, Fs=sample_rate, noverlap=384, vmin=-140, vmax=-30, cmap="magma")
        axis.set(title=title, ylabel="frequency (Hz)")
    axes[1].set_xlabel("time (s)")
    return figure


def empty_figure(width: float, height: float) -> "Figure":
    """Create an empty figure of a size (inches)."""
    from matplotlib.figure import Figure  # slow to import, and few runs draw

    return Figure(figsize=(width, height), layout="constrained")
