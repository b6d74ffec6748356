"""codec-eval: judge a model on files, beside other codecs; or summarise a listening test."""

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec.cli.command_line import parse
from codec.cli.jobs import check_inputs, check_outputs
from codec.cli.loading import find_shipped, in_mode, load_original
from codec.cli.options import EvalOptions
from codec.cli.output import Emit, output
from codec.errors import ConfigError
from codec.table import aligned

if TYPE_CHECKING:
    from codec.eval.evaluate import Evaluation
    from codec.eval.file_judge import FileJudge
    from codec.eval.report_folder import ReportFolder
    from codec.model.audio_codec import AudioCodec

FORMATS = (".json", ".jsonl", ".csv")


def evaluate(argv: Sequence[str]) -> int:
    """Judge a model on files, beside other codecs; or summarise a listening test."""
    options = parse(EvalOptions, argv, "codec-eval")
    with output(options) as emit:
        if options.listening:
            return _summarise_listening(options, emit)
        return _evaluate(options, shlex.join(["codec-eval", *argv]), emit)


def _evaluate(options: EvalOptions, command: str, emit: Emit) -> int:
    _check(options)
    from codec.audio.manifest import list_paths
    from codec.eval.bd_table import bd_rates
    from codec.eval.evaluate import evaluate as judge_all
    from codec.eval.evaluate import failures
    from codec.eval.processes import check_jobs
    from codec.eval.published import read_published
    from codec.eval.results import describe_run, to_plain

    check_jobs(options.jobs)
    published = [] if options.published is None else read_published(options.published)
    paths = list_paths(options.inputs, split=options.split, kinds=options.kinds)
    original = load_original(options)
    codec = in_mode(original, options.mode)
    judge = _build_judge(options, codec, None if codec is original else original, paths)
    versus = _find_reference(options, judge)
    folder = _open_folder(options, judge, codec)
    done = {} if folder is None else {path: folder.ledger.done[path] for path in paths if path in folder.ledger.done}
    if done:
        print(f"codec-eval: {len(done)} of {len(paths)} files are done already", file=sys.stderr)
    left = [path for path in paths if path not in done]
    on_result = None if folder is None else folder.add
    evaluation = judge_all(judge, left, jobs=options.jobs, done=done.values(), on_result=on_result)
    rates = [] if versus is None else bd_rates(evaluation, versus)
    about = describe_run(codec, command, options.mode) | {"beam": options.beam}
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
    _emit_all(results, options, emit)
    return _name_failures(failures(evaluation))


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


def _build_judge(
    options: EvalOptions, codec: "AudioCodec", original: "AudioCodec | None", paths: list[Path]
) -> "FileJudge":
    """What is asked: systems, metrics, conditions."""
    from codec.audio.manifest import spread
    from codec.eval.conditions import Condition, parse_condition
    from codec.eval.curve_figure import check_drawable
    from codec.eval.file_judge import FileJudge
    from codec.eval.systems.catalogue import check_unique, parse_systems, quarter_half_all
    from codec.eval.systems.ours import OurCodec

    chosen = {codec.num_quantizers_for(bitrate) for bitrate in options.bitrates}
    levels = sorted(chosen) or quarter_half_all(codec.num_quantizers)
    name = Path(options.model or find_shipped()[0]).resolve().name
    ours = [OurCodec(name, codec, count, options.beam) for count in levels]
    conditions = [Condition(gain_db=gain) for gain in options.gains]
    conditions += [parse_condition(text) for text in options.conditions]
    metrics = options.metrics or _installed_metrics()
    if options.plot is not None:
        check_drawable(metrics, [condition.name for condition in conditions])
    systems = (*ours, *parse_systems(options.codecs, codec.sample_rate))
    check_unique(systems)
    return FileJudge(
        systems,
        sample_rate=codec.sample_rate,
        metrics=metrics,
        conditions=tuple(dict.fromkeys(conditions)),
        reference=None if original is None else OurCodec("float32", original, max(levels), options.beam),
        kept=frozenset(spread(paths, 0 if options.report is None else options.report_clips)),
    )


def _open_folder(options: EvalOptions, judge: "FileJudge", codec: "AudioCodec") -> "ReportFolder | None":
    """The folder of the report, if one is asked for."""
    from codec.eval.report_folder import ReportFolder
    from codec.model.digest import model_identity

    if options.report is None:
        return None
    how = {"model": model_identity(codec).hex(), "mode": options.mode, "beam": options.beam}
    return ReportFolder(options.report, judge, how, resume=options.resume, overwrite=options.overwrite)


def _find_reference(options: EvalOptions, judge: "FileJudge") -> str | None:
    """The codec that the others are compared with; None if there is one codec only.

    Raises:
        ConfigError: No codec has the name that is given.
    """
    from codec.eval.bd_table import check_reference

    codecs = list(dict.fromkeys(system.codec for system in judge.systems))
    if options.versus is not None:
        check_reference(options.versus, codecs)
    return options.versus or (codecs[1] if len(codecs) > 1 else None)


def _installed_metrics() -> tuple[str, ...]:
    from codec.eval.metrics.metrics import METRICS, available_metrics

    available = available_metrics()
    for name, metric in METRICS.items():
        if name not in available:
            packages = " ".join(metric.packages)
            print(f"codec-eval: without {name}: to have it, run  pip install {packages}", file=sys.stderr)
    return available


def _name_failures(failed: Sequence[str]) -> int:
    """Print what failed; returns the exit code."""
    for failure in failed:
        print(f"codec-eval: {failure}", file=sys.stderr)
    return 1 if failed else 0


def _print(options: EvalOptions, codec: "AudioCodec", evaluation: "Evaluation", rates: list[dict[str, Any]]) -> None:
    """The results on standard output."""
    from codec.eval.report import format_bd_rates, format_evaluation

    num_files = len({row["path"] for row in evaluation.rows})
    print(f"{num_files} files, {evaluation.seconds:.1f} s of audio, {options.mode}\n")
    print(f"{format_evaluation(evaluation, shutil.get_terminal_size((120, 24)).columns)}\n")
    if rates:
        print(f"{format_bd_rates(rates)}\n")
    print(_describe_health(codec, evaluation))


def _emit_all(results: dict[str, Any], options: EvalOptions, emit: Emit) -> None:
    """An object for each row and for each file that could not be read; at the end one for all of them together."""
    for row in results["rows"]:
        emit(row)
    for path, error in results["unread"].items():
        emit({"path": path, "error": error})
    summary = {name: value for name, value in results.items() if name not in ("rows", "unread")}
    emit({"summary": summary, "output": options.output, "plot": options.plot, "report": options.report})


def _describe_health(codec: "AudioCodec", evaluation: "Evaluation") -> str:
    """Usage of every level as a table, and what entropy coding could save."""
    name, health = next(iter(evaluation.health.items()))  # of our model: it comes first
    rows = [["level", "usage", "perplexity", "entropy (bit)"]]
    for level, (entropy, perplexity, usage) in enumerate(zip(*health, strict=True), start=1):
        rows.append([str(level), f"{usage:6.1%}", f"{perplexity:.1f}", f"{entropy:.2f}"])
    lines = [f"Use of the codebooks of {name}", aligned(rows)]
    if evaluation.agreement is not None:
        shares = " ".join(f"{share:.1%}" for share in evaluation.agreement.tolist())
        lines.append(f"codes that are those of float32, by level: {shares}")
    ideal = float(health.entropy.sum()) * codec.frame_rate / 1000
    nominal = len(health.entropy) * codec.bitrate_per_level / 1000
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
    from codec.eval.plotting import write_figure

    write_figure(curve_figure(evaluation, published), path, overwrite=overwrite, dpi=150)


def _summarise_listening(options: EvalOptions, emit: Emit) -> int:
    """Print what the answers of a listening test say."""
    from codec.eval.listening import format_summary, read_answers, summarise

    check_inputs(options.listening)
    summary = summarise(read_answers(options.listening))
    print(format_summary(summary))
    emit(summary._asdict())
    return 0
