"""Validation during training: `codec.eval` on held-out files; numbers, figures and audio to the trackers."""

import math
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from codec.audio.file import load_audio
from codec.audio.manifest import list_items
from codec.errors import AudioError
from codec.eval.evaluate import evaluate
from codec.eval.metrics.bands import describe_bands
from codec.eval.metrics.metrics import METRICS, available_metrics
from codec.eval.plotting import spectrogram_figure
from codec.model.codec import Codec
from codec.recipe import DataConfig, Recipe
from codec.train.data.segments import data_root
from codec.train.tracking import Tracker


class Judge(Protocol):
    """Measures the EMA codec of a run."""

    def validate(self, codec: Codec, trackers: Sequence[Tracker], step: int) -> float | None:
        """Report to the trackers; returns the score that chooses the best checkpoint, lower is better, or None."""

    def conclude(self, codec: Codec, run_dir: Path, trackers: Sequence[Tracker], step: int, seconds: float) -> None:
        """Measure the result at the end of training, which took so many `seconds`."""


class Validator:
    """Measures a codec on fixed files at fixed numbers of levels.

    Args:
        paths: Held-out files.
        num_quantizers: Numbers of levels to measure.
        num_samples_logged: Number of files whose audio and spectrogram are recorded, decoded with all levels.
    """

    def __init__(self, paths: Sequence[Path], *, num_quantizers: Sequence[int], num_samples_logged: int) -> None:
        self.paths = paths
        self.num_quantizers = num_quantizers
        self.num_samples_logged = num_samples_logged

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> "Validator | None":
        """Build the validator of a recipe; None if the recipe has no held-out files."""
        if not isinstance(recipe.data, DataConfig) or recipe.data.valid is None:
            return None
        items = list_items(data_root(recipe.data), recipe.data.valid, split="valid", kinds=recipe.data.kinds)
        number = min(recipe.validation.max_files or len(items), len(items))
        paths = [items[i * len(items) // number].path for i in range(number)]
        levels = sorted({recipe.codec.num_quantizers_for(bitrate) for bitrate in recipe.validation.bitrates})
        return cls(paths, num_quantizers=levels, num_samples_logged=recipe.validation.num_samples_logged)

    def validate(self, codec: Codec, trackers: Sequence[Tracker], step: int) -> float | None:
        """Measure the codec and report to the trackers; returns the mean mel distance, lower is better.

        A file that can't be read is left out with a warning; without any file there is no score.
        """
        metrics = [name for name in available_metrics() if not METRICS[name].slow]
        try:
            evaluation = evaluate(codec, self.paths, num_quantizers=self.num_quantizers, metrics=metrics, beam=1)
        except AudioError as error:
            warnings.warn(f"no validation at step {step}: {error}", stacklevel=2)
            return None
        for reason in evaluation.unread.values():
            warnings.warn(f"left out of the validation at step {step}: {reason}", stacklevel=2)
        values: dict[str, float] = {}
        for mean in evaluation.means:
            rate = f"{mean['num_quantizers'] * codec.config.bitrate_per_level / 1000:g}kbps"
            scores = {name: mean[name] for name in metrics} | _by_band(mean["bands"], evaluation.edges_hz)
            values |= {f"valid/{name}_{rate}": score for name, score in scores.items() if math.isfinite(score)}
        for level, usage in enumerate(evaluation.health.usage.tolist()):
            values[f"valid_usage/level_{level + 1}"] = usage
        values["valid/entropy_bitrate"] = float(evaluation.health.entropy.sum()) * codec.config.frame_rate
        for tracker in trackers:
            tracker.scalars(values, step)
        self._log_samples(codec, [path for path in self.paths if path not in evaluation.unread], trackers, step)
        return statistics.fmean(mean["mel"] for mean in evaluation.means)

    def conclude(self, codec: Codec, run_dir: Path, trackers: Sequence[Tracker], step: int, seconds: float) -> None:
        """Do nothing: the last validation measured the result."""

    @torch.no_grad()
    def _log_samples(self, codec: Codec, paths: Sequence[Path], trackers: Sequence[Tracker], step: int) -> None:
        for number, path in enumerate(paths[: self.num_samples_logged]):
            audio = load_audio(path, codec.sample_rate)[:, :1].to(codec.device)
            decoded = codec.decode(codec.encode(audio), audio.shape[-1])[0, 0].cpu()
            original = audio[0, 0].cpu()
            for tracker in trackers:
                tracker.audio(f"sample_{number}/decoded", decoded, codec.sample_rate, step)
                tracker.audio(f"sample_{number}/original", original, codec.sample_rate, step)
                tracker.figure(f"sample_{number}", spectrogram_figure(original, decoded, codec.sample_rate), step)


def _by_band(bands: dict[str, list[float]], edges_hz: Sequence[float]) -> dict[str, float]:
    """Energy and power error (dB) under names such as energy_250-500Hz."""
    return {
        f"{field}_{name}Hz": value
        for field in ("energy", "power_error")
        for name, value in zip(describe_bands(edges_hz), bands[field], strict=True)
    }
