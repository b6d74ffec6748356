"""codec-decode: files of codes to audio files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.command_line import parse
from codec.cli.jobs import Job, Outcome, attempt, check_outputs, leave_done, plan, report, run_jobs
from codec.cli.loading import load_model
from codec.cli.messages import message
from codec.cli.options import DecodeOptions
from codec.cli.pipes import piped
from codec.errors import BitstreamError, CodecError, ConfigError, DiskFullError

if TYPE_CHECKING:
    from codec.bitstream import Bitstream, Header
    from codec.model.audio_codec import AudioCodec

SHARD_SUFFIXES = (".parquet", ".tar")


def decode(argv: Sequence[str]) -> int:
    """Decode files of codes to audio files."""
    with piped(parse(DecodeOptions, argv, "codec-decode"), "wav") as options:
        return _decode(options)


def _decode(options: DecodeOptions) -> int:
    from codec.audio.file import WRITE_FORMATS
    from codec.bitstream import SUFFIXES

    inputs = tuple(map(Path, options.inputs))
    if shards := _find_shards(inputs):
        return _decode_shards(shards, options)
    if options.path:
        raise ConfigError("--path names recordings of shards: give .parquet or .tar files, or a folder of them")
    formats = [f".{options.format}"] if options.format else list(WRITE_FORMATS)
    readable, overwrite, skip = [".codec", *SUFFIXES], options.overwrite, options.skip_existing
    jobs = plan(inputs, options.output, readable, formats, mark=".decoded", overwrite=overwrite, skip=skip)
    codec = load_model(options)
    codec.check_num_quantizers(options.num_quantizers)
    if skip:
        jobs = leave_done("codec-decode", jobs, lambda job: _is_done(codec, job))
    return run_jobs("codec-decode", jobs, lambda job: _decode_file(codec, job, options))


def _is_done(codec: "AudioCodec", job: Job) -> bool:
    from codec.bitstream import SUFFIXES, Header, read_codes

    if job.source.suffix in SUFFIXES:
        return _holds(job.target, read_codes(job.source, _describe_model(codec)).header)
    with job.source.open("rb") as file:
        return _holds(job.target, Header.from_file(file))


def _holds(target: Path, header: "Header") -> bool:
    """Whether an audio file has the rate, channels and length that the codes say."""
    from codec.audio.file import read_info

    return read_info(target) == (header.sample_rate, header.num_channels, header.num_samples)


def _describe_model(codec: "AudioCodec") -> "Header":
    from codec.inference.compression import describe_codes

    return describe_codes(codec, codec.num_quantizers)


def _decode_file(codec: "AudioCodec", job: Job, options: DecodeOptions) -> Outcome:
    from codec.bitstream import SUFFIXES, count_recordings, describe_lost, read_codes
    from codec.inference.compression import decompress_file, read_bitstream

    if job.source.suffix == ".jsonl" and count_recordings(job.source) > 1:
        return _decode_lines(codec, job, options)
    if job.source.suffix in SUFFIXES:
        return _decode_codes(codec, read_codes(job.source, _describe_model(codec)), job.target, options)
    if options.num_quantizers:
        bitstream = read_bitstream(job.source, codec, salvage=options.salvage)
        return _decode_codes(codec, bitstream, job.target, options)
    reader = decompress_file(codec, job.source, job.target, salvage=options.salvage, overwrite=options.overwrite)
    lost = describe_lost(reader.header, reader.lost) if reader.lost else ""
    return Outcome(_describe_audio(job.target, reader.header), lost)


def _decode_codes(codec: "AudioCodec", bitstream: "Bitstream", target: Path, options: DecodeOptions) -> Outcome:
    from codec.bitstream import describe_lost
    from codec.inference.compression import decompress_codes

    if options.num_quantizers:
        bitstream = bitstream.keep_quantizers(options.num_quantizers)
    decompress_codes(codec, bitstream, target, overwrite=options.overwrite)
    lost = describe_lost(bitstream.header, bitstream.lost) if bitstream.lost else ""
    return Outcome(_describe_audio(target, bitstream.header), lost)


def _decode_lines(codec: "AudioCodec", job: Job, options: DecodeOptions) -> Outcome:
    """Decode a .jsonl file of one recording a line to a file each: lm.jsonl -> lm.decoded.1.wav, lm.decoded.2.wav."""
    from codec.bitstream import read_recordings

    lines, faults = [], []
    for name, found in read_recordings(job.source, _describe_model(codec)):
        target = job.target.with_name(f"{job.target.stem}.{name}{job.target.suffix}")
        if isinstance(found, CodecError):
            faults.append(message(found))
        elif not (options.skip_existing and target.exists() and attempt(_holds, target, found.header) is True):
            outcome = attempt(_decode_codes, codec, found, target, options)
            if isinstance(outcome, DiskFullError):
                raise outcome
            lines += [] if isinstance(outcome, CodecError) else [outcome.line]
            faults += [message(outcome)] if isinstance(outcome, CodecError) else []
    return Outcome("\n".join(lines), "; ".join(faults))


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


def _decode_shards(shards: Sequence[Path], options: DecodeOptions) -> int:
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
    return report("codec-decode", [Job(Path(name), targets[name]) for name in order], enumerate(results))


def _decode_rows(
    codec: "AudioCodec", wanted: Mapping[Path, Sequence[str]], targets: Mapping[str, Path], options: DecodeOptions
) -> Iterator[Outcome | CodecError]:
    """Decode recordings in the order of the shards; a damaged shard is an error for each that it still holds."""
    from codec.corpus.outputs import shard_format

    for shard, names in wanted.items():
        num_done = 0
        try:
            for name, bitstream in shard_format(shard).read(shard, set(names)):
                target = targets[name]
                is_done = (
                    options.skip_existing and target.exists() and attempt(_holds, target, bitstream.header) is True
                )
                yield Outcome("") if is_done else attempt(_decode_codes, codec, bitstream, target, options)
                num_done += 1
        except BitstreamError as error:
            yield from [error] * (len(names) - num_done)


def _describe_audio(target: Path, header: "Header") -> str:
    channels = "1 channel" if header.num_channels == 1 else f"{header.num_channels} channels"
    return f"{target}  {header.duration_s:.2f} s  {header.sample_rate} Hz, {channels}"
