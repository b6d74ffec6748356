"""What the commands take: one dataclass each, whose docstrings are its --help, read by tyro (no torch)."""

import contextlib
import io
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import tyro
from tyro.conf import Positional, arg

from codec.config import Recipe, keys, load_recipe, shipped, unknown_key
from codec.errors import ConfigError

Inputs = Positional[Annotated[tuple[Path, ...], arg(metavar="INPUT...")]]
Output = Annotated[str | None, arg(aliases=("-o",), metavar="OUT")]
Name = Annotated[str | None, arg(metavar="NAME|DIR")]
Levels = Annotated[int | None, arg(metavar="N")]
Device = Literal["auto", "cpu", "cuda"]

HELP = ("-h", "--help")


@dataclass(frozen=True)
class TrainOptions:
    """Options of codec-train that are not values of the recipe."""

    recipe: tyro.conf.Positional[Annotated[str, arg(metavar="RECIPE")]]
    """Name of a shipped recipe, or a .toml file."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Run directory; runs/<name of the recipe> if not given."""
    resume: bool = False
    """Continue the run in the run directory, with the recipe stored there."""
    init_from: Name = None
    """Start from the weights of a model of the same architecture."""
    device: Device = "auto"
    """auto is cuda where there is one."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What encoding, decoding and evaluation share."""

    model: Name = None
    """A shipped model, a run directory of codec-train, a checkpoint, or a folder with model.safetensors."""
    device: Device = "auto"
    """auto is cuda where there is one."""
    overwrite: bool = False
    """Replace files that are there already."""


@dataclass(frozen=True, kw_only=True)
class EncodeOptions(ModelOptions):
    """Encode audio files to codes: talk.wav -> talk.codec.

    A .codec file given with --num-quantizers is cut to its first N levels, without any model: talk.codec -> talk.N.codec.
    """

    inputs: Inputs
    """Audio files, or folders of them, whose tree is kept."""
    output: Output = None
    """A folder (it exists, ends with /, or there are several inputs), or the name of one file. Beside the input if not given."""
    num_quantizers: Levels = None
    """Use the first N levels; all if not given."""
    bitrate: Annotated[str | None, arg(metavar="B")] = None
    """The most levels that do not exceed B bit/s per channel: 6000 or 6k."""
    format: Literal["codec", "npy", "npz", "jsonl"] | None = None
    """codec, or plain arrays for language models: npy is int16 [C, K, F], npz and jsonl add rate and length."""


@dataclass(frozen=True, kw_only=True)
class DecodeOptions(ModelOptions):
    """Decode codes to audio of the original rate, channels and length: talk.codec -> talk.decoded.wav."""

    inputs: Inputs
    """.codec, .npy, .npz or .jsonl files, or folders of them, whose tree is kept."""
    output: Output = None
    """A folder (it exists, ends with /, or there are several inputs), or the name of one file. Beside the input if not given."""
    num_quantizers: Levels = None
    """Use the first N levels of what is there."""
    salvage: bool = False
    """Decode a damaged .codec file as far as possible; what is lost becomes silence and is named (exit code 1)."""
    format: Literal["wav", "flac", "ogg", "opus", "mp3"] | None = None
    """wav if neither this nor the name of the output says otherwise."""


@dataclass(frozen=True, kw_only=True)
class EvalOptions(ModelOptions):
    """Judge a model: encode and decode files, print mean metrics by bitrate and how well each level uses its codebook."""

    inputs: Inputs
    """Audio files, folders of them, or manifests (.tsv with a column `path`)."""
    output: Annotated[Path | None, arg(aliases=("-o",), metavar="JSON")] = None
    """Write means, the rows of every file, codebook usage, model identity and versions to this file."""
    bitrates: Annotated[tuple[str, ...], arg(metavar="B...")] = ()
    """bit/s per channel, 1500 or 1.5k: the most levels that do not exceed each. A quarter, half and all levels if not given."""
    metrics: Annotated[tuple[str, ...], arg(metavar="NAME...")] = ()
    """mel si_sdr snr stoi pesq_wb; all that are installed if not given."""
    split: Annotated[str, arg(metavar="NAME")] = "valid"
    """Rows of a manifest to use."""
    kinds: Annotated[tuple[str, ...], arg(metavar="KIND...")] = ()
    """Keep only rows of these kinds."""


def parse(options: Any, words: Sequence[str], prog: str, **how: Any) -> Any:
    """Read a command line into `options`, a dataclass; prints the help and exits where it is asked for.

    Raises:
        ConfigError: An option is unknown or has a wrong value, in one line where tyro prints a box.
    """
    output, errors = io.StringIO(), io.StringIO()
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            return tyro.cli(options, args=words, prog=prog, config=config, **how)
    except SystemExit as stop:
        if not stop.code:
            print(output.getvalue(), end="")
            raise
        raise ConfigError(_reason(errors.getvalue(), stop)) from stop


def parse_training(words: Sequence[str]) -> tuple[TrainOptions, list[str]]:
    """Read the command line of codec-train: its own options, and the words that override values of the recipe.

    Raises:
        ConfigError: As for `parse`; or the recipe is missing.
    """
    asked = [word for word in words if word not in HELP]
    wants_help = len(asked) < len(words) or not words
    if wants_help and (not asked or asked[0].startswith("-")):
        parse(TrainOptions, HELP[:1], "codec-train", description=_describe_training())
    if asked[0].startswith("-"):
        raise ConfigError("the recipe comes first: codec-train RECIPE [options]; codec-train --help lists the recipes")
    options, overrides = parse(TrainOptions, asked, "codec-train", return_unknown_args=True)
    if wants_help:
        parse(Recipe, HELP[:1], f"codec-train {options.recipe}", default=load_recipe(options.recipe))
    return options, overrides


def override(recipe: Recipe, words: Sequence[str]) -> Recipe:
    """The recipe with values like `--train.steps 10` replaced.

    Raises:
        ConfigError: Unknown key (naming the nearest), wrong type, or a value out of range.
    """
    known = set(keys(Recipe))
    for key in override_keys(words):
        if key not in known:
            raise ConfigError(unknown_key(key, Recipe) if "." in key else f"no option --{key}: see codec-train --help")
    changed: Recipe = parse(Recipe, words, f"codec-train {recipe.name}", default=recipe)
    return changed


def override_keys(words: Sequence[str]) -> list[str]:
    """Dotted keys among words like `--train.max-minutes=3` and `--codec.quantizer.no-normalize`."""
    names = [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    return [re.sub(r"\.no_(?=\w+$)", ".", name) for name in names]


def parse_bitrate(text: str) -> float:
    """Bitrate (bit/s) from 6000, 6k or 1.5k.

    Raises:
        ConfigError: It is no positive number.
    """
    try:
        bitrate = float(text.lower().removesuffix("k")) * (1000 if text.lower().endswith("k") else 1)
    except ValueError:
        bitrate = math.nan
    if not 0 < bitrate < math.inf:
        raise ConfigError(f"bitrate {text!r} is no positive number of bit/s: write 6000 or 6k")
    return bitrate


def _reason(box: str, error: BaseException | None) -> str:
    """The text between the first two rules of tyro's box, or what pydantic says where a value is out of range."""
    lines = [line.strip() for line in box.splitlines() if line.strip()]
    text = " ".join(itertools.takewhile(lambda line: line.strip("-"), lines[2:]))
    while error is not None and not isinstance(error, pydantic.ValidationError):
        error = error.__context__
    if error is None:
        return text
    first = error.errors()[0]
    key = ".".join([text.removeprefix("Error parsing ").partition(":")[0], *map(str, first["loc"])])
    given = "" if first["type"] == "value_error" else f", not {first['input']!r}"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}{given}"


def _describe_training() -> str:
    recipes = {path.relative_to(shipped("recipes")).with_suffix("").as_posix(): path for path in _recipes()}
    width = max(map(len, recipes), default=0)
    about = [
        f"  {name:<{width}}  {path.read_text(encoding='utf-8').partition(chr(10))[0].removeprefix('# ')}"
        for name, path in recipes.items()
    ]
    return "\n".join(
        [
            "Train a codec from a recipe, in one process or in those that torchrun starts.",
            "\nShipped recipes:",
            *about,
            "\nEvery value of a recipe is an option too; codec-train RECIPE --help lists them all. For example:",
            "  codec-train quickstart --data.root ~/speech --data.train . --train.steps 1000",
        ]
    )


def _recipes() -> list[Path]:
    return sorted(shipped("recipes").rglob("*.toml"))
