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

from codec.config import FILE_BEAM, keys, shipped, unknown_key
from codec.errors import ConfigError
from codec.recipe import Recipe, load_recipe


def _shown(metavar: str, *aliases: str) -> Any:
    """How --help shows a value whose default its own text explains."""
    return arg(metavar=metavar, aliases=aliases, help_behavior_hint="")


Inputs = Positional[Annotated[tuple[Path, ...], _shown("INPUT...")]]
Output = Annotated[str | None, _shown("OUT", "-o")]
Name = Annotated[str | None, _shown("NAME|DIR")]
Levels = Annotated[int | None, _shown("N")]
Device = Literal["auto", "cpu", "cuda"]

HELP = ("-h", "--help")


@dataclass(frozen=True)
class TrainOptions:
    """Options of codec-train that are not values of the recipe."""

    recipe: tyro.conf.Positional[Annotated[str, _shown("RECIPE")]]
    """Name of a shipped recipe, or a .toml file."""
    out: Annotated[Path | None, _shown("DIR")] = None
    """Run directory; runs/<name of the recipe> if not given."""
    resume: bool = False
    """Continue the run in the run directory, with the recipe stored there; start it if there is none yet."""
    init_from: Name = None
    """Start from the weights of a model of the same architecture; it may have fewer levels."""
    device: Device = "auto"
    """auto is cuda where there is one."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What encoding, decoding and evaluation share."""

    model: Name = None
    """Which model: a shipped one, a run directory of codec-train, a checkpoint, or a folder with model.safetensors."""
    device: Device = "auto"
    """auto is cuda where there is one."""
    mode: Annotated[Literal["float32", "bf16_decoder", "bf16", "onnx"], _shown("float32|bf16_decoder|bf16|onnx")] = (
        "float32"
    )
    """How to run it. bf16 is fast where the processor has bfloat16, bf16_decoder leaves the codes as they are; onnx is
    ONNX Runtime."""
    overwrite: bool = False
    """Replace files that are there already."""


@dataclass(frozen=True, kw_only=True)
class EncodeOptions(ModelOptions):
    """Encode audio files to codes: talk.wav -> talk.codec.

    A .codec file given with --num-quantizers is cut to its first N levels; no model runs:
    talk.codec -> talk.N.codec.
    """

    inputs: Inputs
    """Audio files, or folders of them, whose tree is kept."""
    output: Output = None
    """A folder (one that exists, ends with /, or serves several inputs), or a file. Beside the input if not given."""
    num_quantizers: Levels = None
    """Use the first N levels; all if not given."""
    bitrate: Annotated[str | None, _shown("B")] = None
    """The most levels with which files take at most B bit/s per channel on the average: 6000 or 6k."""
    format: Annotated[Literal["codec", "npy", "npz", "jsonl"] | None, _shown("codec|npy|npz|jsonl")] = None
    """codec if nothing says otherwise. npy is plain codes [C, K, F]; npz and jsonl also hold rate and length."""
    beam: Annotated[int, arg(metavar="N")] = FILE_BEAM
    """Paths that the search for codes keeps: N paths take N times as long, and the audio is closer. 1: the nearest
    codeword of each level."""
    batch_seconds: Annotated[float, arg(metavar="S")] = 60.0
    """Encode files of similar length together, up to S seconds of audio at a time; a longer one goes alone, by blocks.
    0: one file at a time."""


@dataclass(frozen=True, kw_only=True)
class DecodeOptions(ModelOptions):
    """Decode codes to audio of the original rate, channels and length: talk.codec -> talk.decoded.wav."""

    inputs: Inputs
    """.codec, .npy, .npz or .jsonl files, or folders of them, whose tree is kept."""
    output: Output = None
    """A folder (one that exists, ends with /, or serves several inputs), or a file. Beside the input if not given."""
    num_quantizers: Levels = None
    """Use the first N levels of what is there."""
    salvage: bool = False
    """Decode a damaged .codec file as far as possible; what is lost becomes silence and is named (exit code 1)."""
    format: Annotated[Literal["wav", "flac", "ogg", "opus", "mp3"] | None, _shown("wav|flac|ogg|opus|mp3")] = None
    """wav if neither this nor the name of the output says otherwise."""


@dataclass(frozen=True, kw_only=True)
class EvalOptions(ModelOptions):
    """Judge a model on files: mean metrics by bitrate, and how well each level uses its codebook."""

    inputs: Inputs
    """Audio files, folders of them, or manifests (.tsv with a column `path`)."""
    output: Annotated[Path | None, _shown("JSON", "-o")] = None
    """Write means, the rows of every file, codebook usage, model identity and versions to this file."""
    bitrates: Annotated[tuple[str, ...], _shown("B...")] = ()
    """bit/s per channel, 1500 or 1.5k: the most levels that do not exceed each. If not given: all, 1/2, 1/4."""
    metrics: Annotated[tuple[str, ...], _shown("NAME...")] = ()
    """mel si_sdr snr stoi pesq_wb dnsmos speaker; all that are installed if not given."""
    gains: Annotated[tuple[float, ...], _shown("DB...")] = (0.0,)
    """Code and judge each clip at these gains (dB), each against the clip at that gain: 0 -20 -40. 0 if not given."""
    beam: Annotated[int | None, _shown("N")] = None
    """Candidates that the search in the quantizer keeps; as in files if not given."""
    jobs: Annotated[int, arg(metavar="N")] = 1
    """Processes that share the files, with one thread each; 0: one a processor."""
    split: Annotated[str, arg(metavar="NAME")] = "valid"
    """Rows of a manifest to use."""
    kinds: Annotated[tuple[str, ...], _shown("KIND...")] = ()
    """Keep only rows of these kinds."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Put runs of Gaussian recipes beside each other, Shannon's bound, scikit-learn's k-means and Lloyd-Max."""

    inputs: Positional[Annotated[tuple[Path, ...], _shown("RUN...")]]
    """Run directories of codec-train that hold a results.json."""
    output: Annotated[Path | None, _shown("PNG", "-o")] = None
    """Draw the figure into this file."""
    overwrite: bool = False
    """Replace a file that is there already."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Measure how fast a model is on this processor, beside other codecs and beside the machine's own peak.

    Whole signals part by part and in every fast mode, a live stream block by block, peak memory against length, FLOP,
    other codecs that are installed (random weights, nothing is downloaded), and the residual quantizer beside
    vector-quantize-pytorch. What is compared runs in the same rounds, so that a busy machine slows both. Five minutes:
      codec-bench --quick
      codec-bench runs/speech_16khz -o bench.json --plot bench.png
      codec-bench --recipe quickstart --modes float32 onnx --peers encodec mimi --threads 1
    """

    model: Positional[Annotated[str | None, _shown("MODEL")]] = None
    """A run directory of codec-train, a checkpoint, a model folder or a shipped model. If not given: a recipe."""
    recipe: Annotated[str | None, _shown("NAME|FILE")] = None
    """Take the architecture of a recipe, with random weights; speech_16khz if neither is given."""
    output: Annotated[Path | None, _shown("JSON", "-o")] = None
    """Write all numbers, the machine and versions to this file."""
    plot: Annotated[Path | None, _shown("PNG")] = None
    """Draw the figure into this file."""
    modes: Annotated[tuple[str, ...], _shown("MODE...")] = ()
    """float32 bf16_decoder bf16 onnx. If not given: all, but bf16 only where the processor has it."""
    peers: Annotated[tuple[str, ...], _shown("PEER...")] = ()
    """encodec mimi dac snac, or none; all that are installed if not given."""
    threads: Annotated[tuple[str, ...], _shown("N|all...")] = ()
    """Numbers of threads, each measured by itself: 1 all if not given."""
    seconds: Annotated[float | None, _shown("S")] = None
    """Audio of a run on whole signals: 10 if not given."""
    block_ms: Annotated[float | None, _shown("MS")] = None
    """Audio of a block of the live stream: 20 if not given."""
    rounds: Annotated[int | None, _shown("N")] = None
    """Measured rounds: 7 if not given. Slow peers get fewer."""
    file_seconds: Annotated[tuple[float, ...], _shown("S...")] = ()
    """Lengths of the files whose memory is measured: 10 60 600 if not given; add 3600 for an hour."""
    quick: bool = False
    """Half a minute: little audio, few rounds, one thread, one mode, where not given otherwise. Not for quoting."""
    overwrite: bool = False
    """Replace files that are there already."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write a model as ONNX files that run without PyTorch, with a program in NumPy that shows how.

    The graphs are run in ONNX Runtime and compared with PyTorch before anything is written. Needs the extra `export`.
    """

    model: Positional[Name] = None
    """Which model: a shipped one, a run directory of codec-train, a checkpoint, or a folder with model.safetensors."""
    output: Annotated[Path, _shown("DIR", "-o")]
    """Folder for encoder.onnx, decoder.onnx, codec.json and example.py."""
    beam: Annotated[int, arg(metavar="N")] = 1
    """Paths that the search in encoder.onnx keeps, as for codec-encode; one is best for live use."""
    overwrite: bool = False
    """Replace an export that is there already."""


@dataclass(frozen=True, kw_only=True)
class ReleaseOptions:
    """Make what ships of a trained model: float16 weights, tables for entropy coding, fingerprint and card.

    Tables are learned on the train split of the recipe's data; --data.root and the like say where it is now.
      codec-release runs/speech_16khz -o codec/weights/speech_16khz --about sources.md --figures results.json
    """

    model: Positional[Annotated[str, _shown("RUN|DIR")]]
    """A run directory of codec-train, a checkpoint, or a folder with model.safetensors."""
    output: Annotated[Path, _shown("DIR", "-o")]
    """New folder; its name is the model's. A released model is never replaced."""
    recipe: Annotated[str | None, _shown("NAME|FILE")] = None
    """What the model was trained by; if not given, the recipe of its run."""
    about: Annotated[Path | None, _shown("FILE")] = None
    """Data sources and licences, for the card; if not given, the comment at the head of the recipe."""
    figures: Annotated[Path | None, _shown("JSON")] = None
    """What codec-eval -o wrote about the model, for the card."""
    device: Device = "auto"
    """Where the data is encoded; auto is cuda where there is one."""


def parse(options: Any, argv: Sequence[str], prog: str, **how: Any) -> Any:
    """Read a command line into `options`, a dataclass; prints the help and exits where it is asked for.

    Raises:
        ConfigError: An option is unknown or has a wrong value, in one line where tyro prints a box.
    """
    output, errors = io.StringIO(), io.StringIO()
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            return tyro.cli(options, args=argv, prog=prog, config=config, **how)
    except SystemExit as stop:
        if not stop.code:
            print(output.getvalue(), end="")
            raise
        raise ConfigError(_reason(errors.getvalue(), stop)) from stop


def parse_training(argv: Sequence[str]) -> tuple[TrainOptions, list[str]]:
    """Read the command line of codec-train: its own options, and the arguments that override values of the recipe.

    Raises:
        ConfigError: As for `parse`; or the recipe is missing.
    """
    asked = [word for word in argv if word not in HELP]
    wants_help = len(asked) < len(argv) or not argv
    if wants_help and (not asked or asked[0].startswith("-")):
        parse(TrainOptions, HELP[:1], "codec-train", description=_describe_training())
    if asked[0].startswith("-"):
        raise ConfigError("the recipe comes first: codec-train RECIPE [options]; codec-train --help lists the recipes")
    options, overrides = parse(TrainOptions, asked, "codec-train", return_unknown_args=True)
    if wants_help:
        parse(Recipe, HELP[:1], f"codec-train {options.recipe}", default=load_recipe(options.recipe))
    return options, overrides


def parse_release(argv: Sequence[str]) -> tuple[ReleaseOptions, list[str]]:
    """Read the command line of codec-release: its own options, and the arguments that override where the data is.

    Raises:
        ConfigError: As for `parse`; or a word would change what the model was trained by.
    """
    options, overrides = parse(ReleaseOptions, argv, "codec-release", return_unknown_args=True)
    for key in override_keys(overrides):
        if not key.startswith("data."):
            raise ConfigError(f"no option --{key}: of the recipe only --data options can be given")
    return options, overrides


def override(recipe: Recipe, argv: Sequence[str]) -> Recipe:
    """The recipe with values like `--train.steps 10` replaced.

    Raises:
        ConfigError: Unknown key (naming the nearest), wrong type, or a value out of range.
    """
    known = set(keys(Recipe))
    for key in override_keys(argv):
        if key not in known:
            raise ConfigError(unknown_key(key, Recipe) if "." in key else f"no option --{key}: see codec-train --help")
    changed: Recipe = parse(Recipe, argv, f"codec-train {recipe.name}", default=recipe)
    return changed


def override_keys(argv: Sequence[str]) -> list[str]:
    """Dotted keys among arguments like `--train.max-minutes=3` and `--codec.quantizer.no-normalize`."""
    names = [word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")]
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
    text = " ".join(itertools.takewhile(lambda line: line.strip("-"), lines[2:])).removeprefix("Error parsing ")
    while error is not None and not isinstance(error, pydantic.ValidationError):
        error = error.__context__
    if error is None:  # tyro tells of an optional value that it is neither of two types
        return re.sub(r"no type matching (?:\{None\}\|)?(\S+) could .*? from \[(.*?)\]\..*", r"\2 is no \1", text)
    first = error.errors()[0]
    key = ".".join([text.partition(":")[0], *map(str, first["loc"])])
    given = "" if first["type"] == "value_error" else f", not {first['input']!r}"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}{given}"


def _describe_training() -> str:
    folder = shipped("recipes")
    recipes = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.toml"))}
    width = max(map(len, recipes), default=0)
    about = [f"  {name:<{width}}  {_first_sentence(path)}" for name, path in recipes.items()]
    return "\n".join(
        [
            "Train a codec from a recipe, in one process or in those that torchrun starts.",
            "\nShipped recipes:",
            *about,
            "\nEvery value of a recipe is an option too; codec-train RECIPE --help lists them all. For example:",
            "  codec-train quickstart --data.root ~/speech --data.train . --train.steps 1000",
        ]
    )


def _first_sentence(path: Path) -> str:
    """Of the comment at the head of a recipe, up to its first stop or colon."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return re.split(r"[.:](?:\s|$)", " ".join(line.lstrip("# ") for line in lines))[0]
