"""codec-encode: audio files to codes."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.code_file import describe_file, write_file
from codec.cli.command_line import parse
from codec.cli.edit import edit, is_edit
from codec.cli.jobs import Job, Outcome, attempt, leave_done, plan, report
from codec.cli.loading import load_model
from codec.cli.options import EncodeOptions
from codec.cli.output import Emit, output
from codec.cli.pipes import piped
from codec.errors import CodecError, ConfigError

if TYPE_CHECKING:
    from codec.bitstream import Header
    from codec.model.audio_codec import AudioCodec

WINDOW_FILES = 256
"""Batches are formed within windows of this number of files, whose headers are read before the first is encoded."""


def encode(argv: Sequence[str]) -> int:
    """Encode audio files, or cut and join .codec files."""
    given = parse(EncodeOptions, argv, "codec-encode")
    with output(given) as emit, piped(given, "codec", emit) as (options, emit):
        return _encode(options, emit)


def _encode(options: EncodeOptions, emit: Emit) -> int:
    if options.num_quantizers is not None and options.bitrate is not None:
        raise ConfigError("--num-quantizers and --bitrate say the same: give one of them")
    inputs = tuple(map(Path, options.inputs))
    if is_edit(options):
        return edit(options, inputs, emit)
    if _is_corpus(options):
        from codec.cli.corpus import encode_corpus

        return encode_corpus(options, emit)
    if any(path.suffix == ".codec" for path in inputs):
        return edit(options, inputs, emit)
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
        jobs = leave_done("codec-encode", jobs, lambda job: _is_done(job.target, model), emit)
    return report("codec-encode", jobs, _encode_files(codec, jobs, levels, options), emit)


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
        yield number, attempt(write_file, jobs[number].target, bitstream, options.overwrite)


def _encode_file(codec: "AudioCodec", job: Job, levels: int | None, options: EncodeOptions) -> Outcome:
    from codec.inference.compression import compress_file, compress_source

    beam, overwrite = options.beam, options.overwrite
    if job.target.suffix != ".codec":
        return write_file(job.target, compress_source(codec, job.source, num_quantizers=levels, beam=beam), overwrite)
    header = compress_file(codec, job.source, job.target, num_quantizers=levels, beam=beam, overwrite=overwrite)
    return describe_file(job.target, header)
