"""Validation of a Gaussian run: distortion during training, results and figures at its end.

RUN/results.json     distortion on held-out and training vectors, Shannon's bound, use of the codes, seconds of training
RUN/figures/         codebook, usage, rate and distortion, learning curves
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from codec.eval.codebook_figures import codebook_figure, usage_figure
from codec.model.codec import Codec
from codec.progress import progress_bar
from codec.study.distortion import Distortion, first_codewords, measure_distortion, measure_held_out
from codec.study.figures import RatePoint, learning_curves_figure, rate_distortion_figure
from codec.study.rate_distortion import lloyd_max, scalar_distortion, shannon_bound
from codec.study.vectors import BLOCK, GaussianVectors
from codec.train.rundir import HISTORY_FILE
from codec.train.tracking import Tracker, read_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS_FILE = "results.json"


class DistortionJudge:
    """Measures distortion on vectors that are not trained on, and compares it with Shannon's bound.

    It gives no score, so there is no best checkpoint: the result of a run is its last step.
    """

    def __init__(self, source: GaussianVectors) -> None:
        self.source = source
        self.dim = len(source.covariance)

    def validate(self, codec: Codec, trackers: Sequence[Tracker], step: int) -> None:
        """Report distortion and codebook use on the small validation set."""
        measured = measure_distortion(codec, self.source.validation())
        values = {"valid/distortion": measured.total}
        for name, levels in measured.health._asdict().items():
            values |= {f"valid_{name}/level_{level}": value for level, value in enumerate(levels.tolist(), start=1)}
        for tracker in trackers:
            tracker.scalars(values, step)

    def conclude(self, codec: Codec, run_dir: Path, trackers: Sequence[Tracker], step: int, seconds: float) -> None:
        """Write results and figures."""
        held_out = measure_held_out(codec, self._held_out_blocks())
        results = self._results(codec, held_out) | {"step": step, "seconds": seconds}
        (run_dir / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        folder = run_dir / "figures"
        folder.mkdir(exist_ok=True)
        for name, figure in self._figures(codec, held_out, run_dir):
            figure.savefig(folder / f"{name}.png", dpi=120)
            for tracker in trackers:
                tracker.figure(name, figure, step)

    def _held_out_blocks(self) -> Iterator[Tensor]:
        """Blocks of held-out vectors, with a progress bar."""
        total = self.source.config.num_held_out
        with progress_bar(total=total, desc="held-out vectors", unit="vector", delay=2, leave=False) as progress:
            for block in self.source.held_out():
                yield block
                progress.update(len(block))

    def _results(self, codec: Codec, held_out: Distortion) -> dict[str, Any]:
        health = held_out.health
        bits = codec.config.bits_per_frame
        return {
            "held_out_distortion": held_out.total,
            "train_distortion": measure_distortion(codec, torch.split(self.source.training_set(), BLOCK)).total,
            "shannon_bound": self._bound(bits / self.dim),
            "perplexity": float(health.perplexity.mean()),
            "usage": float(health.usage.mean()),
            "dim": self.dim,
            "bits": bits,
            "num_held_out": held_out.num_vectors,
            "distortion_by_level": held_out.by_level,
            "perplexity_by_level": health.perplexity.tolist(),
            "usage_by_level": health.usage.tolist(),
        }

    def _bound(self, bits_per_dim: float) -> float:
        return shannon_bound(bits_per_dim * self.dim, self.source.covariance)

    def _figures(self, codec: Codec, held_out: Distortion, run_dir: Path) -> Iterator[tuple[str, "Figure"]]:
        counts = held_out.counts.double().numpy()
        vectors = next(self.source.held_out())
        yield "codebook", codebook_figure(first_codewords(codec).numpy(), vectors.numpy(), counts[0])
        yield "usage", usage_figure(counts)
        yield "rate_distortion", rate_distortion_figure(self._points(codec, held_out), self._bound)
        bound = self._bound(codec.config.bits_per_frame / self.dim)
        yield "learning_curves", learning_curves_figure(list(read_history(run_dir / HISTORY_FILE)), bound)

    def _points(self, codec: Codec, held_out: Distortion) -> list[RatePoint]:
        """This codec with each number of levels, and for scalars the optimal quantizers."""
        bits_per_level = codec.config.bits_per_frame / len(held_out.by_level)
        points = [
            RatePoint(f"{level} level{'s' if level > 1 else ''}", level * bits_per_level / self.dim, distortion)
            for level, distortion in enumerate(held_out.by_level, start=1)
        ]
        if self.dim == 1:
            for levels in (2, 4, 8, 16):
                distortion = scalar_distortion(lloyd_max(levels))
                points.append(RatePoint(f"Lloyd-Max {levels}", float(np.log2(levels)), distortion))
        return points
