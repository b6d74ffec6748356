"""codec-decode: files of codes to audio files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.command_line import parse
from codec.cli.jobs import Job, Outcome, attempt, leave_done, plan, run_jobs
from codec.cli.loading import load_model
from codec.cli.messages import message
from codec.cli.options import DecodeOptions
from codec.cli.pipes import piped
from codec.errors import CodecError, DiskFullError

if TYPE_CHECKING:
    from codec.bitstream import Bitstream, Header
    from codec.model.codec import Codec


def decode(argv: Sequence[str]) -> int:
    """Decode files of codes to audio files."""
    with piped(parse(DecodeOptions, argv, "codec-decode"), "wav") as options:
        return _decode(options)


def _decode(options: DecodeOptions) -> int:
    from codec.audio.file import WRITE_FORMATS
    from codec.bitstream import SUFFIXES

    formats = [f".{options.format}"] if options.format else list(WRITE_FORMATS)
    readable, overwrite, skip = [".codec", *SUFFIXES], options.overwrite, options.skip_existing
    jobs = plan(options.inputs, options.output, readable, formats, mark=".decoded", overwrite=overwrite, skip=skip)
    codec = load_model(options)
    codec.check_num_quantizers(options.num_quantizers)
    if skip:
        jobs = leave_done("codec-decode", jobs, lambda job: _is_done(codec, job))
    return run_jobs("codec-decode", jobs, lambda job: _decode_file(codec, job, options))


def _is_done(codec: "Codec", job: Job) -> bool:
    from codec.bitstream import SUFFIXES, Header, read_codes

    if job.source.suffix in SUFFIXES:
        return _holds(job.target, read_codes(job.source, _describe_model(codec)).header)
    with job.source.open("rb") as file:
        return _holds(job.target, Header.from_file(file))


def _holds(target: Path, header: "Header") -> bool:
    """Whether an audio file has the rate, channels and length that the codes say."""
    from codec.audio.file import read_info

    return read_info(target) == (header.sample_rate, header.num_channels, header.num_samples)


def _describe_model(codec: "Codec") -> "Header":
    from codec.inference.compression import describe_codes

    return describe_codes(codec, codec.quantizer.num_quantizers)


def _decode_file(codec: "Codec", job: Job, options: DecodeOptions) -> Outcome:
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


def _decode_codes(codec: "Codec", bitstream: "Bitstream", target: Path, options: DecodeOptions) -> Outcome:
    from codec.bitstream import describe_lost
    from codec.inference.compression import decompress_codes

    if options.num_quantizers:
        bitstream = bitstream.keep_quantizers(options.num_quantizers)
    decompress_codes(codec, bitstream, target, overwrite=options.overwrite)
    lost = describe_lost(bitstream.header, bitstream.lost) if bitstream.lost else ""
    return Outcome(_describe_audio(target, bitstream.header), lost)


def _decode_lines(codec: "Codec", job: Job, options: DecodeOptions) -> Outcome:
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


def _describe_audio(target: Path, header: "Header") -> str:
    channels = "1 channel" if header.num_channels == 1 else f"{header.num_channels} channels"
    return f"{target}  {header.duration_s:.2f} s  {header.sample_rate} Hz, {channels}"
