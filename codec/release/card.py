"""The card of a released model: what it is, what it costs, how it was trained, what was measured, on which data."""

import json
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from codec.bench.operations import count_operations, count_parameters
from codec.errors import ConfigError
from codec.eval.report import scalars
from codec.inference.pretrained import WEIGHTS_FILE
from codec.model.codec import Codec
from codec.model.digest import model_identity
from codec.recipe import DataConfig, Recipe
from codec.train.checkpoint import STATE_FILE
from codec.train.rundir import RECIPE_FILE, VERSIONS_FILE

CARD_FILE = "README.md"
_TEMPLATE = """\
# {name}

A neural audio codec for {rate:g} kHz: {frame_rate:g} frames a second, {levels} levels of {size} codes, {lowest:g} to
{highest:g} kbit/s before entropy coding, {latency:g} ms latency.

    codec-encode talk.wav --model {name}
    codec-decode talk.codec --model {name}

{facts}

{figures}## Data and licences

{about}

The weights are under Apache-2.0, like the code.
"""


class Figures(NamedTuple):
    """What codec-eval measured."""

    means: list[dict[str, Any]]
    """One a gain and bitrate."""
    num_files: int
    seconds: float
    """Of audio."""
    mode: str
    rounded: bool
    """Measured on the released weights, not on those before they were rounded."""


def describe_model(
    codec: Codec, name: str, folder: Path, *, recipe: Recipe, source: Path, about: str, figures: Figures | None
) -> str:
    """The card, as Markdown.

    Args:
        codec: The released model, in eval mode.
        name: Its name.
        folder: Where its files are by now, whose sizes count.
        recipe: What it was trained by.
        source: The folder that it was made from; what a checkpoint and its run say about training is used.
        about: Data sources and licences.
        figures: What was measured.

    Raises:
        ConfigError: A record of the run is damaged.
    """
    config = codec.config
    facts = _cost(codec, folder) | {"identity": f"`{model_identity(codec).hex()}`"} | _training(recipe, source)
    return _TEMPLATE.format(
        name=name,
        rate=config.sample_rate / 1000,
        frame_rate=config.frame_rate,
        levels=config.quantizer.num_quantizers,
        size=config.quantizer.codebook_size,
        lowest=config.bitrate_per_level / 1000,
        highest=config.bits_per_frame * config.frame_rate / 1000,
        latency=1000 * codec.latency / codec.sample_rate,
        facts=_table([("", ""), *facts.items()]),
        figures="" if figures is None else _describe_figures(figures),
        about=about.strip(),
    )


def read_figures(path: Path, codec: Codec, original: Codec) -> Figures:
    """Read what codec-eval wrote about a released model, or about the same before its weights were rounded.

    Raises:
        ConfigError: The file is no such JSON, or of a model that is neither.
    """
    if not path.is_file():
        raise ConfigError(f"no figures at {path}: run codec-eval -o {path}")
    report = _read_json(path)
    try:
        rounded = report["model"]["identity"] == model_identity(codec).hex()
        known = rounded or report["model"]["identity"] == model_identity(original).hex()
        num_files = len({row["path"] for row in report["files"]})
        figures = Figures(list(report["means"]), num_files, float(report["seconds"]), str(report["mode"]), rounded)
        if not figures.means:
            raise ValueError("no means")
        if any("nominal_bitrate" not in mean for mean in figures.means):
            raise ValueError("no rates of files, so it is of an earlier version")
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not what codec-eval writes with -o: {error!r}") from error
    if not known:
        raise ConfigError(f"{path} is of another model: run codec-eval on the one that is to be released")
    return figures


def header_comment(path: Path) -> str:
    """The comment at the head of a recipe, without its marks; empty if it has none."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return "\n".join(line.removeprefix("#").removeprefix(" ").rstrip() for line in lines)


def find_run(folder: Path) -> Path | None:
    """The run directory that a model's folder is a checkpoint of, if it is one."""
    return next((run for run in folder.resolve().parents[:2] if (run / RECIPE_FILE).is_file()), None)


def _cost(codec: Codec, folder: Path) -> dict[str, str]:
    parameters, operations = count_parameters(codec), count_operations(codec)
    parts = ", ".join(f"{part} {count / 1e6:.2f} M" for part, count in parameters._asdict().items())
    search = (operations.search + operations.lookup) / 1e9
    sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(folder.glob("*.safetensors"))}
    others = "".join(f", {name} {size:.2f} MB" for name, size in sizes.items() if name != WEIGHTS_FILE)
    return {
        "parameters": f"{sum(parameters) / 1e6:.2f} M ({parts})",
        "operations": f"{sum(operations) / 1e9:.2f} GFLOP a second of audio, {search:.2f} of them in the quantizer",
        "size": f"{sizes[WEIGHTS_FILE]:.2f} MB in float16{others}",
    }


def _training(recipe: Recipe, source: Path) -> dict[str, str]:
    """What a checkpoint and its run tell; what they do not is left out."""
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
    gains = {mean.get("gain_db") for mean in figures.means}
    shown = [({"gain_db": mean["gain_db"]} if len(gains) > 1 else {}) | scalars(mean) for mean in figures.means]
    rows = [{name: _number(name, value) for name, value in row.items()} for row in shown]
    table = _table([tuple(rows[0]), *(tuple(row.values()) for row in rows)])
    before = "" if figures.rounded else ", before its weights were rounded"
    return (
        f"## Figures\n\nMeans over {figures.num_files} files, {figures.seconds:.0f} s of audio, measured by codec-eval "
        f"in mode {figures.mode}{before}. bitrate is that of the .codec files, header included, nominal_bitrate that "
        f"of their codes before entropy coding (bit/s).\n\n{table}\n\n"
    )


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if name in ("bitrate", "nominal_bitrate", "num_quantizers", "gain_db") else f"{value:.3f}"


def _table(rows: list[tuple[str, ...]]) -> str:
    """Rows as Markdown, the first of them the head."""
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def _read_json(path: Path) -> dict[str, Any]:
    """An object; empty if there is no such file.

    Raises:
        ConfigError: The file is damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"can't read {path}: {' '.join(str(error).split())}") from error
