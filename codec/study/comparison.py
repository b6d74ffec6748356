"""Compare Gaussian runs with each other and with theory, in one table.

The references are computed here: scikit-learn's k-means on the training set of each run, and in one dimension the
optimal (Lloyd-Max) quantizers.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from codec.config import CodecConfig, IdentityDecoderConfig, IdentityEncoderConfig, QuantizerConfig
from codec.errors import ConfigError
from codec.jsonfile import read_json
from codec.model.builder import build_codec
from codec.model.quantizer.residual import VectorQuantizer
from codec.progress import progress_bar
from codec.recipe import GaussianConfig, Recipe
from codec.study.distortion import Distortion, exact_distortion, measure_distortion, measure_held_out
from codec.study.figures import Measured
from codec.study.judge import RESULTS_FILE
from codec.study.rate_distortion import lloyd_max
from codec.study.vectors import BLOCK, GaussianVectors
from codec.table import markdown
from codec.train.rundir import read_run

MAX_CLUSTERS = 4096
"""More clusters take k-means too long."""
HEADER = (
    *("quantizer", "dimensions", "bits", "held-out distortion", "bound", "above it", "training set"),
    *("codes used", "perplexity", "seconds"),
)
RESULTS = ("bits", "held_out_distortion", "train_distortion", "shannon_bound", "usage", "perplexity", "seconds")
"""Keys of a run's results, in the order of the fields of `Row` from `bits` on."""


class Row(NamedTuple):
    """A quantizer of Gaussian vectors. Distortions are mean squared errors per dimension."""

    name: str
    dim: int
    bits: float
    """Per vector."""
    distortion: float
    """On held-out vectors."""
    train_distortion: float
    """nan if unknown."""
    bound: float
    """Shannon's, at this rate."""
    usage: float
    """Share of the codewords that are used, 0 .. 1."""
    perplexity: float
    """1 .. N codewords."""
    seconds: float
    """Training time; nan for a reference."""

    @property
    def measured(self) -> Measured:
        """The point in the figure; the name without the codebook size, which makes runs of several sizes one series."""
        name = self.name.removesuffix(f"_{round(2**self.bits)}")
        return Measured(name, self.dim, self.bits, self.distortion, self.bound)


def compare_runs(run_dirs: Sequence[Path]) -> list[Row]:
    """Rows of runs and of their references: most dimensions first, then by bits, then by distortion.

    Raises:
        ConfigError: One of them is not a finished Gaussian run.
    """
    recipes = [_read_recipe(run_dir) for run_dir in run_dirs]
    names = _short_names(run_dirs)
    rows = [_read_row(run_dir, name) for run_dir, name in zip(run_dirs, names, strict=True)]
    rows += _references(recipes, rows)
    return sorted(rows, key=lambda row: (-row.dim, row.bits, row.distortion))


def format_rows(rows: Sequence[Row]) -> str:
    """Format rows as a Markdown table."""
    return markdown([HEADER, *map(_cells, rows)])


def _cells(row: Row) -> list[str]:
    digits = 4 if row.dim > 1 else 6
    train = "" if math.isnan(row.train_distortion) else f"{row.train_distortion:.{digits}f}"
    seconds = "" if math.isnan(row.seconds) else f"{row.seconds:.1f}"
    return [
        *(row.name, str(row.dim), f"{row.bits:g}", f"{row.distortion:.{digits}f}", f"{row.bound:.{digits}f}"),
        *(f"{row.distortion / row.bound - 1:.1%}", train, f"{row.usage:.1%}", f"{row.perplexity:.1f}", seconds),
    ]


def _read_recipe(run_dir: Path) -> Recipe:
    recipe = read_run(run_dir)
    if not isinstance(recipe.data, GaussianConfig):
        raise ConfigError(f"{run_dir} is a run on audio: codec-compare is for those of Gaussian recipes")
    return recipe


def _read_row(run_dir: Path, name: str) -> Row:
    path = run_dir / RESULTS_FILE
    try:
        results = read_json(path)
        return Row(name, int(results["dim"]), *(float(results[key]) for key in RESULTS))
    except FileNotFoundError as error:
        raise ConfigError(f"{run_dir} has no {RESULTS_FILE}: its run is not finished: resume it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error


def _short_names(run_dirs: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ from each other."""
    absolute = [run_dir.resolve() for run_dir in run_dirs]
    for count in range(1, max(len(path.parts) for path in absolute) + 1):
        names = ["/".join(path.parts[-count:]) for path in absolute]
        if len(set(names)) == len(set(absolute)):
            break
    return names


def _references(recipes: Sequence[Recipe], rows: Sequence[Row]) -> list[Row]:
    """k-means once for each training set and codebook size, and Lloyd-Max at each rate of one dimension."""
    sets = {
        (recipe.data, row.dim, recipe.seed, round(2**row.bits)): row.bound
        for recipe, row in zip(recipes, rows, strict=True)
        if isinstance(recipe.data, GaussianConfig) and not recipe.data.fresh and 2**row.bits <= MAX_CLUSTERS
    }
    progress = progress_bar(sets.items(), desc="k-means by scikit-learn", unit="set", leave=False)
    references = [_kmeans(data, dim, seed, size, bound) for (data, dim, seed, size), bound in progress]
    scalar = {round(2**row.bits): row.bound for row in rows if row.dim == 1}
    for size, bound in sorted(scalar.items()):
        exact = exact_distortion(torch.from_numpy(lloyd_max(size)))
        references.append(_reference("Lloyd-Max", 1, size, bound, exact, math.nan))
    return references


def _kmeans(data: GaussianConfig, dim: int, seed: int, size: int, bound: float) -> Row:
    from sklearn.cluster import KMeans  # slow to import, and only comparisons need it

    source = GaussianVectors(data, dim=dim, seed=seed)
    vectors = source.training_set()
    fitted = KMeans(size, n_init=1, random_state=0).fit(vectors.numpy())
    codec = build_codec(
        CodecConfig(
            latent_dim=dim,
            encoder=IdentityEncoderConfig(),
            decoder=IdentityDecoderConfig(),
            quantizer=QuantizerConfig(num_quantizers=1, codebook_size=size),
        )
    ).eval()
    assert isinstance(codec.quantizer, VectorQuantizer)
    codec.quantizer.codebooks.table[0] = torch.from_numpy(fitted.cluster_centers_).float()
    train = measure_distortion(codec, torch.split(vectors, BLOCK)).total
    held_out = measure_held_out(codec, source.held_out())
    return _reference(f"k-means of {len(vectors)} vectors (scikit-learn)", dim, size, bound, held_out, train)


def _reference(name: str, dim: int, size: int, bound: float, measured: Distortion, train_distortion: float) -> Row:
    usage, perplexity = float(measured.health.usage[0]), float(measured.health.perplexity[0])
    return Row(name, dim, math.log2(size), measured.total, train_distortion, bound, usage, perplexity, math.nan)
