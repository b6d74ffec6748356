"""codec-eval: judge a model on files, beside other codecs; or summarise a listening test."""

import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec.cli.command_line import parse
from codec.cli.jobs import check_inputs, check_outputs
from codec.cli.loading import in_mode, load_original
from codec.cli.options import EvalOptions
from codec.errors import ConfigError
from codec.table import aligned

if TYPE_CHECKING:
    from codec.eval.evaluate import Evaluation
    from codec.eval.file_judge import FileJudge
    from codec.eval.report_folder import ReportFolder
    from codec.model.codec import Codec

FORMATS = (".json", ".jsonl", ".csv")


def evaluate(argv: Sequence[str]) -> int:
    """Judge a model on files, beside other codecs; or summarise a listening test."""
    options = parse(EvalOptions, argv, "codec-eval")
    if options.listening:
        return _summarise_listening(options)
    _check(options)
    from codec.audio.manifest import list_paths
    from codec.eval.bd_table import bd_rates
    from codec.eval.evaluate import evaluate as judge_all
    from codec.eval.processes import check_jobs
    from codec.eval.published import read_published
    from codec.eval.results import describe_run, to_plain

    check_jobs(options.jobs)
    published = [] if options.published is None else read_published(options.published)
    paths = list_paths(options.inputs, split=options.split, kinds=options.kinds)
    original = load_original(options)
    codec = in_mode(original, options.mode)
    judge = _build_judge(options, codec, None if codec is original else original, paths)
    with _report_folder(options, judge, codec) as folder:
        done = (
            {} if folder is None else {path: folder.ledger.done[path] for path in paths if path in folder.ledger.done}
        )
        if done:
            print(f"codec-eval: {len(done)} of {len(paths)} files are done already", file=sys.stderr)
        left = [path for path in paths if path not in done]
        on_result = None if folder is None else folder.add
        evaluation = judge_all(judge, left, jobs=options.jobs, done=done.values(), on_result=on_result)
        rates = bd_rates(evaluation, _versus(options, judge)) if len({s.codec for s in judge.systems}) > 1 else []
        about = describe_run(codec, shlex.join(["codec-eval", *argv]), options.mode) | {"beam": options.beam}
        results = to_plain(evaluation, about, rates)
        if folder is not None:
            folder.finish(results)
    _print(options, codec, evaluation, rates)
    if options.output is not None:
        _write(options.output, results, evaluation, options.overwrite)
    if options.plot is not None:
        _draw(options.plot, evaluation, published, options.overwrite)
    if folder is not None:
        print(f"\nreport: {folder.path / 'index.html'}, listening test: {folder.path / 'listening.html'}")
    return 1 if _name_failures(evaluation) else 0


def _check(options: EvalOptions) -> None:
    """Find mistakes in the options before anything slow.

    Raises:
        ConfigError: An input is missing, or an output exists or has an unknown format.
    """
    check_inputs(options.inputs)
    if options.resume and options.report is None:
        raise ConfigError("--resume goes on with a report: name its folder with --report")
    if options.output is not None and options.output.suffix not in FORMATS:
        raise ConfigError(f"{options.output}: name a file that ends with {', '.join(FORMATS)}")
    check_outputs([path for path in (options.output, options.plot) if path is not None], options.overwrite)


def _build_judge(options: EvalOptions, codec: "Codec", original: "Codec | None", paths: list[Path]) -> "FileJudge":
    """What is asked: systems, metrics, conditions."""
    from codec.eval.conditions import Condition, parse_condition
    from codec.eval.file_judge import FileJudge
    from codec.eval.systems.catalogue import check_unique, parse_systems
    from codec.eval.systems.ours import OurCodec

    every = codec.quantizer.num_quantizers
    default = {-(-every // 4), -(-every // 2), every}
    levels = {codec.num_quantizers_for(bitrate) for bitrate in options.bitrates} or default
    name = Path(options.model).resolve().name if options.model else "speech_16khz"
    ours = [OurCodec(name, codec, count, options.beam) for count in sorted(levels)]
    conditions = [Condition(gain_db=gain) for gain in options.gains]
    conditions += [parse_condition(text) for text in options.conditions]
    number = min(options.report_clips, len(paths)) if options.report is not None else 0
    systems = (*ours, *parse_systems(options.codecs, codec.sample_rate))
    check_unique(systems)
    return FileJudge(
        systems,
        sample_rate=codec.sample_rate,
        metrics=options.metrics or _installed_metrics(),
        conditions=tuple(dict.fromkeys(conditions)),
        reference=None if original is None else OurCodec("float32", original, max(levels), options.beam),
        kept=frozenset(paths[index * len(paths) // number] for index in range(number)),
    )


@contextmanager
def _report_folder(options: EvalOptions, judge: "FileJudge", codec: "Codec") -> "Iterator[ReportFolder | None]":
    from codec.eval.report_folder import ReportFolder
    from codec.model.digest import model_identity

    if options.report is None:
        yield None
        return
    identity = model_identity(codec).hex()
    yield ReportFolder(options.report, judge, identity, resume=options.resume, overwrite=options.overwrite)


def _versus(options: EvalOptions, judge: "FileJudge") -> str:
    ours = judge.systems[0].codec
    return options.versus or next(system.codec for system in judge.systems if system.codec != ours)


def _installed_metrics() -> tuple[str, ...]:
    from codec.eval.metrics.metrics import METRICS, available_metrics

    available = available_metrics()
    for name, metric in METRICS.items():
        if name not in available:
            packages = " ".join(metric.packages)
            print(f"codec-eval: without {name}: to have it, run  pip install {packages}", file=sys.stderr)
    return available


def _name_failures(evaluation: "Evaluation") -> int:
    """Print the files that could not be read and those on which a codec failed; returns their number."""
    lines = [str(error) for error in evaluation.unread.values()]
    for row in evaluation.rows:
        if row["error"] is not None:
            lines.append(f"{row['path']}: {row['codec']}, {row['setting']}: {row['error']}")
    for line in lines:
        print(f"codec-eval: {line}", file=sys.stderr)
    return len(lines)


def _print(options: EvalOptions, codec: "Codec", evaluation: "Evaluation", rates: list[dict[str, Any]]) -> None:
    """The results on standard output."""
    from codec.eval.report import format_bd_rates, format_evaluation

    num_files = len({row["path"] for row in evaluation.rows})
    print(f"{num_files} files, {evaluation.seconds:.1f} s of audio, {options.mode}\n")
    print(f"{format_evaluation(evaluation, shutil.get_terminal_size((120, 24)).columns)}\n")
    if rates:
        print(f"{format_bd_rates(rates)}\n")
    print(_describe_health(codec, evaluation))


def _describe_health(codec: "Codec", evaluation: "Evaluation") -> str:
    """Usage of every level as a table, and what entropy coding could save."""
    name, health = next(iter(evaluation.health.items()))  # of our model: it comes first
    rows = [["level", "usage", "perplexity", "entropy (bit)"]]
    for level, (entropy, perplexity, usage) in enumerate(zip(*health, strict=True), start=1):
        rows.append([str(level), f"{usage:6.1%}", f"{perplexity:.1f}", f"{entropy:.2f}"])
    lines = [f"Use of the codebooks of {name}", aligned(rows)]
    if evaluation.agreement is not None:
        shares = " ".join(f"{share:.1%}" for share in evaluation.agreement.tolist())
        lines.append(f"codes that are those of float32, by level: {shares}")
    ideal = float(health.entropy.sum()) * codec.config.frame_rate / 1000
    nominal = len(health.entropy) * codec.config.bitrate_per_level / 1000
    return "\n".join([*lines, f"ideal entropy coding of these levels: {ideal:.2f} of {nominal:.2f} kbit/s"])


def _write(path: Path, results: dict[str, Any], evaluation: "Evaluation", overwrite: bool) -> None:
    """Write results as JSON, or the rows as JSON lines or CSV."""
    from codec.eval.report import to_csv
    from codec.files import new_file

    if path.suffix == ".csv":
        text = to_csv(evaluation)
    elif path.suffix == ".jsonl":
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in results["rows"])
    else:
        text = json.dumps(results, indent=1, allow_nan=False) + "\n"
    with new_file(path, overwrite=overwrite) as file:
        file.write(text.encode())


def _draw(path: Path, evaluation: "Evaluation", published: list[dict[str, Any]], overwrite: bool) -> None:
    """Draw rate-distortion curves into a file."""
    from codec.eval.curve_figure import curve_figure
    from codec.files import new_file

    figure = curve_figure(evaluation, published)
    with new_file(path, overwrite=overwrite) as file:
        figure.savefig(file, format="png", dpi=150)


def _summarise_listening(options: EvalOptions) -> int:
    """Print what the answers of a listening test say."""
    from codec.eval.listening import format_summary, read_answers, summarise

    check_inputs(options.listening)
    print(format_summary(summarise(read_answers(options.listening))))
    return 0
