"""Validation during training: `codec.eval` on held-out files; numbers, figures and audio to the trackers."""

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from codec.audio.file import load_audio
from codec.audio.manifest import spread
from codec.errors import AudioError
from codec.eval.band_figure import band_figure
from codec.eval.bd_table import bd_rates
from codec.eval.codebook_figures import codebooks_figure
from codec.eval.evaluate import evaluate, failures
from codec.eval.file_judge import FileJudge
from codec.eval.inspection.codebooks import measure_codebook_use
from codec.eval.metrics.bands import describe_bands
from codec.eval.metrics.metrics import METRICS, available_metrics
from codec.eval.plotting import spectrogram_figure
from codec.eval.report_folder import ReportFolder
from codec.eval.results import describe_run, to_plain
from codec.eval.systems.catalogue import parse_systems
from codec.eval.systems.ours import OurCodec
from codec.eval.systems.system import System
from codec.model.codec import Codec
from codec.model.digest import with_identity
from codec.recipe import DataConfig, Recipe
from codec.train.data.files import list_split
from codec.train.tracking import Tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_FOLDER = "report"
NUM_REPORT_CLIPS = 8
"""Files whose audio is in the report of a run."""


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
        num_samples_logged: Number of files whose audio and spectrograms are recorded, beside charts of bands and
            codebooks; 0: no audio and no pictures.
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
        items = list_split(recipe.data, "valid")
        paths = [item.path for item in spread(items, recipe.validation.max_files or len(items))]
        levels = sorted({recipe.codec.num_quantizers_for(bitrate) for bitrate in recipe.validation.bitrates})
        return cls(paths, num_quantizers=levels, num_samples_logged=recipe.validation.num_samples_logged)

    def validate(self, codec: Codec, trackers: Sequence[Tracker], step: int) -> float | None:
        """Measure the codec and report to the trackers; returns the mean mel distance, lower is better.

        A file that can't be read is left out with a warning; without any file there is no score.
        """
        metrics = _quick_metrics()
        codec = with_identity(codec)
        systems = tuple(OurCodec("codec", codec, levels, beam=1) for levels in self.num_quantizers)
        try:
            evaluation = evaluate(FileJudge(systems, codec.sample_rate, metrics), self.paths)
        except AudioError as error:
            warnings.warn(f"no validation at step {step}: {error}", stacklevel=2)
            return None
        for reason in failures(evaluation):
            warnings.warn(f"left out of the validation at step {step}: {reason}", stacklevel=2)
        values: dict[str, float] = {}
        rates = [_kilobits(codec, levels) for levels in self.num_quantizers]
        for rate, mean in zip(rates, evaluation.means, strict=True):
            scores = {name: mean["metrics"][name]["mean"] for name in metrics}
            scores |= _by_band(mean["bands"], evaluation.edges_hz)
            values |= {f"valid/{name}_{rate}kbps": score for name, score in scores.items() if math.isfinite(score)}
        for health in evaluation.health.values():
            for name, levels in health._asdict().items():
                values |= {f"valid_{name}/level_{level}": value for level, value in enumerate(levels.tolist(), start=1)}
            values["valid/entropy_bitrate"] = float(health.entropy.sum()) * codec.config.frame_rate
        for tracker in trackers:
            tracker.scalars(values, step)
        if self.num_samples_logged and trackers:
            bands = {f"{rate} kbit/s": mean["bands"] for rate, mean in zip(rates, evaluation.means, strict=True)}
            failed = {row["path"] for row in evaluation.rows if row["error"] is not None}
            paths = [path for path in self.paths if path not in evaluation.unread and str(path) not in failed]
            pictures = {"bands": band_figure(bands, evaluation.edges_hz), "codebooks": _draw_codebooks(codec, paths)}
            _log_figures(trackers, pictures, step)
            self._log_samples(codec, paths, trackers, step)
        return statistics.fmean(mean["metrics"]["mel"]["mean"] for mean in evaluation.means)

    def conclude(self, codec: Codec, run_dir: Path, trackers: Sequence[Tracker], step: int, seconds: float) -> None:
        """Make the report of the run, RUN/report: a page with all held-out files and Opus beside the codec.

        The report of an earlier end of the run, which was then made longer, is replaced.
        """
        codec = with_identity(codec)
        systems: list[System] = [OurCodec(run_dir.name, codec, levels) for levels in self.num_quantizers]
        systems += parse_systems(["opus"], codec.sample_rate)
        metrics = _quick_metrics()
        kept = frozenset(spread(self.paths, NUM_REPORT_CLIPS))
        judge = FileJudge(tuple(systems), codec.sample_rate, metrics, kept=kept)
        folder = ReportFolder(run_dir / REPORT_FOLDER, judge, {}, resume=False, overwrite=True)
        try:
            evaluation = evaluate(judge, self.paths, on_result=folder.add)
        except AudioError as error:
            warnings.warn(f"no report of the run: {error}", stacklevel=2)
            return
        about = describe_run(codec, f"codec-train, {step} steps, {seconds:.0f} s")
        folder.finish(to_plain(evaluation, about, bd_rates(evaluation, "opus")))

    @torch.no_grad()
    def _log_samples(self, codec: Codec, paths: Sequence[Path], trackers: Sequence[Tracker], step: int) -> None:
        """Record the first files, decoded with each number of levels that is measured and with all levels."""
        for number, path in enumerate(paths[: self.num_samples_logged]):
            audio = load_audio(path, codec.sample_rate)[:, :1].to(codec.device)
            recordings = {"original": audio[0, 0].cpu()}
            for levels in sorted({*self.num_quantizers, codec.quantizer.num_quantizers}):
                decoded = codec.decode(codec.encode(audio, levels), audio.shape[-1])
                recordings[f"{_kilobits(codec, levels)}kbps"] = decoded[0, 0].cpu()
            for tracker in trackers:
                for name, recording in recordings.items():
                    tracker.audio(f"sample_{number}/{name}", recording, codec.sample_rate, step)
            _log_figures(trackers, {f"sample_{number}": spectrogram_figure(recordings, codec.sample_rate)}, step)


def _quick_metrics() -> tuple[str, ...]:
    """Installed metrics without large networks."""
    return tuple(name for name in available_metrics() if not METRICS[name].slow)


def _draw_codebooks(codec: Codec, paths: Sequence[Path]) -> "Figure":
    """The codebooks of all levels, and their use on files by a greedy search."""
    use = measure_codebook_use(codec, paths, beam=1, progress=False)
    return codebooks_figure(use.codewords, use.vectors, use.counts.numpy())


def _log_figures(trackers: Sequence[Tracker], figures: Mapping[str, "Figure"], step: int) -> None:
    for tracker in trackers:
        for name, figure in figures.items():
            tracker.figure(name, figure, step)


def _kilobits(codec: Codec, levels: int) -> str:
    """Bitrate of so many levels before entropy coding (kbit/s)."""
    return f"{levels * codec.config.bitrate_per_level / 1000:g}"


def _by_band(bands: dict[str, list[float]], edges_hz: Sequence[float]) -> dict[str, float]:
    """Energy and power error (dB) under names such as energy_250-500Hz."""
    return {
        f"{field}_{name}Hz": value
        for field in ("energy", "power_error")
        for name, value in zip(describe_bands(edges_hz), bands[field], strict=True)
    }
