"""The model card of a release: architecture, cost, training, results, data and licences."""

from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from codec.errors import ConfigError, one_line
from codec.eval.inspection.operations import count_operations, count_parameters
from codec.inference.pretrained import WEIGHTS_FILE
from codec.jsonfile import read_json
from codec.model.codec import Codec
from codec.model.digest import model_identity
from codec.recipe import DataConfig, Recipe
from codec.table import markdown
from codec.train.checkpoint import STATE_FILE
from codec.train.rundir import RECIPE_FILE, VERSIONS_FILE

CARD_FILE = "README.md"
MAX_RESULTS = 2**24
"""Bytes of the results of codec-eval: thousands of files."""
_TEMPLATE = """\
# {name}

A neural audio codec for {rate:g} kHz: {frame_rate:g} frames a second, {levels} levels of {size} codes, {lowest:g} to
{highest:g} kbit/s before entropy coding, {latency:g} ms latency.

    codec-encode talk.wav --model {name}
    codec-decode talk.codec --model {name}

{facts}

{figures}## Data and licences

{about}
"""
_LICENCE = "The weights are under Apache-2.0, like the code."
_NOT_SAID = "Whoever pushed this model did not say what it was trained on, nor under which licence its weights are."


class Figures(NamedTuple):
    """Results of codec-eval."""

    means: list[dict[str, Any]]
    """One per condition and bitrate: see `codec.eval.evaluate.Evaluation`."""
    num_files: int
    seconds: float
    """Total length of the audio."""
    mode: str
    rounded: bool
    """Whether they were measured on the released weights, after rounding."""


def describe_model(
    codec: Codec, name: str, folder: Path, *, recipe: Recipe, source: Path, about: str, figures: Figures | None
) -> str:
    """Write the card (Markdown).

    Args:
        codec: The released model, in eval mode.
        name: Its name.
        folder: Where its files are now; their sizes are stated.
        recipe: The recipe of its training.
        source: The model folder before the release; if it is a checkpoint, the records of its run are used.
        about: Data sources and licences.
        figures: Results of codec-eval, if any.

    Raises:
        ConfigError: A record of the run is damaged.
    """
    facts = _facts(codec, folder, "float16") | _training(recipe, source)
    shown = "" if figures is None else _describe_figures(figures)
    return _fill(codec, name, facts, shown, f"{about.strip()}\n\n{_LICENCE}")


def describe_weights(codec: Codec, name: str, folder: Path) -> str:
    """Write the card of a model of which nothing but its weights is known; arguments as of `describe_model`."""
    return _fill(codec, name, _facts(codec, folder, "float32"), "", _NOT_SAID)


def read_figures(path: Path, codec: Codec, original: Codec) -> Figures:
    """Read the report of codec-eval on a released model, or on the original before its weights were rounded.

    Raises:
        ConfigError: The file is not such a report, or of another model.
    """
    if not path.is_file():
        raise ConfigError(f"no figures at {path}: run codec-eval -o {path}")
    report = _read_json(path, max_bytes=MAX_RESULTS)
    try:
        identity = report["about"]["model"]["identity"]
        rounded = identity == model_identity(codec).hex()
        known = rounded or identity == model_identity(original).hex()
        ours = report["means"][0]["codec"]  # it comes first
        means = [mean for mean in report["means"] if mean["codec"] == ours]
        num_files = len({row["path"] for row in report["rows"]})
        figures = Figures(means, num_files, float(report["seconds"]), str(report["about"]["mode"]), rounded)
        _figure_rows(figures)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is not what codec-eval writes with -o: {error!r}") from error
    if not known:
        raise ConfigError(f"{path} is of another model: run codec-eval on the one that is to be released")
    return figures


def header_comment(path: Path) -> str:
    """The comment at the top of a recipe, without the number signs; empty if there is none."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8-sig").splitlines())
    return "\n".join(line.removeprefix("#").removeprefix(" ").rstrip() for line in lines)


def find_run(folder: Path) -> Path | None:
    """The run directory of a checkpoint; None if the folder belongs to no run."""
    return next((run for run in folder.resolve().parents[:2] if (run / RECIPE_FILE).is_file()), None)


def _fill(codec: Codec, name: str, facts: dict[str, str], figures: str, about: str) -> str:
    config = codec.config
    return _TEMPLATE.format(
        name=name,
        rate=config.sample_rate / 1000,
        frame_rate=config.frame_rate,
        levels=config.quantizer.num_quantizers,
        size=config.quantizer.codebook_size,
        lowest=config.bitrate_per_level / 1000,
        highest=config.bits_per_frame * config.frame_rate / 1000,
        latency=1000 * codec.latency / codec.sample_rate,
        facts=markdown([("", ""), *facts.items()]),
        figures=figures,
        about=about,
    )


def _facts(codec: Codec, folder: Path, precision: str) -> dict[str, str]:
    """Cost and identity of a model whose files, with weights of this precision, are in a folder."""
    parameters, operations = count_parameters(codec), count_operations(codec)
    parts = ", ".join(f"{part} {count / 1e6:.2f} M" for part, count in parameters._asdict().items())
    search = (operations.search + operations.lookup) / 1e9
    sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(folder.glob("*.safetensors"))}
    others = "".join(f", {name} {size:.2f} MB" for name, size in sizes.items() if name != WEIGHTS_FILE)
    return {
        "parameters": f"{sum(parameters) / 1e6:.2f} M ({parts})",
        "operations": f"{sum(operations) / 1e9:.2f} GFLOP a second of audio, {search:.2f} of them in the quantizer",
        "size": f"{sizes[WEIGHTS_FILE]:.2f} MB in {precision}{others}",
        "identity": f"`{model_identity(codec).hex()}`",
    }


def _training(recipe: Recipe, source: Path) -> dict[str, str]:
    """Facts about training, as far as the checkpoint and its run record them."""
    facts = {"recipe": f"{recipe.name}, seed {recipe.seed}"}
    state = _read_json(source / STATE_FILE)
    if "step" in state:
        facts["last run"] = f"{state['step']} steps in {state.get('seconds', 0) / 3600:.2f} hours"
        if isinstance(recipe.data, DataConfig):
            heard = state["step"] * recipe.train.batch_size * recipe.data.segment_seconds / 3600
            facts["last run"] += f", {heard:.1f} hours of audio heard"
    run = find_run(source)
    versions = {} if run is None else _read_json(run / VERSIONS_FILE)
    if versions:
        torch_version = versions.get("packages", {}).get("torch")
        facts["trained on"] = f"{versions.get('device')}, {versions.get('threads')} threads, torch {torch_version}"
    if versions.get("git_commit"):
        facts["commit"] = f"`{versions['git_commit']}`"
    return facts


def _describe_figures(figures: Figures) -> str:
    table = markdown(_figure_rows(figures))
    before = "" if figures.rounded else ", before its weights were rounded"
    return (
        f"## Figures\n\nMeans over {figures.num_files} files, {figures.seconds:.0f} s of audio, measured by codec-eval "
        f"in mode {figures.mode}{before}. bitrate is that of the .codec files, header included, the nominal one that "
        f"of their codes before entropy coding (bit/s).\n\n{table}\n\n"
    )


def _figure_rows(figures: Figures) -> list[list[str]]:
    """Header, then a row for each mean; the condition only where there are several."""
    several = len({mean["condition"] for mean in figures.means}) > 1
    metrics = list(figures.means[0]["metrics"])
    rows = [[*(["condition"] if several else []), "setting", "bitrate", "nominal bitrate", *metrics]]
    for mean in figures.means:
        scores = [_number(mean["metrics"][name]["mean"], 3) for name in metrics]
        rates = [_number(mean[name], 0) for name in ("bitrate", "nominal_bitrate")]
        rows.append([*([mean["condition"]] if several else []), mean["setting"], *rates, *scores])
    return rows


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _read_json(path: Path, **how: Any) -> dict[str, Any]:
    """Read a JSON object; empty if there is no such file.

    Raises:
        ConfigError: The file is damaged.
    """
    try:
        return dict(read_json(path, **how)) if path.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"can't read {path}: {one_line(error)}") from error
