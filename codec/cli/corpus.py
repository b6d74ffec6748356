"""codec-encode on a corpus: recordings to shards, on this machine or on Ray; and verifying them."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from codec.cli.loading import find_device, in_mode, load_original
from codec.cli.options import EncodeOptions
from codec.cli.output import Emit
from codec.errors import ConfigError
from codec.progress import progress_bar

if TYPE_CHECKING:
    from codec.corpus.ledger import Ledger
    from codec.corpus.outputs import Output
    from codec.corpus.run import Engine
    from codec.corpus.sources import Source
    from codec.corpus.tokenizer import Settings
    from codec.model.audio_codec import AudioCodec

SHOWN = 20
"""Bad recordings, or problems, that are printed; of the others there is the number."""


class Done(NamedTuple):
    """What a run did."""

    num_recordings: int
    """Recordings that were encoded now."""
    seconds: float
    """Their audio (s)."""
    elapsed_seconds: float


def encode_corpus(options: EncodeOptions, emit: Emit) -> int:
    """Tokenise a corpus, or verify one; returns the exit code."""
    _check(options)
    from codec.corpus.ledger import Ledger, locked
    from codec.corpus.listing import list_corpus

    folder = options.verify or Path(options.output or "")
    sources = list_corpus(options.inputs) if options.inputs else []
    codec = load_original(options if options.engine != "ray" else replace(options, device="cpu"))
    settings = _settings(codec, options)
    if options.verify:
        return _verify(folder, sources, codec, settings, options, emit)
    with locked(folder):
        facts = _facts(sources, codec, settings, options)
        ledger = Ledger(folder, facts, resume=options.resume)
        output = _output(folder, options.format or "parquet", codec, settings, sources, options.shard_hours)
        with _silent_output(), contextlib.closing(_engine(options)) as engine:
            done = _tokenise(sources, engine, codec, settings, output, ledger)
        bad = ledger.bad()
    print(_describe(done))
    for name, reason in bad.items():
        emit({"path": name, "error": reason})
    emit({"output": folder, "num_failed": len(bad), **done._asdict(), "model": {"identity": facts["model"]}})
    _print_all("codec-encode", [f"{name}: {reason}" for name, reason in bad.items()])
    if bad:
        print(f"codec-encode: {len(bad)} of {len(sources)} recordings failed: {folder / 'bad.jsonl'}", file=sys.stderr)
    return 1 if bad else 0


def _check(options: EncodeOptions) -> None:
    """Raise ConfigError unless the options go together."""
    if options.engine != "ray" and (options.address or options.workers):
        raise ConfigError("--address and --workers are for Ray: give --engine ray")
    if options.overwrite or options.skip_existing:
        raise ConfigError("a corpus is never overwritten: give --resume to go on with it, or another name with -o")
    if options.verify is None and not options.inputs:
        raise ConfigError("nothing to do: give a folder, .tsv, .tar or .parquet, or --help")
    if options.verify is None and options.output in (None, "-"):
        raise ConfigError("a corpus becomes a folder: name it with -o")


def _settings(codec: "AudioCodec", options: EncodeOptions) -> "Settings":
    from codec.corpus.tokenizer import Settings
    from codec.model.quantizer.beam import check_beam

    levels = codec.num_quantizers_for(options.bitrate) if options.bitrate else options.num_quantizers
    codec.check_num_quantizers(levels)
    check_beam(options.beam)
    return Settings(levels or codec.num_quantizers, options.beam, options.mode, options.batch_seconds)


def _facts(
    sources: "list[Source]", codec: "AudioCodec", settings: "Settings", options: EncodeOptions
) -> dict[str, Any]:
    """What must be equal for codes to go together in a folder."""
    from codec.corpus.ledger import corpus_facts
    from codec.model.digest import model_identity

    return {
        **corpus_facts(sources),
        "model": model_identity(codec).hex(),
        "num_quantizers": settings.num_quantizers,
        "beam": settings.beam,
        "mode": settings.mode,
        "format": options.format or "parquet",
    }


def _output(
    folder: Path, form: str, codec: "AudioCodec", settings: "Settings", sources: "list[Source]", shard_hours: float
) -> "Output":
    from codec.corpus.outputs import SHARD_FORMATS, CodeFiles, Shards
    from codec.inference.compression import describe_codes

    model = describe_codes(codec, settings.num_quantizers)
    if form in SHARD_FORMATS:
        return Shards(folder, SHARD_FORMATS[form], model, 3600 * shard_hours)
    return CodeFiles(folder, f".{form}", codec, model, [source.name for source in sources])


def _engine(options: EncodeOptions) -> "Engine":
    if options.engine == "ray":
        from codec.corpus.ray_engine import RayEngine

        return RayEngine(options.address, options.workers, options.device)
    from codec.corpus.run import LocalEngine

    return LocalEngine(find_device(options.device))


def _tokenise(
    sources: "list[Source]",
    engine: "Engine",
    codec: "AudioCodec",
    settings: "Settings",
    output: "Output",
    ledger: "Ledger",
) -> Done:
    """Run with a bar of recordings, hours of audio and speed."""
    from codec.corpus.run import tokenise

    seconds, num_good, start = 0.0, 0, time.monotonic()
    with progress_bar(total=len(sources), desc="codec-encode", unit="file", delay=2, leave=False, hidden=None) as bar:
        reports = tokenise(sources, engine, codec, settings, output, ledger)
        before = next(reports)
        if before.num_good or before.num_bad:
            done = before.num_good + before.num_bad
            print(f"codec-encode: {done} of {len(sources)} recordings are done already", file=sys.stderr)
            bar.update(done)
        for report in reports:
            seconds, num_good = seconds + report.seconds, num_good + report.num_good
            speed = seconds / (time.monotonic() - start)
            bar.set_postfix_str(f"{seconds / 3600:.2f} h of audio, {speed:.0f}x real time", refresh=False)
            bar.update(report.num_good + report.num_bad)
    return Done(num_good, seconds, time.monotonic() - start)


def _describe(done: Done) -> str:
    num_recordings, seconds, elapsed = done
    hours, speed = seconds / 3600, seconds / elapsed
    return f"{num_recordings} recordings, {hours:.2f} h of audio in {elapsed:.0f} s, {speed:.0f}x real time"


@contextlib.contextmanager
def _silent_output() -> Iterator[None]:
    """Keep standard output for results: Ray prints there that a worker has died."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123 - no path
        yield


def _verify(
    folder: Path,
    sources: "list[Source]",
    codec: "AudioCodec",
    settings: "Settings",
    options: EncodeOptions,
    emit: Emit,
) -> int:
    from codec.corpus.ledger import Ledger, corpus_facts, read_facts
    from codec.corpus.outputs import SHARD_FORMATS
    from codec.corpus.tokenizer import Settings
    from codec.corpus.verification import verify
    from codec.model.digest import model_identity

    facts = read_facts(folder)
    if facts is None:
        raise ConfigError(f"{folder} holds no tokenised corpus: it has no corpus.json")
    if not sources and facts["format"] not in SHARD_FORMATS:
        raise ConfigError(f"{folder} holds a file for each recording: give the corpus too, whose names say which")
    expected = {"model": model_identity(codec).hex(), **(corpus_facts(sources) if sources else {})}
    bad = Ledger(folder, expected, resume=True).bad()
    settings = Settings(facts["num_quantizers"], facts["beam"], facts["mode"], settings.batch_seconds)
    output = _output(folder, facts["format"], codec, settings, sources, options.shard_hours)
    fast = in_mode(codec, settings.mode)
    with progress_bar(
        total=facts["recordings"], desc="codec-encode", unit="file", delay=2, leave=False, hidden=None
    ) as bar:
        for found in verify(output, sources, bad, fast, settings):
            bar.update(found.num_rows - bar.n)
    _print_all("codec-encode", found.problems)
    print(
        f"{folder}  {found.num_rows} recordings, {found.seconds / 3600:.2f} h of audio, {len(bad)} known to be bad, "
        f"{found.num_compared} encoded again: {len(found.problems) or 'no'} problems"
    )
    emit({"output": folder, **found._asdict(), "num_failed": len(bad), "model": {"identity": facts["model"]}})
    return 1 if found.problems else 0


def _print_all(prog: str, lines: Iterable[str]) -> None:
    """Print the first lines to standard error, and how many more there are."""
    lines = list(lines)
    for line in lines[:SHOWN]:
        print(f"{prog}: {line}", file=sys.stderr)
    if len(lines) > SHOWN:
        print(f"{prog}: and {len(lines) - SHOWN} more", file=sys.stderr)
