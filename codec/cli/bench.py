"""codec-bench: measure the speed of a model beside others."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.command_line import parse
from codec.cli.jobs import check_outputs
from codec.cli.options import BenchOptions
from codec.cli.output import Emit, output
from codec.errors import ConfigError
from codec.jsonfile import plain
from codec.recipe import load_recipe

if TYPE_CHECKING:
    from codec.bench.bench import Benchmark, Plan
    from codec.model.codec import Codec

DEFAULT_RECIPE = "speech_16khz"
NO_PEERS = "none"
QUICK = {"modes": ["float32"], "threads": ["1"], "seconds": 1.0, "rounds": 2, "file_seconds": [1.0, 10.0]}
"""Values that --quick sets for options that are not given."""


def bench(argv: Sequence[str]) -> int:
    """Measure the speed of a model."""
    options = parse(BenchOptions, argv, "codec-bench", {"quick": QUICK})
    with output(options) as emit:
        _bench(options, emit)
    return 0


def _bench(options: BenchOptions, emit: Emit) -> None:
    _check(options)
    from codec.bench.bench import run_benchmark
    from codec.bench.table import format_benchmark

    plan = _plan(options)
    codec, name = _model(options)
    benchmark = run_benchmark(codec, name, plan)
    print(format_benchmark(benchmark))
    _write(options, benchmark)
    emit({**benchmark._asdict(), "output": options.output, "plot": options.plot})


def _check(options: BenchOptions) -> None:
    """Check the options before torch is loaded.

    Raises:
        ConfigError: Two models, a wrong suffix, or an output that is there already.
    """
    if options.model is not None and options.recipe is not None:
        raise ConfigError(f"a model or a recipe, not both: {options.model} and --recipe {options.recipe}")
    for path, suffix in ((options.output, ".json"), (options.plot, ".png")):
        if path is not None:
            if path.suffix != suffix:
                raise ConfigError(f"{path} must end with {suffix}")
            check_outputs([path], options.overwrite)
            if not os.access(_existing(path.absolute().parent), os.W_OK):
                raise ConfigError(f"can't write {path}: no permission")


def _existing(folder: Path) -> Path:
    """The folder itself or the nearest above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _plan(options: BenchOptions) -> "Plan":
    """Plan of the measurements.

    Raises:
        ConfigError: No such number of threads.
    """
    from codec.bench.bench import Plan
    from codec.bench.peers import PEERS
    from codec.bench.timing import count_threads

    plan = Plan(
        modes=list(dict.fromkeys(options.modes)) or _default_modes(),
        peers=[name for name in dict.fromkeys(options.peers or PEERS) if name != NO_PEERS],
        threads=count_threads(options.threads),
        seconds=options.seconds,
        block_ms=options.block_ms,
        num_rounds=options.rounds,
        file_s=options.file_seconds,
    )
    return plan._replace(num_blocks=50, product_size=512, batch_size=1, budget_s=1.0) if options.quick else plan


def _default_modes() -> list[str]:
    """All modes, but bfloat16 only where the processor has it."""
    import torch

    from codec.dsp.precision import has_fast_bfloat16
    from codec.inference.modes import MODES

    return [mode for mode in MODES if has_fast_bfloat16(torch.device("cpu")) or not mode.startswith("bf16")]


def _model(options: BenchOptions) -> tuple["Codec", str]:
    """The model asked for, in eval mode on the CPU, and its name.

    Raises:
        ModelError: There is no such model.
        ConfigError: There is no such recipe, or it is not one of audio.
    """
    from codec.config import IdentityEncoderConfig
    from codec.inference.pretrained import load_codec
    from codec.model.builder import build_codec

    if options.model is not None:
        return load_codec(options.model), options.model
    recipe = load_recipe(options.recipe or DEFAULT_RECIPE)
    if isinstance(recipe.codec.encoder, IdentityEncoderConfig):
        raise ConfigError(f"recipe {recipe.name} is of vectors, not of audio: give another with --recipe")
    return build_codec(recipe.codec).eval().requires_grad_(False), f"{recipe.name} (random weights)"


def _write(options: BenchOptions, benchmark: "Benchmark") -> None:
    """Write the files that were asked for."""
    from codec.bench.figure import speed_figure
    from codec.eval.plotting import write_figure
    from codec.files import new_file

    if options.output is not None:
        with new_file(options.output, overwrite=options.overwrite) as file:
            file.write(json.dumps(plain(benchmark), indent=1, allow_nan=False).encode() + b"\n")
    if options.plot is not None:
        write_figure(speed_figure(benchmark), options.plot, overwrite=options.overwrite)
