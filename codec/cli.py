"""The commands: codec-train, codec-encode, codec-decode and codec-eval.

Results go to standard output, notes and progress to standard error. Exit codes: 0 done; 1 done but for some files,
which are named; 2 not done, and why is said in one line; 130 interrupted. Modules that need torch are imported where
they are used, so that --help and a mistyped option are answered at once.
"""

import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from codec.config import Recipe, load_recipe, shipped, to_dict
from codec.errors import BitstreamError, CodecError, ConfigError
from codec.jobs import Job, Outcome, check_inputs, check_outputs, plan, run_jobs
from codec.options import (
    DecodeOptions,
    EncodeOptions,
    EvalOptions,
    ModelOptions,
    TrainOptions,
    override,
    override_keys,
    parse,
    parse_bitrate,
    parse_training,
)

if TYPE_CHECKING:
    from codec.bitstream import Bitstream, Header
    from codec.eval.evaluate import Evaluation
    from codec.model.codec import Codec

EXTENDABLE = ("train.steps", "train.max_minutes")  # what may change when a run goes on


def train_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-train."""
    _run("codec-train", train, argv)


def encode_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-encode."""
    _run("codec-encode", encode, argv)


def decode_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-decode."""
    _run("codec-decode", decode, argv)


def eval_main(argv: Sequence[str] | None = None) -> None:
    """Run codec-eval."""
    _run("codec-eval", evaluate, argv)


def _run(prog: str, command: Callable[[Sequence[str]], int], argv: Sequence[str] | None) -> NoReturn:
    """Run a command and exit; what a user can cause is told in one line."""
    try:
        code = command(sys.argv[1:] if argv is None else argv)
    except (CodecError, OSError) as error:  # OSError: what no module expects, such as a disk that fills up under a log
        _note(f"{prog}: {error}")
        code = 2
    except KeyboardInterrupt:
        _note(f"{prog}: interrupted")
        code = 130
    sys.exit(code)


def train(argv: Sequence[str]) -> int:
    """Start or resume a training run."""
    options, overrides = parse_training(argv)
    recipe, run_dir = _settle_run(options, overrides)
    from codec.train.checkpoint import read_index
    from codec.train.rundir import check_new, holds_run, record_run
    from codec.train.trainer import Trainer, build_fabric

    bypass, steps = recipe.train.bypass_steps, recipe.train.steps
    if bypass >= steps and not options.init_from:
        raise ConfigError(f"train.bypass_steps {bypass} must be below train.steps, {steps}: no codebook would be set")
    resumes = options.resume and holds_run(run_dir)
    if not resumes:
        check_new(run_dir)
    fabric = build_fabric(recipe.train.precision, _device(options.device))
    trainer = Trainer(recipe, run_dir, fabric)  # finds bad data before there is a run directory
    if options.init_from:
        trainer.start_from(options.init_from)
    if resumes:
        trainer.resume()
    if fabric.is_global_zero:
        record_run(run_dir, recipe)
    try:
        trainer.fit()
    except KeyboardInterrupt:
        _note(f"codec-train: interrupted; go on with  codec-train {options.recipe} --out {run_dir} --resume")
        return 130
    if fabric.is_global_zero:
        for kind, name in sorted(read_index(run_dir).items()):
            print(f"{kind} checkpoint: {run_dir / 'checkpoints' / name}")
        print(f"next: codec-encode talk.wav --model {run_dir}")
    return 0


def _settle_run(options: TrainOptions, overrides: Sequence[str]) -> tuple[Recipe, Path]:
    """Recipe with its overrides, and the run directory."""
    if options.resume and options.init_from:
        raise ConfigError("a resumed run has its own weights: give --resume or --init-from, not both")
    from codec.train.rundir import holds_run, read_run

    run_dir = options.out or Path("runs", override(load_recipe(options.recipe), overrides).name)
    if not (options.resume and holds_run(run_dir)):
        return override(load_recipe(options.recipe), overrides), run_dir
    fixed = [key for key in override_keys(overrides) if key not in EXTENDABLE]
    if fixed:
        allowed = " and ".join(EXTENDABLE)
        raise ConfigError(f"--resume keeps the recipe of the run: only {allowed} can be given, not {fixed[0]}")
    return override(read_run(run_dir), overrides), run_dir


def encode(argv: Sequence[str]) -> int:
    """Encode audio files, or cut .codec files."""
    options: EncodeOptions = parse(EncodeOptions, argv, "codec-encode")
    if any(path.suffix == ".codec" for path in options.inputs):
        return _cut(options)
    if options.num_quantizers is not None and options.bitrate is not None:
        raise ConfigError("--num-quantizers and --bitrate say the same: give one of them")
    bitrate = None if options.bitrate is None else parse_bitrate(options.bitrate)
    from codec.audio import READ_SUFFIXES
    from codec.bitstream import SUFFIXES

    formats = [f".{options.format}"] if options.format else [".codec", *SUFFIXES]
    jobs = plan(options.inputs, options.output, READ_SUFFIXES, formats, overwrite=options.overwrite)
    codec = _load(options)
    levels = options.num_quantizers if bitrate is None else codec.config.num_quantizers_for(bitrate)
    codec.check_num_quantizers(levels)
    return run_jobs("codec-encode", jobs, lambda job: _encode_file(codec, job, levels, options.overwrite))


def _encode_file(codec: "Codec", job: Job, levels: int | None, overwrite: bool) -> Outcome:
    from codec.bitstream import Bitstream
    from codec.compression import compress_file

    if job.target.suffix == ".codec":
        header = compress_file(codec, job.source, job.target, num_quantizers=levels, overwrite=overwrite)
        return Outcome(_describe_codes(job.target, header))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder, "whole.codec")
        header = compress_file(codec, job.source, scratch, num_quantizers=levels)
        _write_plain(job.target, Bitstream.from_bytes(scratch.read_bytes()), overwrite)
    return Outcome(_describe_codes(job.target, header))


def _write_plain(target: Path, bitstream: "Bitstream", overwrite: bool) -> None:
    """Write .npy, .npz or .jsonl complete or not at all."""
    from codec.bitstream import write_codes
    from codec.compression import new_file

    with tempfile.TemporaryDirectory() as folder, new_file(target, overwrite=overwrite) as file:
        scratch = Path(folder, f"codes{target.suffix}")
        write_codes(scratch, bitstream)
        file.write(scratch.read_bytes())


def _cut(options: EncodeOptions) -> int:
    """Keep the first levels of .codec files; needs no model."""
    levels = options.num_quantizers
    if levels is None or options.format not in (None, "codec"):
        raise ConfigError(
            "a .codec file can only be cut to fewer levels: give --num-quantizers N and no other --format"
        )
    if any(path.suffix != ".codec" for path in options.inputs):
        raise ConfigError("give audio files or .codec files, not both at once")
    mark, overwrite = f".{levels}", options.overwrite
    jobs = plan(options.inputs, options.output, [".codec"], [".codec"], mark=mark, overwrite=overwrite)

    def work(job: Job) -> Outcome:
        from codec.compression import new_file

        bitstream = _read_bitstream(job.source).keep_quantizers(levels)
        with new_file(job.target, overwrite=overwrite) as file:
            file.write(bitstream.to_bytes())
        return Outcome(_describe_codes(job.target, bitstream.header))

    return run_jobs("codec-encode", jobs, work)


def decode(argv: Sequence[str]) -> int:
    """Decode files of codes to audio files."""
    options: DecodeOptions = parse(DecodeOptions, argv, "codec-decode")
    from codec.audio import WRITE_FORMATS
    from codec.bitstream import SUFFIXES

    formats = [f".{options.format}"] if options.format else list(WRITE_FORMATS)
    readable, overwrite = [".codec", *SUFFIXES], options.overwrite
    jobs = plan(options.inputs, options.output, readable, formats, mark=".decoded", overwrite=overwrite)
    codec = _load(options)
    codec.check_num_quantizers(options.num_quantizers)
    return run_jobs("codec-decode", jobs, lambda job: _decode_file(codec, job, options))


def _decode_file(codec: "Codec", job: Job, options: DecodeOptions) -> Outcome:
    from codec.bitstream import SUFFIXES, describe_lost, read_codes
    from codec.compression import decompress_codes, decompress_file, describe_codes

    levels, is_plain = options.num_quantizers, job.source.suffix in SUFFIXES
    if is_plain or levels:
        model = describe_codes(codec, codec.quantizer.num_quantizers)
        bitstream = read_codes(job.source, model) if is_plain else _read_bitstream(job.source, salvage=options.salvage)
        bitstream = bitstream.keep_quantizers(levels) if levels else bitstream
        decompress_codes(codec, bitstream, job.target, overwrite=options.overwrite)
        header, lost = bitstream.header, bitstream.lost
    else:
        reader = decompress_file(codec, job.source, job.target, salvage=options.salvage, overwrite=options.overwrite)
        header, lost = reader.header, reader.lost
    channels = "1 channel" if header.num_channels == 1 else f"{header.num_channels} channels"
    line = f"{job.target}  {header.duration_s:.2f} s  {header.sample_rate} Hz, {channels}"
    return Outcome(line, describe_lost(header, lost) if lost else "")


def evaluate(argv: Sequence[str]) -> int:
    """Judge a model on files."""
    options: EvalOptions = parse(EvalOptions, argv, "codec-eval")
    check_inputs(options.inputs)
    bitrates = [parse_bitrate(text) for text in options.bitrates]
    if options.output is not None:
        check_outputs([options.output], options.overwrite)
    from codec.eval.evaluate import evaluate as judge
    from codec.eval.evaluate import format_table

    paths = _eval_paths(options)
    codec = _load(options)
    every = codec.quantizer.num_quantizers
    default = {-(-every // 4), -(-every // 2), every}
    levels = {codec.config.num_quantizers_for(bitrate) for bitrate in bitrates} or default
    evaluation = judge(codec, paths, num_quantizers=sorted(levels), metrics=options.metrics or _installed_metrics())
    print(f"{len(paths)} files, {evaluation.seconds:.1f} s of audio\n\n{format_table(evaluation)}\n")
    print(_describe_health(codec, evaluation))
    if options.output is not None:
        _write_report(options, codec, evaluation)
    return 0


def _eval_paths(options: EvalOptions) -> list[Path]:
    """Files, those of folders, and the chosen rows of manifests, each once."""
    from codec.audio import find_audio_files
    from codec.train.data import list_items

    paths: list[Path] = []
    for path in options.inputs:
        if path.is_dir():
            paths += find_audio_files(path)
        elif path.suffix == ".tsv":
            paths += [item.path for item in list_items(Path(), path, split=options.split, kinds=options.kinds)]
        else:
            paths.append(path)
    return list(dict.fromkeys(paths))


def _installed_metrics() -> tuple[str, ...]:
    from codec.eval.metrics import METRICS, OPTIONAL_PACKAGES, available_metrics

    available = available_metrics()
    for name in METRICS:
        if name not in available:
            _note(f"codec-eval: without {name}: to have it, run  pip install {OPTIONAL_PACKAGES[name]}")
    return available


def _describe_health(codec: "Codec", evaluation: "Evaluation") -> str:
    """Usage of every level as a table, and what entropy coding could save."""
    lines = ["level   usage  perplexity  entropy (bit)"]
    for level, (entropy, perplexity, usage) in enumerate(zip(*evaluation.health, strict=True), start=1):
        lines.append(f"{level:5}  {usage:6.1%}  {perplexity:10.1f}  {entropy:13.2f}")
    ideal = float(evaluation.health.entropy.sum()) * codec.config.frame_rate / 1000
    nominal = codec.quantizer.num_quantizers * codec.config.bits_per_level / 1000
    return "\n".join([*lines, f"ideal entropy coding of all levels: {ideal:.2f} of {nominal:.2f} kbit/s"])


def _write_report(options: EvalOptions, codec: "Codec", evaluation: "Evaluation") -> None:
    from codec.compression import new_file
    from codec.pretrained import model_identity
    from codec.train.rundir import describe_environment

    def finite(row: dict[str, Any]) -> dict[str, Any]:  # JSON has no infinity: null
        return {key: None if value in (math.inf, -math.inf) or value != value else value for key, value in row.items()}

    report = {
        "model": {"identity": model_identity(codec).hex(), "config": to_dict(codec.config)},
        "versions": describe_environment(),
        "seconds": evaluation.seconds,
        "means": [finite(row) for row in evaluation.means],
        "files": [finite(row) for row in evaluation.rows],
        "levels": {name: values.tolist() for name, values in evaluation.health._asdict().items()},
    }
    assert options.output is not None
    with new_file(options.output, overwrite=options.overwrite) as file:
        file.write(json.dumps(report, indent=1, allow_nan=False).encode() + b"\n")


def _read_bitstream(path: Path, *, salvage: bool = False) -> "Bitstream":
    from codec.bitstream import Bitstream

    try:
        return Bitstream.from_bytes(path.read_bytes(), strict=not salvage)
    except OSError as error:
        raise BitstreamError(f"can't read {path}: {error.strerror}") from error


def _describe_codes(target: Path, header: "Header") -> str:
    file_rate = 8 * target.stat().st_size / header.duration_s
    rates = f"{header.bitrate / 1000:.2f} kbit/s codes, {file_rate / 1000:.2f} kbit/s file"
    return f"{target}  {header.duration_s:.2f} s  {rates}"


def _load(options: ModelOptions) -> "Codec":
    """The model asked for, or the only one that ships."""
    shipped_models = sorted(path.parent for path in shipped("weights").glob("*/model.safetensors"))
    if options.model is None and len(shipped_models) != 1:
        raise ConfigError(
            "which model? give --model with a run directory of codec-train, or a folder with model.safetensors"
        )
    from codec.pretrained import load_codec

    return load_codec(options.model or shipped_models[0], device=_device(options.device))


def _device(name: str) -> str:
    """What torch calls the device.

    Raises:
        ConfigError: There is no such device here.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no CUDA device here: give --device cpu")
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _note(text: str) -> None:
    print(text, file=sys.stderr)
