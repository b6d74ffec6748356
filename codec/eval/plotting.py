"""Colours and layout of all figures, and spectrograms of a recording.

A figure has no window; `write_figure` writes it. matplotlib is imported late because it is slow to import and
few runs draw. The colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from codec.files import new_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"),
    "#000000",
)
MARKERS = "osD^vP"
DASHES = ("-", "--", ":", "-.")
GREY = "#BBBBBB"


def spectrogram_figure(recordings: Mapping[str, Tensor], sample_rate: int) -> "Figure":
    """Draw power spectrograms (dB, equal range) of recordings `[T]` of one length below each other, by their titles."""
    length = len(next(iter(recordings.values())))
    dither = 1e-7 * np.random.default_rng(0).standard_normal(length)  # zero has no logarithm
    figure = empty_figure(10, 1.2 + 2.4 * len(recordings))
    axes = figure.subplots(len(recordings), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (title, signal) in zip(axes, recordings.items(), strict=True):
        samples = signal.numpy() + dither
        axis.specgram(samples, NFFT=512, Fs=sample_rate, noverlap=384, vmin=-140, vmax=-30, cmap="magma")
        axis.set(title=title, ylabel="frequency (Hz)")
    figure.colorbar(axes[0].get_images()[0], ax=list(axes), label="power density (dB)", pad=0.01, aspect=12 * len(axes))
    axes[-1].set_xlabel("time (s)")
    return figure


def empty_figure(width: float, height: float) -> "Figure":
    """Create an empty figure of a size (inches)."""
    from matplotlib.figure import Figure  # slow to import, and few runs draw

    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: "Figure", path: Path, *, overwrite: bool, dpi: int = 120) -> None:
    """Write a figure as PNG; the file appears complete or not at all. Errors as of `codec.files.new_file`."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi)
    with new_file(path, overwrite=overwrite) as file:
        file.write(picture.getvalue())
