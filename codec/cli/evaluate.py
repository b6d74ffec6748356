"""codec-eval: judge a model on files."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.command_line import parse
from codec.cli.jobs import check_inputs, check_outputs
from codec.cli.loading import in_mode, load_original
from codec.cli.options import EvalOptions
from codec.config import to_dict
from codec.table import aligned

if TYPE_CHECKING:
    from codec.eval.evaluate import Evaluation
    from codec.model.codec import Codec


def evaluate(argv: Sequence[str]) -> int:
    """Judge a model on files."""
    options = parse(EvalOptions, argv, "codec-eval")
    check_inputs(options.inputs)
    if options.output is not None:
        check_outputs([options.output], options.overwrite)
    from codec.eval.evaluate import evaluate as judge
    from codec.eval.processes import check_jobs
    from codec.eval.report import format_evaluation

    check_jobs(options.jobs)
    paths = _eval_paths(options)
    original = load_original(options)
    codec = in_mode(original, options.mode)
    every = codec.quantizer.num_quantizers
    default = {-(-every // 4), -(-every // 2), every}
    levels = {codec.num_quantizers_for(bitrate) for bitrate in options.bitrates} or default
    evaluation = judge(
        codec,
        paths,
        num_quantizers=sorted(levels),
        metrics=options.metrics or _installed_metrics(),
        gains_db=list(dict.fromkeys(options.gains)),
        beam=options.beam,
        jobs=options.jobs,
        reference=None if codec is original else original,
    )
    for error in evaluation.unread.values():
        print(f"codec-eval: {error}", file=sys.stderr)
    print(f"{len(paths) - len(evaluation.unread)} files, {evaluation.seconds:.1f} s of audio, {options.mode}\n")
    print(f"{format_evaluation(evaluation)}\n")
    print(_describe_health(codec, evaluation))
    if options.output is not None:
        _write_report(options, codec, evaluation)
    return 1 if evaluation.unread else 0


def _eval_paths(options: EvalOptions) -> list[Path]:
    """Files, those of folders, and the chosen rows of manifests, each once."""
    from codec.audio.file import find_audio_files
    from codec.audio.manifest import list_items

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
    from codec.eval.metrics.metrics import METRICS, available_metrics

    available = available_metrics()
    for name, metric in METRICS.items():
        if name not in available:
            packages = " ".join(metric.packages)
            print(f"codec-eval: without {name}: to have it, run  pip install {packages}", file=sys.stderr)
    return available


def _describe_health(codec: "Codec", evaluation: "Evaluation") -> str:
    """Usage of every level as a table, and what entropy coding could save."""
    rows = [["level", "usage", "perplexity", "entropy (bit)"]]
    for level, (entropy, perplexity, usage) in enumerate(zip(*evaluation.health, strict=True), start=1):
        rows.append([str(level), f"{usage:6.1%}", f"{perplexity:.1f}", f"{entropy:.2f}"])
    lines = [aligned(rows)]
    if evaluation.agreement is not None:
        shares = " ".join(f"{share:.1%}" for share in evaluation.agreement.tolist())
        lines.append(f"codes that are those of float32, by level: {shares}")
    ideal = float(evaluation.health.entropy.sum()) * codec.config.frame_rate / 1000
    nominal = codec.quantizer.num_quantizers * codec.config.bitrate_per_level / 1000
    return "\n".join([*lines, f"ideal entropy coding of all levels: {ideal:.2f} of {nominal:.2f} kbit/s"])


def _write_report(options: EvalOptions, codec: "Codec", evaluation: "Evaluation") -> None:
    from codec.environment import describe_environment
    from codec.eval.report import finite_or_null
    from codec.files import new_file
    from codec.model.digest import model_identity

    report = {
        "model": {"identity": model_identity(codec).hex(), "config": to_dict(codec.config)},
        "mode": options.mode,
        "device": str(codec.device),
        "versions": describe_environment(),
        "beam": options.beam,
        "seconds": evaluation.seconds,
        "band_edges_hz": evaluation.edges_hz,
        "means": evaluation.means,
        "files": evaluation.rows,
        "unread": {str(path): str(error) for path, error in evaluation.unread.items()},
        "levels": {name: values.tolist() for name, values in evaluation.health._asdict().items()},
        "agreement": None if evaluation.agreement is None else evaluation.agreement.tolist(),
    }
    assert options.output is not None
    with new_file(options.output, overwrite=options.overwrite) as file:
        file.write(json.dumps(finite_or_null(report), indent=1, allow_nan=False).encode() + b"\n")
