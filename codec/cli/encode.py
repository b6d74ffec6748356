"""codec-encode: audio files to codes, or .codec files cut to fewer levels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.command_line import parse
from codec.cli.jobs import Job, Outcome, attempt, leave_done, plan, report, run_jobs
from codec.cli.loading import load_maker, load_model
from codec.cli.options import EncodeOptions
from codec.cli.pipes import piped
from codec.errors import BitstreamError, CodecError, ConfigError

if TYPE_CHECKING:
    from codec.bitstream import Bitstream, Header
    from codec.model.audio_codec import AudioCodec

WINDOW_FILES = 256
"""Batches are formed within windows of this number of files, whose headers are read before the first is encoded."""


def encode(argv: Sequence[str]) -> int:
    """Encode audio files, or cut .codec files."""
    with piped(parse(EncodeOptions, argv, "codec-encode"), "codec") as options:
        return _encode(options)


def _encode(options: EncodeOptions) -> int:
    if options.num_quantizers is not None and options.bitrate is not None:
        raise ConfigError("--num-quantizers and --bitrate say the same: give one of them")
    if _is_corpus(options):
        from codec.cli.corpus import encode_corpus

        return encode_corpus(options)
    inputs = tuple(map(Path, options.inputs))
    if any(path.suffix == ".codec" for path in inputs):
        return _cut(options, inputs)
    from codec.audio.file import READ_SUFFIXES
    from codec.bitstream import SUFFIXES
    from codec.inference.compression import describe_codes
    from codec.model.quantizer.beam import check_beam

    formats = [f".{options.format}"] if options.format else [".codec", *SUFFIXES]
    overwrite, skip = options.overwrite, options.skip_existing
    jobs = plan(inputs, options.output, READ_SUFFIXES, formats, overwrite=overwrite, skip=skip)
    codec = load_model(options)
    levels = codec.num_quantizers_for(options.bitrate) if options.bitrate else options.num_quantizers
    codec.check_num_quantizers(levels)
    check_beam(options.beam)
    if skip:
        model = describe_codes(codec, levels or codec.num_quantizers)
        jobs = leave_done("codec-encode", jobs, lambda job: _is_done(job.target, model))
    return report("codec-encode", jobs, _encode_files(codec, jobs, levels, options))


def _is_corpus(options: EncodeOptions) -> bool:
    """Whether the options are about a corpus: an engine, shards, or an input that only a corpus may have."""
    sources = any("://" in text or text.endswith((".tsv", ".tar", ".parquet")) for text in options.inputs)
    given = options.engine or options.verify or options.resume or options.address or options.workers
    return sources or bool(given) or options.format in ("parquet", "wds")


def _is_done(target: Path, model: "Header") -> bool:
    """Whether a file of codes is complete, of this model and of its levels."""
    from codec.bitstream import read_codes, read_complete_header

    if target.suffix != ".codec":
        return read_codes(target, model).header.num_quantizers == model.num_quantizers
    with target.open("rb") as file:
        header = read_complete_header(file)
    return (header.model_id, header.num_quantizers) == (model.model_id, model.num_quantizers)


def _encode_files(
    codec: "AudioCodec", jobs: Sequence[Job], levels: int | None, options: EncodeOptions
) -> Iterator[tuple[int, Outcome | CodecError]]:
    """Encode files in batches of similar length; a file that no other matches in length is encoded block by block."""
    from codec.inference.batching import plan_batches, read_size

    capacity = max(0, round(options.batch_seconds * codec.sample_rate))
    for start in range(0, len(jobs), WINDOW_FILES):
        window = jobs[start : start + WINDOW_FILES]
        found = {number: attempt(read_size, job.source, codec.sample_rate) for number, job in enumerate(window, start)}
        yield from ((number, size) for number, size in found.items() if isinstance(size, CodecError))
        sizes = {number: size for number, size in found.items() if not isinstance(size, CodecError)}
        numbers = list(sizes)
        for batch in plan_batches(list(sizes.values()), capacity):
            if len(batch) == 1:
                number = numbers[batch[0]]
                yield number, attempt(_encode_file, codec, jobs[number], levels, options)
            else:
                yield from _encode_batch(codec, {numbers[at]: jobs[numbers[at]] for at in batch}, levels, options)


def _encode_batch(
    codec: "AudioCodec", jobs: Mapping[int, Job], levels: int | None, options: EncodeOptions
) -> Iterator[tuple[int, Outcome | CodecError]]:
    from codec.inference.batching import compress_batch, load_recording

    found = {number: attempt(load_recording, job.source, codec.sample_rate) for number, job in jobs.items()}
    yield from ((number, recording) for number, recording in found.items() if isinstance(recording, CodecError))
    recordings = {number: recording for number, recording in found.items() if not isinstance(recording, CodecError)}
    if not recordings:
        return
    compress = partial(compress_batch, num_quantizers=levels, beam=options.beam)
    bitstreams = attempt(compress, codec, list(recordings.values()))
    if isinstance(bitstreams, CodecError):  # of one recording: each by itself shows which
        for number in recordings:
            yield number, attempt(_encode_file, codec, jobs[number], levels, options)
        return
    for number, bitstream in zip(recordings, bitstreams, strict=True):
        yield number, attempt(_write, jobs[number].target, bitstream, options.overwrite)


def _encode_file(codec: "AudioCodec", job: Job, levels: int | None, options: EncodeOptions) -> Outcome:
    from codec.inference.compression import compress_file, compress_source

    beam, overwrite = options.beam, options.overwrite
    if job.target.suffix != ".codec":
        return _write(job.target, compress_source(codec, job.source, num_quantizers=levels, beam=beam), overwrite)
    header = compress_file(codec, job.source, job.target, num_quantizers=levels, beam=beam, overwrite=overwrite)
    return Outcome(_describe_codes(job.target, header))


def _write(target: Path, bitstream: "Bitstream", overwrite: bool) -> Outcome:
    """Write codes in the format of the suffix, complete or not at all."""
    from codec.bitstream import write_codes
    from codec.files import new_file

    if target.suffix == ".codec":
        data = bitstream.to_bytes()
        with new_file(target, overwrite=overwrite) as file:
            file.write(data)
    else:
        write_codes(target, bitstream, overwrite=overwrite)
    return Outcome(_describe_codes(target, bitstream.header))


def _cut(options: EncodeOptions, inputs: Sequence[Path]) -> int:
    """Keep the first levels of .codec files. Packed codes need no model, entropy-coded ones the tables of theirs."""
    levels = options.num_quantizers
    if levels is None or options.format not in (None, "codec"):
        raise ConfigError(
            "a .codec file can only be cut to fewer levels: give --num-quantizers N and no other --format"
        )
    if any(path.suffix != ".codec" for path in inputs):
        raise ConfigError("give audio files or .codec files, not both at once")
    overwrite, skip = options.overwrite, options.skip_existing
    suffixes = [".codec"]
    jobs = plan(inputs, options.output, suffixes, suffixes, mark=f".{levels}", overwrite=overwrite, skip=skip)
    if skip:
        jobs = leave_done("codec-encode", jobs, lambda job: _is_done(job.target, _cut_header(job.source, levels)))
    makers: dict[bytes, AudioCodec] = {}

    def work(job: Job) -> Outcome:
        return _write(job.target, _read(job.source, options.model, makers).keep_quantizers(levels), overwrite)

    return run_jobs("codec-encode", jobs, work)


def _cut_header(source: Path, levels: int) -> "Header":
    return replace(_header(source), num_quantizers=levels)


def _header(source: Path) -> "Header":
    from codec.bitstream import Header

    try:
        with source.open("rb") as file:
            return Header.from_file(file)
    except OSError as error:
        raise BitstreamError(f"can't read {source}: {error.strerror}") from error


def _read(source: Path, model: str | None, makers: dict[bytes, "AudioCodec"]) -> "Bitstream":
    """Read a .codec file; an entropy-coded one with the tables of the model that made it, kept in `makers`."""
    from codec.bitstream import PACKED
    from codec.inference.compression import read_bitstream

    header = _header(source)
    if header.payload_kind == PACKED:
        return read_bitstream(source)
    if header.model_id not in makers:
        makers[header.model_id] = load_maker(header, model)
    return read_bitstream(source, makers[header.model_id])


def _describe_codes(target: Path, header: "Header") -> str:
    file_rate = 8 * target.stat().st_size / header.duration_s
    levels = f"{header.num_quantizers} level{'s' if header.num_quantizers > 1 else ''}"
    return f"{target}  {header.duration_s:.2f} s  {levels}, {file_rate / 1000:.2f} kbit/s"
