"""Where a run's numbers, pictures and audio go: a small protocol, and the trackers that speak it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Tracker(Protocol):
    """Receives what a run reports; `step` counts optimizer steps."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers by name, `group/name`."""

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Record audio `[T]` in [-1, 1]."""

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """Record a matplotlib figure."""

    def close(self) -> None:
        """Write out what is buffered."""


class TensorboardTracker:
    """Event files that `tensorboard --logdir` shows; what is there of steps after `last_step` is not shown any more."""

    def __init__(self, folder: Path, last_step: int = 0) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=last_step + 1)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers by name, `group/name`."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Record audio `[T]` in [-1, 1]."""
        self.writer.add_audio(name, audio.clamp(-1, 1)[None], step, sample_rate)

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """Record a matplotlib figure."""
        self.writer.add_figure(name, figure, step)

    def close(self) -> None:
        """Write out what is buffered."""
        self.writer.close()


class HistoryTracker:
    """Numbers as JSON lines in one file: the learning curve without any viewer. It keeps no audio and no pictures.

    Lines of steps after `last_step` are dropped: a resumed run repeats them.
    """

    def __init__(self, path: Path, last_step: int = 0) -> None:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line + "\n" for line in lines if _step_of(line) <= last_step]
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        partial.replace(path)
        self.file = path.open("a", encoding="utf-8")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append one line; a value that is not finite becomes null."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.file.write(json.dumps({"step": step, **finite}) + "\n")
        self.file.flush()

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Keep nothing."""

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """Keep nothing."""

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the last line of a run that was killed may be torn
        return math.inf


def spectrogram_figure(audio: Tensor, decoded: Tensor, sample_rate: int) -> "Figure":
    """Picture of original above decoded audio, both `[T]`: power spectrograms in dB over the same range."""
    from matplotlib.figure import Figure  # slow to import, and only validation draws

    dither = 1e-7 * np.random.default_rng(0).standard_normal(len(audio))  # silence has no logarithm
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True, sharey=True)
    for axis, signal, title in zip(axes, (audio, decoded), ("original", "decoded"), strict=True):
        samples = signal.numpy() + dither
        axis.specgram(samples, NFFT=512, Fs=sample_rate, noverlap=384, vmin=-140, vmax=-30, cmap="magma")
        axis.set(title=title, ylabel="frequency (Hz)")
    axes[1].set_xlabel("time (s)")
    return figure
