"""codec-decode: files of codes to audio files, all of them or a part."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.command_line import parse
from codec.cli.jobs import Job, Outcome, attempt, check_outputs, failure, leave_done, plan, report, run_jobs
from codec.cli.loading import load_model
from codec.cli.options import DecodeOptions
from codec.cli.output import Emit, output
from codec.cli.pipes import piped
from codec.errors import BitstreamError, CodecError, ConfigError, DiskFullError

if TYPE_CHECKING:
    from codec.bitstream import Bitstream, Header
    from codec.model.audio_codec import AudioCodec

SHARD_SUFFIXES = (".parquet", ".tar")


def decode(argv: Sequence[str]) -> int:
    """Decode files of codes to audio files."""
    given = parse(DecodeOptions, argv, "codec-decode")
    with output(given) as emit, piped(given, "wav", emit) as (options, emit):
        return _decode(options, emit)


def _decode(options: DecodeOptions, emit: Emit) -> int:
    from codec.audio.file import WRITE_FORMATS
    from codec.bitstream import SUFFIXES

    inputs = tuple(map(Path, options.inputs))
    if shards := _find_shards(inputs):
        return _decode_shards(shards, options, emit)
    if options.path:
        raise ConfigError("--path names recordings of shards: give .parquet or .tar files, or a folder of them")
    formats = [f".{options.format}"] if options.format else list(WRITE_FORMATS)
    readable, overwrite, skip = [".codec", *SUFFIXES], options.overwrite, options.skip_existing
    jobs = plan(inputs, options.output, readable, formats, mark=".decoded", overwrite=overwrite, skip=skip)
    codec = load_model(options)
    codec.check_num_quantizers(options.num_quantizers)
    if skip:
        jobs = leave_done("codec-decode", jobs, lambda job: _is_done(codec, job, options), emit)
    return run_jobs("codec-decode", jobs, lambda job: _decode_file(codec, job, options), emit)


def _is_done(codec: "AudioCodec", job: Job, options: DecodeOptions) -> bool:
    from codec.bitstream import SUFFIXES, Header, read_codes

    if job.source.suffix in SUFFIXES:
        return _holds(job.target, read_codes(job.source, _describe_model(codec)).header, options)
    with job.source.open("rb") as file:
        return _holds(job.target, Header.from_file(file), options)


def _holds(target: Path, header: "Header", options: DecodeOptions) -> bool:
    """Whether an audio file has the rate, channels and length of the part of the codes that is asked for."""
    from codec.audio.file import read_info

    part = _part(header, options)
    return read_info(target) == (part.sample_rate, part.num_channels, part.num_samples)


def _part(header: "Header", options: DecodeOptions) -> "Header":
    """The header with the number of samples of the part that is asked for."""
    from codec.bitstream.interval import find_samples

    size = {"num_samples": header.num_samples, "sample_rate": header.sample_rate}
    first, stop = find_samples(options.start, options.duration, **size)
    return replace(header, num_samples=stop - first)


def _describe_model(codec: "AudioCodec") -> "Header":
    from codec.inference.compression import describe_codes

    return describe_codes(codec, codec.num_quantizers)


def _decode_file(codec: "AudioCodec", job: Job, options: DecodeOptions) -> Outcome:
    from codec.bitstream import SUFFIXES, count_recordings, describe_lost, read_codes
    from codec.inference.decompression import decompress_file

    if job.source.suffix == ".jsonl" and count_recordings(job.source) > 1:
        return _decode_lines(codec, job, options)
    if job.source.suffix in SUFFIXES:
        return _decode_codes(codec, read_codes(job.source, _describe_model(codec)), job.target, options)
    reader = decompress_file(
        codec,
        job.source,
        job.target,
        num_quantizers=options.num_quantizers,
        start=options.start,
        duration=options.duration,
        salvage=options.salvage,
        overwrite=options.overwrite,
    )
    lost = describe_lost(reader.header, reader.lost) if reader.lost else ""
    header = reader.header.keep_quantizers(options.num_quantizers or reader.header.num_quantizers)
    return _written(job.target, _part(header, options), lost)


def _decode_codes(codec: "AudioCodec", bitstream: "Bitstream", target: Path, options: DecodeOptions) -> Outcome:
    from codec.inference.decompression import decompress_codes

    if options.num_quantizers:
        bitstream = bitstream.keep_quantizers(options.num_quantizers)
    start, duration = options.start, options.duration
    decompress_codes(codec, bitstream, target, start=start, duration=duration, overwrite=options.overwrite)
    return _written(target, _part(bitstream.header, options))


def _decode_lines(codec: "AudioCodec", job: Job, options: DecodeOptions) -> Outcome:
    """Decode a .jsonl file of one recording a line to a file each: lm.jsonl -> lm.decoded.1.wav, lm.decoded.2.wav."""
    from codec.bitstream import read_recordings

    outcomes = []
    for name, found in read_recordings(job.source, _describe_model(codec)):
        target = job.target.with_name(f"{job.target.stem}.{name}{job.target.suffix}")
        outcome = found if isinstance(found, CodecError) else _decode_new(codec, found, target, options)
        if isinstance(outcome, DiskFullError):
            raise outcome
        if isinstance(outcome, CodecError):
            outcome = failure(outcome)
        outcomes.append(outcome._replace(objects=[{"recording": name, **values} for values in outcome.objects]))
    return Outcome(
        "\n".join(outcome.line for outcome in outcomes if outcome.line),
        "; ".join(outcome.lost for outcome in outcomes if outcome.lost),
        [values for outcome in outcomes for values in outcome.objects],
    )


def _decode_new(
    codec: "AudioCodec", bitstream: "Bitstream", target: Path, options: DecodeOptions
) -> Outcome | CodecError:
    """Decode codes in memory, unless the result is there and complete and --skip-existing leaves it alone."""
    if options.skip_existing and target.exists() and attempt(_holds, target, bitstream.header, options) is True:
        return Outcome("", objects=[{"output": target, "skipped": True}])
    return attempt(_decode_codes, codec, bitstream, target, options)


def _find_shards(inputs: Sequence[Path]) -> list[Path]:
    """The shards of a corpus among the inputs: archives and Parquet files, and those of folders.

    Raises:
        ConfigError: Others are among them.
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in inputs:
        inner = [path] if path.suffix in SHARD_SUFFIXES else sorted(path.glob("tokens-*"))
        shards = [file for file in inner if file.suffix in SHARD_SUFFIXES]
        found += shards
        others += [] if shards else [path]
    if found and others:
        raise ConfigError(f"{others[0]} is no shard of a corpus, but {found[0]} is: give them in separate runs")
    return found


def _decode_shards(shards: Sequence[Path], options: DecodeOptions, emit: Emit) -> int:
    """Decode the recordings of shards, or those named by --path, to files below a folder."""
    from codec.audio.file import WRITE_FORMATS
    from codec.corpus.outputs import file_paths, shard_format

    names = {shard: shard_format(shard).read_paths(shard) for shard in shards}
    every = {name for some in names.values() for name in some}
    missing = [name for name in options.path if name not in every]
    if missing:
        raise ConfigError(f"no recording {missing[0]!r} in {shards[0]}{' and the other shards' if shards[1:] else ''}")
    if options.output is None:
        raise ConfigError("shards become a tree of files: name a folder with -o")
    wanted = {shard: [name for name in names[shard] if name in (options.path or every)] for shard in shards}
    order = [name for some in wanted.values() for name in some]
    targets = file_paths(Path(options.output), order, f".{options.format or 'wav'}")
    if len(order) == 1 and Path(options.output).suffix.lower() in WRITE_FORMATS:
        targets = {order[0]: Path(options.output)}
    check_outputs(list(targets.values()), options.overwrite or options.skip_existing)
    codec = load_model(options)
    codec.check_num_quantizers(options.num_quantizers)
    results = _decode_rows(codec, wanted, targets, options)
    return report("codec-decode", [Job(Path(name), targets[name]) for name in order], enumerate(results), emit)


def _decode_rows(
    codec: "AudioCodec", wanted: Mapping[Path, Sequence[str]], targets: Mapping[str, Path], options: DecodeOptions
) -> Iterator[Outcome | CodecError]:
    """Decode recordings in the order of the shards; a damaged shard is an error for each that it still holds."""
    from codec.corpus.outputs import shard_format

    for shard, names in wanted.items():
        num_done = 0
        try:
            for name, bitstream in shard_format(shard).read(shard, set(names)):
                yield _decode_new(codec, bitstream, targets[name], options)
                num_done += 1
        except BitstreamError as error:
            yield from [error] * (len(names) - num_done)


def _written(target: Path, header: "Header", lost: str = "") -> Outcome:
    """What is printed of an audio file."""
    channels = "1 channel" if header.num_channels == 1 else f"{header.num_channels} channels"
    line = f"{target}  {header.duration_s:.2f} s  {header.sample_rate} Hz, {channels}"
    facts = {"output": target, "skipped": False, "num_bytes": target.stat().st_size}
    return Outcome(line, lost, [{**facts, **header.to_json(), "error": lost or None}])
